"""The text, the tables and modular arithmetic that come with open_prune."""

from __future__ import annotations

import lzma
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.hparams import DatasetHparams
from datasets.loading.loader import open_loader
from datasets.prepared import ensure_prepared, fingerprint, load_tensors
from datasets.registry import DATASETS
from datasets.sources import kjv
from foundations.errors import UsageError


def hparams(name: str, **values: Any) -> DatasetHparams:
    chosen = {"dataset_name": name, "batch_size": 64, **values}
    return DatasetHparams.group_for(chosen)(**chosen)


def prepared(folder: Path, name: str) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    ensure_prepared(name, folder, allow_download=False, report=lambda _: None)
    return {s: {k: t.numpy() for k, t in load_tensors(name, s, folder).items()} for s in ("train", "test")}


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "kjv", "modular_arithmetic"])
def test_shipped_datasets_need_no_download(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("a download"))
    described = hparams(name)
    ensure_prepared(described.spec.spelling, tmp_path, allow_download=True, report=lambda _: None)

    inputs, targets = next(open_loader(described, tmp_path).train_batches(0))

    assert tuple(inputs.shape) == (64, *described.input_shape) and len(targets) == 64
    described.spec.check_declared()


@pytest.mark.parametrize(("name", "targets"), [("breast_cancer", "labels"), ("diabetes", "targets")])
def test_shipped_tables_are_scikit_learns_with_the_statistics_of_their_training_set(
    tmp_path: Path, name: str, targets: str
) -> None:
    sets = pytest.importorskip("sklearn.datasets")
    published = sets.load_breast_cancer() if name == "breast_cancer" else sets.load_diabetes(scaled=False)
    found, spec = prepared(tmp_path, name), DATASETS.find(name)

    order = np.random.RandomState(0).permutation(len(published.target))
    both = {key: np.concatenate([found["train"][key], found["test"][key]]) for key in ("inputs", targets)}
    np.testing.assert_array_equal(both["inputs"], published.data[order].astype(np.float32))
    np.testing.assert_array_equal(both[targets].ravel(), published.target[order])
    train = found["train"]["inputs"].astype(np.float64)
    assert spec.mean == pytest.approx(train.mean(0)) and spec.std == pytest.approx(train.std(0))


def test_the_shipped_text_is_nine_books_of_which_two_are_for_testing(tmp_path: Path) -> None:
    found, spec = prepared(tmp_path, "kjv"), DATASETS.find("kjv")

    assert [len(found[split]["documents"]) - 1 for split in ("train", "test")] == [7, 2]
    text = b"\n".join(
        found[split]["tokens"][a:b].tobytes()
        for split in ("train", "test")
        for a, b in pairwise(found[split]["documents"])
    )
    shipped = Path(kjv.__file__).with_name("kjv.txt.xz")
    assert text.strip() == lzma.decompress(shipped.read_bytes()).strip() and text.isascii()
    assert text.startswith(b"In the beginning") and (spec.train_tokens, spec.test_tokens) == (1_013_917, 142_267)


@pytest.mark.parametrize("operation", ["+", "-", "*", "/"])
def test_modular_arithmetic_holds_each_pair_once_with_its_result(tmp_path: Path, operation: str) -> None:
    described = hparams("modular_arithmetic", modulus=7, operation=operation, train_share=0.4, split_seed=3)

    found = prepared(tmp_path, described.spec.spelling)

    rows = np.concatenate([found[split]["tokens"].reshape(-1, 4) for split in ("train", "test")]).astype(int)
    labels = np.concatenate([found[split]["labels"] for split in ("train", "test")])
    pairs = 42 if operation == "/" else 49
    assert len({(a, b) for a, _, b, _ in rows.tolist()}) == pairs == len(rows)
    assert len(found["train"]["labels"]) == round(0.4 * pairs)
    for (a, sign, b, equals), label in zip(rows.tolist(), labels.tolist(), strict=True):
        assert (sign, equals) == (7, 8)
        assert (label * b - a) % 7 == 0 if operation == "/" else label == eval(f"({a} {operation} {b}) % 7")
    assert (described.num_classes, described.inputs.vocabulary, described.input_shape) == (7, 9, (4,))


def test_parameters_of_modular_arithmetic_are_data_of_their_own(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"operation": "*"}, {"train_share": 0.3}, {"split_seed": 1}, {"modulus": 11}]
    found = set()
    for change in changes:
        spec = hparams("modular_arithmetic", **{"modulus": 13, **change}).spec
        ensure_prepared(spec.spelling, tmp_path, allow_download=False, report=lambda _: None)
        found.add(fingerprint(spec.spelling, tmp_path))

    assert len(found) == len(changes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modulus": 9, "operation": "/"}, "^modulus: 9 is not a prime"),
        ({"modulus": 3, "train_share": 0.01}, "^train_share: 0.01 of 9 pairs leaves none for training"),
        ({"modulus": 3, "train_share": 0.99}, "^train_share: 0.99 of 9 pairs leaves none for testing"),
    ],
)
def test_modular_arithmetic_without_results_or_pairs_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hparams("modular_arithmetic", **values).normalized(1)


def test_parameters_of_modular_arithmetic_are_no_names_of_datasets() -> None:
    with pytest.raises(UsageError, match="^dataset_name: .*write modular_arithmetic"):
        hparams("modular_arithmetic_97_plus_0.5_0").normalized(1)


def test_the_default_of_modular_arithmetic_is_the_listed_dataset() -> None:
    listed, default = DATASETS.find("modular_arithmetic"), hparams("modular_arithmetic").spec

    for name in ("num_train", "num_test", "num_classes", "vocabulary", "train_tokens", "test_tokens", "input_shape"):
        assert getattr(listed, name) == getattr(default, name)
