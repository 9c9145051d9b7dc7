"""Columns of token ids in users' tables: lists of any length, masks, tokenizers, and cells that hold other things."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets.prepared import load_tensors, read_header, split_path
from datasets.registry import DATASETS
from foundations.errors import UsageError
from tests.datasets.loading import add
from tests.datasets.made_tables import save_hf, write_csv

IDS = [[n % 7, *range(n % 5)] for n in range(40)]
LABELS = [n % 2 for n in range(40)]


def added(root: Path, **options: Any) -> list[list[int]]:
    """Add a table of a file `a.parquet`, and return its training and test documents, sorted."""
    add(root, root / "a.parquet", **options)
    return documents(root)


def documents(root: Path) -> list[list[int]]:
    found = []
    for split in ("train", "test"):
        tensors = load_tensors("mine", split, root / "datasets")
        found += [tensors["tokens"][a:b].tolist() for a, b in pairwise(tensors["documents"].tolist())]
    return sorted(found)


def write(root: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), root / "a.parquet")


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.float32()])
def test_lists_of_any_length_are_sequences_with_classes(tmp_path: Path, kind: pa.DataType) -> None:
    write(tmp_path, input_ids=pa.array(IDS, pa.list_(kind)), label=LABELS)

    assert added(tmp_path, target="label") == sorted(IDS)

    spec = DATASETS.find("mine")
    assert (spec.task.spelling, spec.inputs, spec.vocabulary, spec.padding) == (
        "sequence_classification",
        "tokens",
        8,
        7,
    )
    assert spec.input_shape == (5,)
    assert (
        read_header(split_path("mine", "train", tmp_path / "datasets")).metadata["tokens"].strip('"').startswith("ids")
    )


def test_lists_of_one_length_are_numbers_unless_they_are_named_tokens(tmp_path: Path) -> None:
    write(tmp_path, ids=[[n % 7, 3, 1] for n in range(40)], label=LABELS)

    lines = add(tmp_path, tmp_path / "a.parquet", target="label")
    assert DATASETS.find("mine").inputs == "vectors"
    assert any("--tokens=ids" in line for line in lines)


def test_ids_that_a_mask_leaves_out_are_no_tokens(tmp_path: Path) -> None:
    masks = [[1] * (1 + n % 3) + [0] * (2 - n % 3) for n in range(40)]
    write(tmp_path, input_ids=[[n % 7, 3, 1] for n in range(40)], attention_mask=masks, label=LABELS)

    assert added(tmp_path, target="label") == sorted([n % 7, 3, 1][: 1 + n % 3] for n in range(40))


def test_ids_without_a_target_are_modelled_and_saved_datasets_are_read_alike(tmp_path: Path) -> None:
    save_hf(tmp_path / "d", pa.table({"input_ids": IDS}), {})

    add(tmp_path, tmp_path / "d", from_hf="d")

    spec = DATASETS.find("mine")
    assert (spec.task.spelling, spec.separator) == ("language_modelling", 7)
    assert documents(tmp_path) == sorted(IDS)


@pytest.mark.parametrize("form", ["[{}]", "{}", " ( {} )"])
def test_cells_of_a_csv_hold_ids_in_brackets_or_without(tmp_path: Path, form: str) -> None:
    rows = [[form.format(" ".join(map(str, ids))), str(label)] for ids, label in zip(IDS, LABELS, strict=True)]
    write_csv(tmp_path / "a.csv", rows, "ids,label\n")

    add(tmp_path, tmp_path / "a.csv", target="label", tokens="ids")

    assert documents(tmp_path) == sorted(IDS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([0.5], "row 40, column 'input_ids': '0.5' is not a token id"),
        ([-1], "'-1.0' is not a token id"),
        ([None, 1], "'None' is not a token id"),
        ([float("nan")], "'nan' is not a token id"),
        ([2.0**40], "is not a token id, a whole number from 0 to 16,777,216"),
        ([], "there are no ids; remove the row"),
        (None, "there are no ids; remove the row"),
    ],
)
def test_what_is_no_id_is_named_with_its_row(tmp_path: Path, wrong: Any, message: str) -> None:
    write(tmp_path, input_ids=pa.array([*IDS[:-1], wrong], pa.list_(pa.float64())), label=LABELS)

    with pytest.raises(UsageError, match=message):
        added(tmp_path, target="label")


def test_lists_of_several_lengths_under_another_name_say_how_to_read_them(tmp_path: Path) -> None:
    write(tmp_path, ids=IDS, label=LABELS)

    with pytest.raises(UsageError, match="If these are token ids, give --tokens=ids"):
        added(tmp_path, target="label")
