"""Street View House Numbers, format 2 (cropped digits): MATLAB files with X uint8 (32, 32, 3, N) and y (N, 1).

Digit 0 has label 10 in them.
"""

from __future__ import annotations

import numpy as np

from datasets.matlab import read_mat
from datasets.published import Download, Published, Split, damaged

_URL = "http://ufldl.stanford.edu/housenumbers/"
_TRAIN = Download("train_32x32.mat", (_URL + "train_32x32.mat",), "e26dedcc434d2e4c54c9b2d4a06d8373")
_TEST = Download("test_32x32.mat", (_URL + "test_32x32.mat",), "eb5a983be6a315427106f1b164d9cef3")
_EXTRA = Download("extra_32x32.mat", (_URL + "extra_32x32.mat",), "a93ce644f1a588dc4d68dda5feec44a7")


def read(published: Published) -> dict[str, Split]:
    """Return the training and the test set."""
    return {"train": _split(published, _TRAIN), "test": _split(published, _TEST)}


def read_with_extra(published: Published) -> dict[str, Split]:
    """Return the training set followed by the extra one, and the test set."""
    return {"train": _split(published, _TRAIN, _EXTRA), "test": _split(published, _TEST)}


def _split(published: Published, *downloads: Download) -> Split:
    images, labels = [], []
    for download in downloads:
        path = published.need(download=download)
        variables = read_mat(path)
        x, y = (np.asarray(variables.get(name, [])) for name in ("X", "y"))
        if x.dtype != np.uint8 or x.ndim != 4 or x.shape[:3] != (32, 32, 3):
            raise damaged(path, "holds no images X (32, 32, 3, N)")
        if y.size != x.shape[3]:
            raise damaged(path, "has not one label y for each image")
        images.append(x.transpose(3, 2, 0, 1))
        labels.append(y.reshape(-1).astype(np.int64) % 10)
    digits = tuple(map(str, range(10)))
    names = " and ".join(download.path for download in downloads)
    return Split(np.concatenate(images), np.concatenate(labels), digits, f"SVHN, published {names}")
