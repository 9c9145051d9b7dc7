"""Augmentations of training images, one a file."""
