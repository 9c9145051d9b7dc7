"""Faster ways to compute the scores of single methods."""
