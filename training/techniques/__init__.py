"""Techniques, one file each. Importing them imports no torch."""
