"""Batches of prepared datasets, from memory or streamed."""
