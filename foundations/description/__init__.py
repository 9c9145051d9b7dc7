"""Descriptions of runs and their addresses: hyperparameters, steps, canonical JSON."""
