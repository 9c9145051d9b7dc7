"""The branches of a training, a file each."""
