"""Techniques and masks in the loops of transformers, Lightning and accelerate, one a file."""
