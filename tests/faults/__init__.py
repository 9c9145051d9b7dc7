"""Faults put into whole commands, and what must hold after each: nothing wrong counts as complete, all goes on."""
