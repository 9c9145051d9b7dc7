"""Street View House Numbers, format 2 (cropped digits): MATLAB files with X uint8 (32, 32, 3, N) and y (N, 1).

Digit 0 has label 10 in them. `svhn_extra` has the extra images after the training images.
"""

from __future__ import annotations

from dataclasses import replace

from datasets.augmentations.none import NONE
from datasets.formats.source_files import Download, SourceFiles, Split, damaged
from datasets.spec import DatasetSpec

_URL = "http://ufldl.stanford.edu/housenumbers/"
_TRAIN = Download("train_32x32.mat", (_URL + "train_32x32.mat",), "e26dedcc434d2e4c54c9b2d4a06d8373")
_TEST = Download("test_32x32.mat", (_URL + "test_32x32.mat",), "eb5a983be6a315427106f1b164d9cef3")
_EXTRA = Download("extra_32x32.mat", (_URL + "extra_32x32.mat",), "a93ce644f1a588dc4d68dda5feec44a7")


def read(files: SourceFiles, *extra: Download) -> dict[str, Split]:
    """Return the training set, followed by extra images, and the test set."""
    return {"train": _split(files, _TRAIN, *extra), "test": _split(files, _TEST)}


def _split(files: SourceFiles, *downloads: Download) -> Split:
    import numpy as np

    from datasets.formats.matlab import parse_mat

    images, labels = [], []
    for download in downloads:
        path = files.need(download=download)
        variables = parse_mat(path.read_bytes(), str(path))
        x, y = (np.asarray(variables.get(name, [])) for name in ("X", "y"))
        if x.dtype != np.uint8 or x.ndim != 4 or x.shape[:3] != (32, 32, 3):
            raise damaged(path, "it holds no images X (32, 32, 3, N)")
        if y.size != x.shape[3]:
            raise damaged(path, "it does not hold one label y for each image")
        images.append(x.transpose(3, 2, 0, 1))
        labels.append(y.reshape(-1).astype(np.int64) % 10)
    names = " and ".join(download.path for download in downloads)
    return Split(np.concatenate(images), np.concatenate(labels), tuple("0123456789"), f"SVHN, published {names}")


SVHN = DatasetSpec(
    spelling="svhn",
    num_train=73_257,
    num_test=26_032,
    num_classes=10,
    input_shape=(3, 32, 32),
    mean=(0.4377, 0.4438, 0.4728),
    std=(0.1980, 0.2010, 0.1970),
    augmentation=NONE,
    read=read,
    origin="Street View House Numbers, cropped digits (Netzer et al.)",
)
SVHN_EXTRA = replace(
    SVHN,
    spelling="svhn_extra",
    num_train=604_388,
    read=lambda files: read(files, _EXTRA),
    origin="svhn with its 531,131 extra training images",
)
