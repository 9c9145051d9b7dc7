"""Tables that users add: CSV and Parquet files of numbers and categories."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets.formats import content, tables
from datasets.prepared import fingerprint, load_tensors, read_header, split_path
from datasets.registry import DATASETS
from foundations.errors import UsageError
from tests.datasets.loading import add
from tests.datasets.made_tables import HOUSES, houses, write_csv


def metadata(root: Path, name: str = "mine") -> dict[str, str]:
    return read_header(split_path(name, "train", root / "datasets")).metadata


def tensors(root: Path, split: str = "train", name: str = "mine") -> dict[str, Any]:
    return {key: tensor.numpy() for key, tensor in load_tensors(name, split, root / "datasets").items()}


def test_numbers_and_categories_become_features_and_a_target_with_fractions_a_regression(tmp_path: Path) -> None:
    train, test = houses(40), houses(10, seed=1)
    write_csv(tmp_path / "in" / "train.csv", train)
    write_csv(tmp_path / "in" / "test.csv", test)

    lines = add(tmp_path, tmp_path / "in", target="price")

    spec, found = DATASETS.find("mine"), tensors(tmp_path)
    assert (spec.task.spelling, spec.inputs, spec.input_shape, spec.num_outputs) == ("regression", "vectors", (5,), 1)
    assert json.loads(metadata(tmp_path)["features"]) == ["area", "rooms", "town=Bonn", "town=Köln", "town=Ulm"]
    expected = [[float(a), float(b), *(town == each for each in ("Bonn", "Köln", "Ulm"))] for a, b, town, _ in train]
    np.testing.assert_allclose(found["inputs"], np.array(expected, np.float32))
    prices = np.array([float(row[-1]) for row in train])
    np.testing.assert_allclose(found["targets"][:, 0], prices, rtol=1e-6)
    assert (spec.target_mean[0], spec.target_std[0]) == pytest.approx((prices.mean(), prices.std()))
    numbers = found["inputs"][:, :2].astype(float)
    assert spec.mean == pytest.approx([*numbers.mean(0), 0, 0, 0]) and spec.std == pytest.approx(
        [*numbers.std(0), 1, 1, 1]
    )
    assert tensors(tmp_path, "test")["inputs"].shape == (10, 5)
    assert lines[-1] == "added mine: 40 training and 10 test examples of 5 features, 1 target"


def test_csv_and_parquet_of_the_same_rows_give_the_same_dataset(tmp_path: Path) -> None:
    frame = pd.DataFrame(houses(), columns=HOUSES.strip().split(",")).astype({"area": float, "rooms": int})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv")  # with an index without a name
    frame.to_csv(tmp_path / "b.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "c.csv.gz", index=False, sep=";")

    for name, file in {"one": "a.parquet", "two": "a.csv", "three": "b.tsv", "four": "c.csv.gz"}.items():
        add(tmp_path, tmp_path / file, name, target="town", ignore="price")

    found = {fingerprint(name, tmp_path / "datasets") for name in ("one", "two", "three", "four")}
    assert len(found) == 1 and metadata(tmp_path, "one")["class_names"] == "Bonn,Köln,Ulm"


def test_a_tenth_of_the_rows_is_held_out_and_every_row_is_in_one_part(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [[str(n), str(n % 2)] for n in range(50)], "x,y\n")

    add(tmp_path, tmp_path / "a.csv", target="y")

    train, test = tensors(tmp_path), tensors(tmp_path, "test")
    assert (len(train["labels"]), len(test["labels"])) == (45, 5)
    both = np.concatenate([train["inputs"][:, 0], test["inputs"][:, 0]])
    assert sorted(both) == list(range(50))
    assert (np.concatenate([train["labels"], test["labels"]]) == both % 2).all()


@pytest.mark.parametrize(("missing", "value"), [("mean", 2.0), ("median", 1.0), ("zero", 0.0)])
def test_missing_numbers_are_filled_from_the_training_set_and_recorded(
    tmp_path: Path, missing: str, value: float
) -> None:
    write_csv(
        tmp_path / "in" / "train.csv",
        [["1", "a", "0.5"], ["1", "", "1.5"], ["4", "b", "2"], ["NA", "b", "3"]],
        "x,c,y\n",
    )
    write_csv(tmp_path / "in" / "test.csv", [["", "a", "1"], ["900", "a", "2"]], "x,c,y\n")

    add(tmp_path, tmp_path / "in", target="y", missing=missing)

    assert tensors(tmp_path)["inputs"][3, 0] == value == tensors(tmp_path, "test")["inputs"][0, 0]
    assert json.loads(metadata(tmp_path)["filled"]) == {"x": value}
    assert json.loads(metadata(tmp_path)["categories"]) == {"c": ["(missing)", "a", "b"]}


def test_numbers_can_be_categories_and_columns_can_be_left_out(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [[f"0{n % 3}", f"id{n}", str(n), str(n % 2)] for n in range(30)], "zip,id,x,y\n")

    add(tmp_path, tmp_path / "a.csv", target="y", categorical="zip", ignore="id")

    assert json.loads(metadata(tmp_path)["features"]) == ["zip=00", "zip=01", "zip=02", "x"]


@pytest.mark.parametrize(
    ("target", "options", "task", "outputs"),
    [
        ("a,b", {}, "multi_label", 2),
        ("a,x", {}, "regression", 2),
        ("x", {"task": "regression"}, "regression", 1),
        ("tags", {"task": "multi_label"}, "multi_label", 3),
    ],
)
def test_several_targets_are_labels_or_a_regression(
    tmp_path: Path, target: str, options: dict[str, Any], task: str, outputs: int
) -> None:
    rows = [[str(n % 2), str(n // 2 % 2), str(n), ["red|big", "", "old", "red"][n % 4], f"{n / 7}"] for n in range(40)]
    write_csv(tmp_path / "a.csv", rows, "a,b,x,tags,z\n")
    ignored = ",".join(name for name in ("a", "b", "x", "tags") if name not in target.split(","))

    add(tmp_path, tmp_path / "a.csv", target=target, ignore=ignored, **options)

    spec = DATASETS.find("mine")
    assert (spec.task.spelling, spec.num_outputs, spec.num_classes) == (task, outputs, 0)
    assert tensors(tmp_path)["targets"].dtype == (np.float32 if task == "regression" else np.uint8)


def test_tables_larger_than_a_chunk_are_read_in_parts_through_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "a.csv", houses(100))
    add(tmp_path, tmp_path / "a.csv", "whole", target="town", ignore="price")
    monkeypatch.setattr(tables, "_ROWS", 7)
    monkeypatch.setattr(content, "_IN_MEMORY", 10)

    add(tmp_path, tmp_path / "a.csv", "parts", target="town", ignore="price")

    assert fingerprint("whole", tmp_path / "datasets") == fingerprint("parts", tmp_path / "datasets")


GOOD = [["1.5", "a", "0"], ["2.5", "b", "1"]] * 10
MALFORMED: list[tuple[str, bytes | list[list[str]], dict[str, Any], str]] = [
    ("no value", [*GOOD, ["", "a", "1"]], {}, "row 22, column 'x': the cell is empty; .*--missing=mean"),
    ("no category", [*GOOD, ["1", "", "1"]], {}, "row 22, column 'c': the cell is empty"),
    ("no target", [*GOOD, ["1", "a", "nan"]], {"missing": "mean"}, "row 22, column 'y': the target is missing"),
    ("a text among numbers", [*GOOD, ["1,5", "a", "1"]], {}, "row 22: it has 4 cells; the first row names 3 columns"),
    ("a unit", [*GOOD, ["5 kg", "a", "1"]], {}, "row 22: '5 kg' in column 'x' is not a number"),
    ("a decimal comma", b"x;c;y\n1,5;a;0\n", {}, "row 2: '1,5' in column 'x' has a decimal comma"),
    ("infinity", [*GOOD, ["inf", "a", "1"]], {}, "row 22, column 'x': inf is not a finite number"),
    ("too large", [*GOOD, ["1e39", "a", "1"]], {}, "row 22, column 'x': 1e\\+39 is not a finite number"),
    ("a short row", [*GOOD, ["1", "a"]], {}, "row 22: it has 2 cells"),
    ("an open quote", [["1", '"a', "1"], *GOOD], {}, "row 2: a quotation mark is not closed"),
    ("Latin-1", "x,c,y\n1,Köln,2\n".encode("latin-1"), {}, "row 2: the text is not UTF-8"),
    ("nothing", b"", {}, "is empty; its first row must hold the names"),
    ("no rows", b"x,c,y\n", {}, "holds no rows"),
    ("no names", b"1,2,3\n4,5,6\n", {}, "row 1: it holds numbers; the first row must hold the names"),
    ("a repeated name", b"x,x,y\n4,5,6\n", {}, "row 1: several columns are named 'x'"),
    ("a column without a name", b"x,,y\n4,5,6\n", {}, "row 1: column 2 has no name"),
    ("an unknown target", GOOD, {"target": "why"}, "^target: 'why' is not a column of .*; choose from x, c, y\\.$"),
    ("no target at all", GOOD, {"target": ""}, "^target: it is needed: .*choose from x, c, y"),
    ("one class", [["1", "a", "1"]] * 9, {}, "holds one class"),
    ("a class once", [*GOOD, ["1", "a", "7"]], {}, "'7' has a single example"),
    ("ages", [[str(n), "a", str(n)] for n in range(40)], {}, "40 different whole numbers; give --task=regression or"),
    ("identifiers", [[f"i{n}", "a", str(n % 2)] for n in range(2000)], {}, "more than 1,000 different texts"),
    ("texts for a regression", GOOD, {"target": "c", "task": "regression"}, "'c' holds texts; a regression needs"),
    (
        "twos for labels",
        [["1", "2", "0"]] * 9,
        {"target": "c,y", "task": "multi_label"},
        "columns of 0 and 1, .*holds 2",
    ),
    ("a tokenizer", GOOD, {"vocabulary": 300}, "^vocabulary: it has no meaning for a table of numbers"),
]


@pytest.mark.parametrize(
    ("rows", "options", "message"), [case[1:] for case in MALFORMED], ids=[c[0] for c in MALFORMED]
)
def test_malformed_tables_are_refused_in_a_sentence_with_the_file_and_the_row(
    tmp_path: Path, rows: Any, options: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.csv"
    if isinstance(rows, bytes):
        path.write_bytes(rows)
    else:
        write_csv(path, rows, "x,c,y\n")

    with pytest.raises(UsageError) as error:
        add(tmp_path, path, **{"target": "y", **options})

    assert re.search(message, str(error.value)), str(error.value)
    assert str(error.value).count("\n") == 0
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_test_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "in" / "train.csv", GOOD, "x,c,y\n")
    write_csv(tmp_path / "in" / "test.csv", [["1", "0"]], "x,y\n")

    with pytest.raises(UsageError, match=r"test.csv lacks the column 'c' of .*train.csv"):
        add(tmp_path, tmp_path / "in", target="y")


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    pd.DataFrame(GOOD, columns=["x", "c", "y"]).to_parquet(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-20])

    with pytest.raises(UsageError, match=r"a.parquet is not a whole Parquet file"):
        add(tmp_path, tmp_path / "a.parquet", target="y")


def test_columns_of_dates_are_refused_unless_they_are_ignored(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(20.0), "when": pd.date_range("2020", periods=20), "y": [0, 1] * 10})
    frame.to_parquet(tmp_path / "a.parquet")

    with pytest.raises(UsageError, match=r"column 'when' holds timestamp.*--ignore"):
        add(tmp_path, tmp_path / "a.parquet", target="y")
    add(tmp_path, tmp_path / "a.parquet", target="y", ignore="when")

    assert DATASETS.find("mine").input_shape == (1,)


def test_a_target_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [[f"{n}.5", f"{n + 0.25}"] for n in range(30)], "x,y\n")

    lines = add(tmp_path, tmp_path / "a.csv", target="y,y", ignore="")

    assert lines[-1] == "added mine: 27 training and 3 test examples of 1 feature, 1 target"


def test_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    numbers = pa.array([0.5, 1.5])
    pq.write_table(pa.Table.from_arrays([numbers, numbers, numbers], ["x", "x", "y"]), tmp_path / "a.parquet")

    with pytest.raises(UsageError, match=r"a\.parquet: several columns are named 'x'; rename them\."):
        add(tmp_path, tmp_path / "a.parquet", target="y")


def test_long_cells_are_cut_in_messages(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [["z" * 10_000, str(n % 2)] for n in range(20)], "x,y\n")
    rows = [[str(n), f"{n % 2}"] for n in range(20)]
    write_csv(tmp_path / "c.csv", [*rows, ["z" * 10_000, "1"]], "x,y\n")

    lines = add(tmp_path, tmp_path / "a.csv", target="y")
    with pytest.raises(UsageError) as raised:
        add(tmp_path, tmp_path / "c.csv", "other", target="y")

    assert f"column x: 1 category, '{'z' * 57}...'" in lines
    assert f"row 22: '{'z' * 57}...' in column 'x' is not a number" in str(raised.value)
