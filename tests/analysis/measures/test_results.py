"""Results are computed once, reused, and computed again if their inputs have changed."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from analysis.measures.data import DataOptions, Examples
from analysis.measures.inputs import MeasuredRun, Measuring
from analysis.measures.measure import Columns, Measure, Measured, StepOptions
from analysis.measures.registry import MEASURES
from analysis.measures.results import measure, result_of
from analysis.rows.run import StoredRun, open_run
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from foundations.storage.manifest import FileRecord
from foundations.storage.run import Run
from tests.analysis.conftest import Family
from tests.foundations.toy_descriptions import rewrite_state


def opened(family: Family, run: Run) -> StoredRun:
    return open_run(str(run), family.root, family.datasets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeOptions(StepOptions, DataOptions):
    """The inputs of the probe."""


class Probe:
    """A measure that counts how often it is computed."""

    def __init__(self) -> None:
        self.computed = 0

    def compute(self, measuring: Measuring, options: ProbeOptions, *runs: MeasuredRun) -> Measured:
        self.computed += 1
        for run in runs:
            run.state(options.step)
        values = {"nan": math.nan, "inf": math.inf, "low": -math.inf, "one": 1.0}
        columns: Columns = {"name": ["a", "NaN"], "number": [math.nan, -math.inf], "count": [1, 2]}
        return Measured(values, columns)


@pytest.fixture
def probe() -> Probe:
    return Probe()


def declared(probe: Probe, **changes: object) -> Measure:
    values = {"spelling": "probe", "summary": "", "options": ProbeOptions, "compute": probe.compute}
    return Measure(**{**values, **changes})  # type: ignore[arg-type]


def test_a_result_is_computed_once_and_read_back_as_it_was(own_family: Family, probe: Probe) -> None:
    run, kind = opened(own_family, own_family.training), declared(probe)

    first, again = (result_of(kind, [run], ProbeOptions()) for _ in range(2))

    assert (probe.computed, first.reused, again.reused) == (1, False, True)
    assert repr((first.values, first.table)) == repr((again.values, again.table))
    assert again.table["count"] == [1, 2]
    assert first.path.parent == own_family.root / ".measures" / "probe"
    json.loads(first.path.read_text(), parse_constant=pytest.fail)  # NaN is not JSON
    assert again.files == {f"{run}/state_ep3_it0.safetensors": run.manifest.files["state_ep3_it0.safetensors"].sha256}  # type: ignore[union-attr]
    assert again.runs == [str(run)]
    assert again.versions["torch"]


def test_equal_measurements_have_one_address_and_others_have_others(own_family: Family, probe: Probe) -> None:
    run, branch = opened(own_family, own_family.training), opened(own_family, own_family.branch)

    def address(run: StoredRun = run, version: int = 1, **options: Any) -> str:
        return result_of(declared(probe, version=version), [run], ProbeOptions(**options)).path.stem

    assert address() == address(step="18it") == address(step="3ep") == address(split="test")
    others = [address(step="0it"), address(version=2), address(examples=10), address(split="train"), address(branch)]
    assert len({address(), *others}) == 6


def test_scoring_has_one_address_for_each_meaning(own_family: Family) -> None:
    run = opened(own_family, own_family.training)

    def address(**options: Any) -> str:
        return measure("layer_conservation", run, device="cpu", **options).path.stem

    assert address(strategy="synflow") == address(strategy="synflow", prune_fraction=0, prune_iterations=7)
    assert address(strategy="synflow", density=0.5) == address(strategy="synflow", prune_fraction=0.5)
    assert address(strategy="synflow") != address(strategy="synflow", density=0.5)
    assert address(strategy="snip1") != address(strategy="snip1", score_in_eval_mode=True)


def test_a_result_of_a_file_that_has_changed_is_computed_anew_and_says_so(own_family: Family, probe: Probe) -> None:
    run, kind = opened(own_family, own_family.training), declared(probe)
    result_of(kind, [run], ProbeOptions(step="0it"))
    name = "state_ep0_it0.safetensors"
    rewrite_state(own_family.training, run.step("0it"), run.state("3ep"))

    again = result_of(kind, [run], ProbeOptions(step="0it"))

    assert (probe.computed, again.reused) == (2, False)
    assert name in again.note
    assert again.files[f"{run}/{name}"] == FileRecord.of(run.folder / name).sha256
    assert result_of(kind, [run], ProbeOptions(step="0it")).reused


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"values": 1}'])
def test_a_damaged_result_is_computed_anew_and_says_so(own_family: Family, probe: Probe, text: str) -> None:
    run, kind = opened(own_family, own_family.training), declared(probe)
    result_of(kind, [run], ProbeOptions()).path.write_text(text)

    assert "damaged" in result_of(kind, [run], ProbeOptions()).note
    assert result_of(kind, [run], ProbeOptions()).reused


def test_an_incomplete_run_is_refused_but_for_the_state_that_it_starts_from(
    convolutions: StoredRun, probe: Probe
) -> None:
    assert convolutions.status == "incomplete"
    assert result_of(declared(probe), [convolutions], ProbeOptions(step="0it")).files

    for name in ("effective_sparsity", "lottery_layer_conservation"):
        with pytest.raises(EnvironmentFailure, match="is incomplete, so it cannot be measured yet"):
            measure(name, convolutions)
    for step in (None, "3ep"):
        with pytest.raises(EnvironmentFailure, match="is incomplete, so it cannot be measured yet"):
            result_of(declared(probe), [convolutions], ProbeOptions(step=step), replay=True)


def test_a_damaged_run_is_refused_whatever_is_kept(own_family: Family, probe: Probe) -> None:
    run, kind = opened(own_family, own_family.training), declared(probe)
    result_of(kind, [run], ProbeOptions())
    (run.folder / "metrics.csv").write_text("")

    with pytest.raises(DamagedError, match="metrics"):
        result_of(kind, [run], ProbeOptions())


def test_a_state_with_a_flipped_bit_is_refused(own_family: Family, probe: Probe) -> None:
    run = opened(own_family, own_family.training)
    path = run.folder / "state_ep3_it0.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))

    with pytest.raises(DamagedError, match="SHA-256"):
        result_of(declared(probe), [run], ProbeOptions())


def test_a_measure_is_of_as_many_runs_as_it_takes(own_family: Family, probe: Probe) -> None:
    runs = [opened(own_family, run) for run in (own_family.training, own_family.branch, own_family.levels[0])]
    for takes, number in (("one run", 2), ("two runs", 3), ("two runs", 1), ("several runs", 1)):
        with pytest.raises(UsageError, match=f"takes {takes}, not {number}"):
            result_of(declared(probe, takes=takes), runs[:number], ProbeOptions())

    result = result_of(declared(probe, takes="several runs"), runs, ProbeOptions())

    assert result.runs == [str(run) for run in runs]
    assert len(result.files) == 3
    elsewhere = dataclasses.replace(runs[1], environment=dataclasses.replace(runs[1].environment, root=Path("/")))
    with pytest.raises(UsageError, match="several roots"):
        result_of(declared(probe, takes="two runs"), [runs[0], elsewhere], ProbeOptions())


def test_what_is_read_of_relatives_is_noted_too(own_family: Family) -> None:
    def compute(_: Measuring, __: StepOptions, run: MeasuredRun) -> Measured:
        scored = run.parents["scored"]
        scored.state("3ep")
        run.mask()
        assert scored.metrics.values
        return Measured({})

    kind = Measure(spelling="relatives", summary="", options=StepOptions, compute=compute)
    run = opened(own_family, own_family.branch)

    assert {Path(file).name for file in result_of(kind, [run], StepOptions()).files} == {
        "state_ep3_it0.safetensors",
        "mask.safetensors",
        "metrics.csv",
    }


def test_names_and_options_that_there_are_not_are_refused(family: Family) -> None:
    run = opened(family, family.training)
    with pytest.raises(UsageError, match="Did you mean 'effective_sparsity'"):
        measure("efective_sparsity", run)
    with pytest.raises(UsageError, match="not an option of path_kernel_trace.*step"):
        measure("path_kernel_trace", run, steps="0it")


@pytest.mark.parametrize("table", [{"a": [1, 2], "b": [1]}, {"a": ["x", 1]}, {"a": ["NaN"]}])
def test_a_table_has_columns_of_one_length_and_kind(table: Columns) -> None:
    with pytest.raises(ValueError, match="column"):
        Measured({}, table)


def test_every_measure_says_what_it_measures() -> None:
    for each in MEASURES:
        assert each.summary, each.spelling
        assert each.summary[0].islower(), each.spelling


# Data.


def accuracy(measuring: Measuring, options: ProbeOptions, run: MeasuredRun) -> Measured:
    examples = Examples(measuring, run, options)
    found = examples.evaluate(run.model(options.step).to(measuring.device))
    return Measured({**found, "examples": float(len(examples)), "seen": float(sum(len(y) for _, y in examples))})


ACCURACY = Measure(spelling="accuracy", summary="", options=ProbeOptions, compute=accuracy)


def test_the_whole_test_set_gives_the_accuracy_that_the_run_measured(own_family: Family) -> None:
    run = opened(own_family, own_family.training)

    found = result_of(ACCURACY, [run], ProbeOptions(), device="cpu")

    assert found.values["accuracy"] == run.results["test_accuracy"]
    assert found.values["loss"] == pytest.approx(run.results["test_loss"], rel=1e-5)
    assert found.values["seen"] == found.values["examples"]
    assert found.dataset == run.manifest.dataset  # type: ignore[union-attr]


def test_the_first_examples_of_a_set_are_the_same_in_each_pass_and_in_its_order(own_family: Family) -> None:
    import torch

    from datasets.prepared import load_split

    run = opened(own_family, own_family.training)
    measuring = Measuring(own_family.context)
    for split in ("train", "test"):
        examples = Examples(measuring, measuring.opened(run), DataOptions(split=split, examples=300))
        passes = [[torch.cat(parts) for parts in zip(*examples, strict=True)] for _ in range(2)]
        images, labels = (tensor[:300] for tensor in load_split("digits", split, own_family.datasets))
        ((mean,), (std,)) = measuring.opened(run).trained.dataset.constants
        assert torch.equal(passes[0][1], labels)
        torch.testing.assert_close(passes[0][0], (images / 255 - mean) / std)
        assert torch.equal(passes[0][0], passes[1][0])


def test_data_other_than_the_runs_is_refused_and_makes_a_result_stale(own_family: Family, tmp_path: Path) -> None:
    run = opened(own_family, own_family.training)
    result_of(ACCURACY, [run], ProbeOptions(), device="cpu")
    other = open_run(str(run), own_family.root, other_digits(own_family.datasets, tmp_path))

    with pytest.raises(DamagedError, match="other data"):
        result_of(ACCURACY, [other], ProbeOptions(), device="cpu")


def other_digits(datasets: Path, folder: Path) -> Path:
    """Return a folder of datasets that has digits with another first training image."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    (folder / "digits").mkdir()
    for split in ("train", "test"):
        with safe_open(datasets / "digits" / f"{split}.safetensors", "pt") as file:
            tensors = {name: file.get_tensor(name) for name in ("images", "labels")}
            tensors["images"][0] = 0
            save_file(tensors, folder / "digits" / f"{split}.safetensors", file.metadata())
    return folder


@pytest.mark.parametrize(
    "change",
    [
        {"values": {"one": None}},
        {"values": {"one": [1]}},
        {"table": {"a": [1, 2], "b": [1]}},
        {"table": {"a": [{}]}},
        {"files": 0},
        {"files": {"x": 1}},
        {"dataset": "x"},
        {"computed": []},
        {"description": None},
    ],
)
def test_a_result_of_another_form_is_computed_anew(own_family: Family, probe: Probe, change: dict[str, Any]) -> None:
    run, kind = opened(own_family, own_family.training), declared(probe)
    path = result_of(kind, [run], ProbeOptions()).path
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    assert not result_of(kind, [run], ProbeOptions()).reused
    assert result_of(kind, [run], ProbeOptions()).reused


def test_ctrl_c_while_a_measure_is_computed_is_a_keyboard_interrupt_and_leaves_no_result(own_family: Family) -> None:
    def interrupted(*_: object) -> Measured:
        os.kill(os.getpid(), signal.SIGINT)
        return Measured({})

    kind = Measure(spelling="interrupted", summary="", options=ProbeOptions, compute=interrupted)

    with pytest.raises(KeyboardInterrupt):
        result_of(kind, [opened(own_family, own_family.training)], ProbeOptions())

    assert not list(own_family.root.glob(".measures/interrupted/*"))


@pytest.mark.parametrize("address", ["1a2b3c4d", Path("run"), None])
def test_anything_but_an_opened_run_is_refused_in_a_sentence(address: Any) -> None:
    with pytest.raises(UsageError, match="runs: it takes runs as open_run returns them"):
        measure("effective_sparsity", address)
