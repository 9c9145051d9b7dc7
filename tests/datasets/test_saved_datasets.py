"""Datasets that Hugging Face's `datasets` has saved on disk, read by pyarrow alone."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from datasets.prepared import load_tensors, read_header, split_path
from datasets.registry import DATASETS
from foundations.errors import UsageError
from tests.datasets.loading import add
from tests.datasets.made_tables import save_hf, save_hf_splits

NAMES = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}


def reviews(count: int, start: int = 0) -> pa.Table:
    numbers = range(start, start + count)
    labels = pa.array([n % 2 for n in numbers], pa.int64())
    return pa.table({"text": [f"film {n} is {'good' if n % 2 else 'bad'}" for n in numbers], "label": labels})


def test_texts_with_named_classes_are_classified_without_a_flag(tmp_path: Path) -> None:
    saved = {"train": reviews(30), "test": reviews(10), "unsupervised": reviews(5)}
    save_hf_splits(tmp_path / "imdb", saved, NAMES)

    lines = add(tmp_path, tmp_path / "imdb", from_hf="imdb")

    spec = DATASETS.find("mine")
    assert (spec.task.spelling, spec.num_train, spec.num_test) == ("sequence_classification", 30, 10)
    assert read_header(split_path("mine", "train", tmp_path / "datasets")).metadata["class_names"] == "neg,pos"
    assert load_tensors("mine", "train", tmp_path / "datasets")["labels"].tolist() == [n % 2 for n in range(30)]
    assert f"not read: {tmp_path / 'imdb' / 'unsupervised'}" in lines


def test_texts_are_modelled_if_asked_and_a_split_of_several_files_is_read_in_order(tmp_path: Path) -> None:
    save_hf(tmp_path / "d", reviews(40), NAMES, files=3)

    add(tmp_path, tmp_path / "d", from_hf="d", task="language_modelling")

    found = load_tensors("mine", "train", tmp_path / "datasets")
    assert DATASETS.find("mine").task.spelling == "language_modelling"
    assert found["tokens"].numpy().tobytes().startswith(b"film 0 is bad")


def test_columns_of_numbers_vectors_series_and_images_are_inputs(tmp_path: Path) -> None:
    random, y = np.random.default_rng(0), pa.array([n % 3 + 0.5 for n in range(30)])
    pixels = random.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    blobs = []
    for image in pixels:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        blobs.append({"bytes": stream.getvalue(), "path": None})
    vectors = random.normal(size=(30, 4)).astype(np.float32)
    tables = {
        "numbers": ({"a": pa.array(range(30)), "b": pa.array([n / 7 for n in range(30)])}, "vectors", (2,)),
        "vectors": ({"x": pa.array(list(vectors))}, "vectors", (4,)),
        "series": ({"x": pa.array(random.normal(size=(30, 2, 6)).tolist())}, "series", (2, 6)),
        "images": ({"image": pa.array(blobs)}, "images", (3, 8, 8)),
    }
    for name, (columns, inputs, shape) in tables.items():
        save_hf(tmp_path / name, pa.table({**columns, "y": y}))

        add(tmp_path, tmp_path / name, name, from_hf=name, target="y")

        spec = DATASETS.find(name)
        assert (spec.task.spelling, spec.inputs, spec.input_shape) == ("regression", inputs, shape)
    first = load_tensors("images", "train", tmp_path / "datasets")["images"].numpy()[0]
    assert any((first == image.transpose(2, 0, 1)).all() for image in pixels)


def test_saved_datasets_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    def saved(name: str) -> Path:
        return save_hf(tmp_path / name, reviews(20), NAMES)

    (tmp_path / "nothing").mkdir()
    (saved("gone") / "data-00000-of-00001.arrow").unlink()
    cut = saved("cut") / "data-00000-of-00001.arrow"
    cut.write_bytes(cut.read_bytes()[:900])
    (saved("json") / "state.json").write_text("{")
    (saved("files") / "state.json").write_text("{}")
    ragged = pa.table({"x": pa.array([[1.0, 2.0]] * 9 + [[1.0]] + [[1.0, 2.0]] * 9), "y": pa.array([0.5] * 19)})
    save_hf(tmp_path / "ragged", ragged)
    unlabelled = reviews(20).set_column(1, "label", pa.array([0, -1] * 10, pa.int64()))
    save_hf(tmp_path / "unlabelled", unlabelled, NAMES)
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("nothing", {}, "holds neither dataset_dict.json nor state.json"),
        ("gone", {}, "data-00000-of-00001.arrow is missing: the saved dataset is not whole"),
        ("cut", {}, "is not a whole Arrow file"),
        ("json", {}, "state.json is not JSON"),
        ("files", {}, "lists no Arrow files"),
        ("ragged", {"target": "y"}, r"row 10: column 'x' holds an array of shape \(1,\), unlike \(2,\) in row 1"),
        ("unlabelled", {}, "row 2, column 'label': the target is missing"),
    ]

    for name, options, message in cases:
        with pytest.raises(UsageError) as error:
            add(tmp_path, tmp_path / name, from_hf=name, **options)
        assert re.search(message, str(error.value)), f"{name}: {error.value}"
        assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_saved_dataset_given_as_a_path_is_answered_with_the_flag(tmp_path: Path) -> None:
    save_hf(tmp_path / "d", reviews(20), NAMES)

    with pytest.raises(UsageError, match="--from_hf"):
        add(tmp_path, tmp_path / "d")
