"""Figures of finished runs in one style, one kind per file."""
