"""Datasets of a user's own: arrays, folders of images, files with labels."""
