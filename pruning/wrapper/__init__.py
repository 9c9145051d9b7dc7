"""`PruningWrapper`, its arguments and its state."""
