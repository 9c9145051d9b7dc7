"""Benchmarks: ratios within one run, medians over repeats."""
