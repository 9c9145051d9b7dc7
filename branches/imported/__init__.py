"""Weights and masks from files: their readers, and the runs that hold them."""
