"""Runs as rows: read, indexed, selected."""
