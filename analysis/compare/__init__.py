"""Comparison of runs: their differences, and the lines and points that tables, figures and reports draw."""
