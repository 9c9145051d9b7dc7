"""Scores of weights: the network that is scored, its outputs, the sums over examples."""
