"""How the number of kept weights falls over the iterations, one way a file. Importing them imports no torch."""
