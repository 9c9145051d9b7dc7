"""How a number of kept weights is spread over the layers, one way a file. Importing them imports no torch."""
