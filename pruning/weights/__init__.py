"""The weights of a network by name: which can be pruned, which are left out, how many there are."""
