"""Benchmarks: ratios measured in one run, medians over repeats."""
