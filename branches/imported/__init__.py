"""Weights and masks from files: how they are read, and the runs that hold them."""
