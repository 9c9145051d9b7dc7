"""The published files of datasets: downloads, archives, folders of images, binary formats."""
