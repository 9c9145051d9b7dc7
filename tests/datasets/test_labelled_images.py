"""Images that users add with their targets in a table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datasets.prepared import load_tensors, read_header, split_path
from datasets.registry import DATASETS
from foundations.errors import UsageError
from tests.datasets.loading import add
from tests.datasets.made_tables import write_csv


def write_images(folder: Path, count: int, size: int = 8) -> list[np.ndarray[Any, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        found.append(pixels.transpose(2, 0, 1))
    return found


@pytest.mark.parametrize("named", ["images/{}.png", "{}.png"])
def test_several_labels_of_images_are_columns_or_words_of_a_table(tmp_path: Path, named: str) -> None:
    images = write_images(tmp_path / "in" / "images", 20)
    rows = [[named.format(n), str(n % 2), str(n // 2 % 2), "red|old" if n % 2 else "red"] for n in range(20)]
    write_csv(tmp_path / "in" / "labels.csv", rows, "file,smiling,glasses,tags\n")

    lines = add(tmp_path, tmp_path / "in", target="smiling,glasses")
    add(tmp_path, tmp_path / "in", "words", target="tags", task="multi_label")

    spec, found = DATASETS.find("mine"), load_tensors("mine", "train", tmp_path / "datasets")
    assert (spec.task.spelling, spec.inputs, spec.num_outputs, spec.num_train) == ("multi_label", "images", 2, 18)
    for image, target in zip(found["images"].numpy(), found["targets"].tolist(), strict=True):
        number = next(n for n in range(20) if (images[n] == image).all())
        assert target == [number % 2, number // 2 % 2]
    names = [
        read_header(split_path(n, "train", tmp_path / "datasets")).metadata["class_names"] for n in ("mine", "words")
    ]
    assert names == ["smiling,glasses", "old,red"]
    assert "not read: tags" in lines


def test_classes_and_real_targets_of_images_can_be_in_tables_of_both_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "images", 20)
    for split, numbers in (("train", range(14)), ("test", range(14, 20))):
        rows = [[f"{n}.png", f"{n + 0.5}", "ab"[n % 2]] for n in numbers]
        write_csv(tmp_path / "in" / f"{split}.csv", rows, "name,age,kind\n")

    add(tmp_path, tmp_path / "in", "ages", target="age")
    add(tmp_path, tmp_path / "in", "kinds", target="kind", image_size=6)

    ages, kinds = DATASETS.find("ages"), DATASETS.find("kinds")
    assert (ages.task.spelling, ages.num_train, ages.num_test) == ("regression", 14, 6)
    assert (kinds.task.spelling, kinds.num_classes, kinds.input_shape) == ("classification", 2, (3, 6, 6))


def test_tables_that_do_not_fit_their_images_are_refused_with_the_row(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 10)
    Image.fromarray(np.zeros((5, 9, 3), np.uint8)).save(tmp_path / "in" / "wide.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "secret.png").write_bytes((tmp_path / "in" / "0.png").read_bytes())
    good = [[f"{n}.png", "ab"[n % 2]] for n in range(10)]
    cases: list[tuple[list[list[str]], dict[str, Any], str]] = [
        ([*good, ["x.png", "a"]], {}, "labels.csv, row 12: there is no image 'x.png' in"),
        ([*good, ["broken.png", "a"]], {}, "labels.csv, row 12: .*broken.png"),
        (
            [*good, ["wide.png", "a"]],
            {},
            r"^image_size: it is needed, .*row 2 has \(8, 8\) and row 12 \(5, 9\)|row 12 has",
        ),
        ([*good, ["../secret.png", "a"]], {}, "row 12: there is no image"),
        ([*good, ["0.png", ""]], {}, "labels.csv, row 12, column 'y': the target is missing"),
        (good, {"target": "z"}, "^target: 'z' is not a column"),
        (good, {"stream": True}, "^stream: "),
    ]

    for rows, options, message in cases:
        write_csv(tmp_path / "in" / "labels.csv", rows, "file,y\n")
        with pytest.raises(UsageError) as error:
            add(
                tmp_path,
                tmp_path / "in",
                **{"target": "y", **{k: v for k, v in options.items() if k != "stream"}},
                in_memory="stream" not in options,
            )
        assert re.search(message, str(error.value)), f"{message}: {error.value}"
    assert not list(tmp_path.rglob("*.safetensors"))


def test_images_in_a_parquet_file_are_read_from_any_folder(tmp_path: Path) -> None:
    images = write_images(tmp_path / "in" / "images", 20)
    encoded = [(tmp_path / "in" / "images" / f"{n}.png").read_bytes() for n in range(20)]
    for name, column in {"plain": encoded, "hub": [{"bytes": each, "path": None} for each in encoded]}.items():
        path = tmp_path / "in" / f"{name}.parquet"
        pq.write_table(pa.table({"image": column, "label": ["a", "b"] * 10}), path)
        add(tmp_path, path, name, target="label")

        found = load_tensors(name, "train", tmp_path / "datasets")["images"].numpy()
        assert len(found) == 18 and all(any((each == image).all() for each in images) for image in found)


def test_bytes_that_are_no_images_are_named_with_their_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"blob": [b"\xff\x00"] * 20, "y": ["a", "b"] * 10}), tmp_path / "a.parquet")

    with pytest.raises(UsageError, match=r"a\.parquet, row 1: the image"):
        add(tmp_path, tmp_path / "a.parquet", target="y")
