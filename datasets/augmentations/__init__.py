"""How training images vary from epoch to epoch: one augmentation a file."""
