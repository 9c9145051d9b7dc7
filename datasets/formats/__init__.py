"""The published files of datasets: downloads, archives, images, binary formats."""
