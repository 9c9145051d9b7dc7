"""Remotes: storage elsewhere that complete runs are pushed to and pulled from."""
