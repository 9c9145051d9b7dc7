"""Figures of finished runs, one kind a file, in one style."""
