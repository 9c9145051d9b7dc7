"""Runs that leave the root: shared files, folders for model hubs, and crates; and shared files that arrive."""
