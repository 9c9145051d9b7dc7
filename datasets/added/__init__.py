"""Datasets that users add: arrays, folders of images, files with labels."""
