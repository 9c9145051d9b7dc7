"""Where curves of runs go besides `metrics.csv`: a file for each logger."""
