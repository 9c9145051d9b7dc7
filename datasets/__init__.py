"""Datasets by name: a registry, prepared files, and batches made on the device."""
