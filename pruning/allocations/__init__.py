"""Allocations of the kept weights to the layers, one a file. Importing them imports no torch."""
