from pathlib import Path

import numpy as np

from datasets.formats.matlab import parse_mat
from tests.datasets import published_files as made


def test_matlab_matrices_are_read_compressed_or_not_and_of_any_number(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "bcd": np.linspace(0, 1, 4).reshape(4, 1)}
    for compressed in (True, False):
        made.write_mat(tmp_path / "file.mat", arrays, compressed)

        content = parse_mat((tmp_path / "file.mat").read_bytes(), "file.mat")

        assert list(content) == ["a", "bcd"]
        for name, array in arrays.items():
            np.testing.assert_array_equal(content[name], array)


def test_matlab_structures_and_texts_are_read(tmp_path: Path) -> None:
    rows = [{"ILSVRC2012_ID": 7, "WNID": "n01440764"}, {"ILSVRC2012_ID": 12, "WNID": "n02"}]
    made.write_mat(tmp_path / "meta.mat", {"synsets": rows})

    synsets = parse_mat((tmp_path / "meta.mat").read_bytes(), "meta.mat")["synsets"]

    assert [synset["WNID"] for synset in synsets] == ["n01440764", "n02"]
    assert [int(synset["ILSVRC2012_ID"].item()) for synset in synsets] == [7, 12]
