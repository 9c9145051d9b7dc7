"""Structures: in which groups a mask keeps weights, and how many of each."""
