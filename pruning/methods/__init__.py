"""Pruning methods, one a file: its declaration and its score. Importing them imports no torch."""
