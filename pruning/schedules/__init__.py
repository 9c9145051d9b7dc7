"""Schedules of the number of kept weights over the iterations, one a file. Importing them imports no torch."""
