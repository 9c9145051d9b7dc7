"""Executors: what takes many commands and runs several of them at once."""
