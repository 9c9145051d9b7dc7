"""Executors, which take many commands and run several at once."""
