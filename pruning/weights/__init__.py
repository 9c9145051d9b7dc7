"""The weights of a network by name: prunable ones, excluded ones, and their numbers."""
