"""Networks by name: a registry of families, one file for each kind, and the initializers that they share."""
