from pathlib import Path

import numpy as np

from datasets.sources.digits import DIGITS
from tests.datasets.published_files import source_files


def test_digits_are_the_published_scans(tmp_path: Path) -> None:
    splits = {split: found.arrays() for split, found in DIGITS.read(source_files(tmp_path)).items()}

    assert splits["train"]["images"].shape == (1437, 1, 8, 8)
    assert splits["test"]["images"].shape == (360, 1, 8, 8)
    counts = np.bincount(np.concatenate([splits["train"]["labels"], splits["test"]["labels"]]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert set(np.unique(splits["train"]["images"])) == {round(255 * level / 16) for level in range(17)}
