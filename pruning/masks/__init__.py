"""Masks: selecting them from scores, keeping them on a network, packing them in files, comparing them."""
