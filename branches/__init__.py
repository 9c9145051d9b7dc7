"""Branches: take a state of a parent run, compute a mask, retrain."""
