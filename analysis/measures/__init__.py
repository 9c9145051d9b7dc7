"""Measures of finished runs, one a file, and the results that are kept of them."""
