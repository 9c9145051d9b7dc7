"""Loggers, one a file: they copy the curves of runs to where people watch them."""
