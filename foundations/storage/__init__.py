"""Runs on disk: their files, manifests, locks and upkeep."""
