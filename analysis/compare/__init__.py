"""Comparison of runs: their differences, replicates, means and spreads."""
