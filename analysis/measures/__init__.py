"""Measures of finished runs, one per file, and their stored results."""
