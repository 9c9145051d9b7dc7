"""Runs side by side: what tells them apart, which are replicates of each other, their means."""
