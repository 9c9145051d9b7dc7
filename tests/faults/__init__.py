"""Faults injected into whole commands, and checks after each: no damaged run counts as complete, all jobs resume."""
