"""Progress of runs, and estimates of the time left."""
