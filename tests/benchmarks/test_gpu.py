"""The measurements for a GPU, on a CPU."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import PARTS, SPEEDRUN, context_of, golden, main, shortened
from benchmarks.parts import Bench, Item, Part, measure
from benchmarks.timing import Row
from foundations.errors import EnvironmentFailure
from training.desc import TrainDesc
from training.recipes import recipe


def test_a_dry_run_names_the_parts_and_their_time(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--dry_run", f"--results={tmp_path / 'gpu.json'}"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [part.name for part in PARTS]
    assert sum(float(line.split()[3]) for line in lines) == pytest.approx(540, abs=5)
    assert not (tmp_path / "gpu.json").exists()


def test_a_part_that_takes_too_long_is_stopped_and_what_it_measured_is_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = tmp_path / "gpu.json"
    assert main(["--device=cpu", "--only", "steps", "--seconds=6", f"--results={results}"]) == 0

    assert "the time of steps is used up" in capsys.readouterr().out
    found = json.loads(results.read_text())
    rows = found["rows"]
    assert found["not_measured"] == [{"item": "steps"}]
    assert rows
    assert rows[0]["what"] == "mnist_lenet_300_100, float32: step"


def test_published_masks_are_compared_where_their_code_scores_as_one_call_does(tmp_path: Path) -> None:
    items = {item.name: item for item in golden(Bench(context_of(tmp_path, None, "cpu"), 0.0, 0.0))}
    assert len(items) >= 10
    quick = [item for name, item in items.items() if name.endswith("lenet") and "synflow" not in name][:3]
    rows = [row for item in quick for row in item.run()]
    assert len(rows) == len(quick) == 3
    assert all(row.is_met is not False for row in rows)


def fails(_bench: Bench) -> Iterator[Item]:
    """Fail at one item."""

    def row(name: str) -> Iterator[Row]:
        if name == "second":
            raise RuntimeError("CUDA out of memory")
        yield Row(name, 1.0, "", "")

    for name in ("first", "second", "third"):
        yield Item(name, partial(row, name))


def dies(_bench: Bench) -> Iterator[Item]:
    """Take the process along after one row."""

    def rows() -> Iterator[Row]:
        yield Row("before", 1.0, "", "")
        os._exit(7)

    yield Item("an item", rows)


def test_an_item_that_fails_or_ends_its_process_loses_no_other(tmp_path: Path) -> None:
    results = tmp_path / "gpu.json"
    assert measure([Part(dies, 0.5), Part(fails, 0.5)], partial(context_of, tmp_path, None, "cpu"), 60.0, results) == 1

    found = json.loads(results.read_text())
    assert [row["what"] for row in found["rows"]] == ["before", "first", "third"]
    assert [(failed["item"], failed["error"]) for failed in found["failed"]] == [
        ("dies", "its process ended with code 7"),
        ("second", "RuntimeError: CUDA out of memory"),
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="no device cuda"):
        main([f"--results={tmp_path / 'gpu.json'}"])


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_shortened_training_warms_up_for_the_same_share_of_its_steps(length: int) -> None:
    values = {key: value for key, value in (recipe("cifar_resnet_20") | SPEEDRUN).items() if value is not None}

    desc = TrainDesc.of(shortened(values, 10, length))

    assert desc.end.ep == length
    warmup = desc.step(str(desc.training.warmup_steps)).iteration
    assert warmup == pytest.approx(0.2 * desc.end.iteration, abs=1)


def test_given_datasets_are_read_and_noise_is_written_elsewhere(tmp_path: Path) -> None:
    given, place = tmp_path / "given", tmp_path / "place"
    (given / "mnist").mkdir(parents=True)
    (given / "mnist" / "header").write_text("mine")
    place.mkdir()

    folder = context_of(place, given, "cpu").datasets
    (folder / "cifar10").mkdir()

    assert (folder / "mnist" / "header").read_text() == "mine"
    assert [path.name for path in given.iterdir()] == ["mnist"]
