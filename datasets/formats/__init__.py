"""The files that datasets are published as: downloads, archives, images, binary formats."""
