"""Arrays of numbers that users add: vectors and series, with classes, labels or real targets; images with targets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.prepared import load_tensors
from datasets.registry import DATASETS
from foundations.errors import UsageError
from tests.datasets.loading import add

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(3, 2, (40, 5))
SERIES = RANDOM.normal(0, 1, (40, 2, 9)).astype(np.float32)
CLASSES = np.arange(40) % 4
REAL = X[:, 0] * 2 + 0.25
LABELS = (RANDOM.random((40, 3)) < 0.6).astype(np.int64)
IMAGES = RANDOM.integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("arrays", "options", "expected"),
    [
        ({"x": X, "y": CLASSES}, {}, ("classification", "vectors", (5,), 4, 0)),
        ({"x": X, "y": REAL}, {}, ("regression", "vectors", (5,), 0, 1)),
        ({"x": X, "y": X[:, :2]}, {}, ("regression", "vectors", (5,), 0, 2)),
        ({"features": X.astype(np.int16), "targets": LABELS}, {}, ("multi_label", "vectors", (5,), 0, 3)),
        ({"x": SERIES, "y": CLASSES}, {}, ("classification", "series", (2, 9), 4, 0)),
        ({"series": SERIES, "labels": REAL}, {}, ("regression", "series", (2, 9), 0, 1)),
        ({"x": X, "y": CLASSES * 1.0}, {"task": "regression"}, ("regression", "vectors", (5,), 0, 1)),
        ({"images": IMAGES, "targets": REAL}, {}, ("regression", "images", (3, 6, 6), 0, 1)),
        ({"images": IMAGES, "labels": LABELS}, {"task": "multi_label"}, ("multi_label", "images", (3, 6, 6), 0, 3)),
    ],
)
@pytest.mark.parametrize("with_test", [False, True])
def test_arrays_become_the_inputs_and_targets_that_they_are(
    tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], expected: tuple[Any, ...], with_test: bool
) -> None:
    parts = {f"{s}_{name}": a for s in ("train", "test") for name, a in arrays.items()} if with_test else arrays
    np.savez(tmp_path / "a.npz", **parts)

    add(tmp_path, tmp_path / "a.npz", **options)

    spec = DATASETS.find("mine")
    assert (spec.task.spelling, spec.inputs, spec.input_shape, spec.num_classes, spec.num_outputs) == expected
    assert (spec.num_train, spec.num_test) == ((40, 40) if with_test else (36, 4))
    tensors = load_tensors("mine", "train", tmp_path / "datasets")
    if with_test:
        given = np.asarray(arrays[next(iter(arrays))])
        found = tensors["images" if spec.inputs == "images" else "inputs"].numpy()
        np.testing.assert_allclose(found, given.transpose(0, 3, 1, 2) if spec.inputs == "images" else given, rtol=1e-6)
    if spec.inputs != "images":
        inputs = tensors["inputs"].numpy().astype(np.float64)
        axes = (0, *range(2, inputs.ndim))
        assert spec.mean == pytest.approx(inputs.mean(axes)) and spec.std == pytest.approx(inputs.std(axes))


def test_pairs_of_npy_files_are_read_without_loading_them_whole(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "X.npy", X)
    np.save(tmp_path / "in" / "y.npy", REAL)

    lines = add(tmp_path, tmp_path / "in")

    assert lines[-1] == "added mine: 36 training and 4 test examples of 5 features, 1 target"


def test_a_feature_that_never_changes_is_not_scaled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.stack([np.full(40, 7.1), np.arange(40)], 1), y=CLASSES)

    add(tmp_path, tmp_path / "a.npz")

    assert DATASETS.find("mine").std[0] == 1


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"x": np.where(X > 6, np.nan, X), "y": CLASSES}, {}, r"a.npz: x, row \d+ .from 0.: it holds NaN"),
        ({"x": X * 1e300, "y": CLASSES}, {}, "row 0 .from 0.: it holds NaN, or a number that is not finite"),
        ({"x": X, "y": np.where(CLASSES > 2, np.inf, REAL)}, {}, "a.npz: y, row 3 "),
        ({"x": X, "y": CLASSES * 1.0}, {}, r"labels.astype\('int64'\).*--task=regression"),
        ({"x": X, "y": np.eye(4, dtype=int)[CLASSES]}, {}, r"labels.argmax\(1\).*--task=multi_label"),
        ({"x": X, "y": REAL[:7]}, {}, r"a.npz: y are float64 \(7,\); they must be numbers or texts \(40,\)"),
        ({"x": X[:, :0], "y": REAL}, {}, "there are no numbers"),
        ({"x": X[:1], "y": REAL[:1]}, {}, "holds 1 example; training and testing need one each"),
        (
            {"train_x": X, "train_y": REAL, "test_x": X[:, :3], "test_y": REAL},
            {},
            "training and test inputs differ in shape",
        ),
        ({"x": X, "y": REAL}, {"image_size": 8}, "^image_size: it has no meaning for arrays of numbers"),
        ({"x": X, "y": REAL}, {"task": "language_modelling"}, "^task: 'language_modelling' is not a task of"),
        ({"x": X, "y": REAL}, {"target": "y"}, "^target: it has no meaning for arrays"),
        ({"x": X.astype(complex), "y": REAL}, {}, "complex128"),
    ],
)
def test_arrays_that_are_not_clear_are_refused_in_a_sentence(
    tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)

    with pytest.raises(UsageError) as error:
        add(tmp_path, tmp_path / "a.npz", **options)

    assert re.search(message, str(error.value)), str(error.value)
    assert "\n" not in str(error.value) and not list(tmp_path.rglob("*.safetensors"))
