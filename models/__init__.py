"""Networks by name: a registry of families, one file for each, and the initializers they share."""
