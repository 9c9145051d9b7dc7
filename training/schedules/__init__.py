"""Schedules of the learning rate, one a file. Importing them imports no torch."""
