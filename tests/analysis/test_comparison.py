"""Runs in groups: the values that are averaged, and those that are not."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.compare.comparison import Comparison
from analysis.compare.points import Point, level
from analysis.rows.result_value import Value
from analysis.rows.run_row import Row
from analysis.rows.runs import read_rows
from foundations.errors import PluginError, UsageError
from foundations.metrics import Metrics
from foundations.storage.run import METRICS, Run
from open_prune import GroupsOptions, StoredRun, comparison
from tests.analysis.conftest import Family
from tests.analysis.rows import damaged, imported, pruned, training
from training.desc import TrainDesc

ACCURACY = Value("test_accuracy")


def grouped(*rows: Row, by: str = "strategy,sparsity", **options: object) -> Comparison:
    return Comparison.of(rows, by.split(","), ACCURACY, **options)  # type: ignore[arg-type]


def only(found: Comparison) -> Point:
    (point,) = found.points
    return point


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_mean_and_spreads_are_those_of_the_replicates(values: list[float]) -> None:
    point = only(grouped(*(pruned("snip1", 0.9, number, value) for number, value in enumerate(values, 1))))

    assert point.values == tuple(values)
    assert point.mean == pytest.approx(sum(values) / len(values))
    std = math.sqrt(sum((value - sum(values) / len(values)) ** 2 for value in values) / (len(values) - 1))
    assert point.half_width("std") == pytest.approx(std)
    assert point.half_width("sem") == pytest.approx(std / math.sqrt(len(values)))
    assert point.interval("minmax") == (min(values), max(values))


@pytest.mark.parametrize(
    ("n", "quantile"),  # by scipy 1.17.1: scipy.special.stdtrit(n - 1, 0.975)
    [(2, 12.706204736174694), (3, 4.302652729749462), (6, 2.5705818356363146), (31, 2.0422724563012378)],
)
def test_a_confidence_interval_is_by_students_t(n: int, quantile: float) -> None:
    values = [0.5 + number / 100 for number in range(n)]
    point = only(grouped(*(pruned("snip1", 0.9, number, value) for number, value in enumerate(values, 1))))

    assert point.half_width("ci95") == pytest.approx(quantile * statistics.stdev(values) / math.sqrt(n), rel=1e-13)


@pytest.mark.parametrize("n", [1, 2])
def test_a_spread_that_there_is_not_is_refused(n: int) -> None:
    point = only(grouped(*(pruned("snip1", 0.9, number) for number in range(n))))

    for of_spread in (point.half_width, point.interval, point.summary):
        with pytest.raises(UsageError, match="spread: 'sd' is not a valid value. Did you mean 'std'"):
            of_spread("sd")


def test_a_single_run_has_no_spread() -> None:
    point = only(grouped(pruned("snip1", 0.9)))

    assert (point.n, point.half_width("std"), point.interval("minmax")) == (1, None, None)


def test_a_run_that_is_not_complete_or_diverged_is_left_out_and_named() -> None:
    rows = (pruned("snip1", 0.9), pruned("snip1", 0.9, 2, None), pruned("snip1", 0.9, 3, math.nan), damaged())

    found = grouped(*rows)

    assert only(found).n == 1
    assert [each.row for each in only(found).left_out] == [rows[1], rows[2]]
    assert {each.row.address for each in found.left_out} == {row.address for row in rows[1:]}
    text = " ".join(found.notes())
    assert "incomplete" in text and "not finite" in text and "damaged" in text and rows[3].address in text


def test_replicates_meet_although_their_achieved_sparsities_differ_a_little() -> None:
    found = grouped(pruned("phew", 0.9, 1, achieved=0.9001), pruned("phew", 0.9, 2, achieved=0.8999))

    assert only(found).keys == ("phew", 0.9)
    assert only(found).density == pytest.approx(0.1)


def test_a_level_is_what_was_achieved_where_that_is_not_what_was_asked_for() -> None:
    assert only(grouped(pruned("magnitude", 0.9, achieved=0.8))).keys == ("magnitude", 0.8)
    assert level(0.1004, 0.1) == 0.1
    assert level(0.104, 0.1) == 0.104
    assert (level(0.09951, 0.1), level(0.09951)) == (0.1, 0.0995)
    assert level(1 / 3) == 0.333


def test_experiments_that_differ_are_not_averaged_unless_that_is_asked_for() -> None:
    rows = (pruned("snip1", 0.9, lr=0.1), pruned("snip1", 0.9, lr=0.01))

    with pytest.raises(UsageError, match=r"differ in lr \(0\.01, 0\.1\)") as caught:
        grouped(*rows).refuse_mixed("rows")

    assert caught.value.hparams == ("rows",)
    assert "--over=lr" in str(caught.value)
    assert only(grouped(*rows, over=["lr"])).n == 2
    assert not grouped(*rows, over=["lr"]).mixed
    assert [point.keys for point in grouped(*rows, by="strategy,lr").points] == [("snip1", 0.01), ("snip1", 0.1)]


def test_runs_on_other_data_are_not_averaged() -> None:
    found = grouped(pruned("snip1", 0.9, 1), pruned("snip1", 0.9, 2, data="e" * 64))

    with pytest.raises(UsageError, match="fingerprint"):
        found.refuse_mixed("rows")


def test_runs_on_other_data_in_other_cells_are_noted() -> None:
    found = grouped(pruned("snip1", 0.9), pruned("random", 0.9, data="e" * 64))

    assert any("different data" in note for note in found.notes())


def test_the_trainings_that_are_pruned_are_the_dense_reference_whatever_is_chosen() -> None:
    rows = (training(1, 0.95), training(2, 0.97), training(1, 0.5, digest="b" * 32), pruned("snip1", 0.9))

    found = grouped(*rows, where="strategy=snip1")
    (one,) = found.dense

    assert (one.keys, one.n) == (("dense", 0.0), 1)
    assert one.mean == pytest.approx(0.95)
    assert [point.keys for point in found.points] == [("dense", 0.0), ("snip1", 0.9)]


def test_a_training_that_was_made_only_as_far_as_its_branches_need_is_said_to_be_no_reference() -> None:
    found = grouped(training(1, None), pruned("snip1", 0.9))

    assert not found.dense and not found.left_out
    assert any("No dense reference" in note for note in found.notes())


def branch_of(parent: Row, row: Row) -> Row:
    location = replace(row.run.location, training=parent.run.location.training)
    return replace(row, run=Run(Path("/nowhere"), location))


def test_a_run_that_was_imported_pruned_is_no_dense_network() -> None:
    parent = imported(0.7, accuracy=0.85)
    child = branch_of(parent, pruned("snip1", 0.9))

    found = grouped(parent, child)

    assert [(point.is_dense, point.keys) for point in found.points] == [(False, ("snip1", 0.9)), (False, (None, 0.7))]
    assert not found.dense
    assert [point.keys for point in grouped(parent).points] == [(None, 0.7)]


def test_a_run_that_was_imported_pruned_is_no_dense_reference_of_its_branches() -> None:
    parent, dense = imported(0.7, accuracy=0.85), imported(None, accuracy=0.95, digest="c" * 32)
    children = [branch_of(parent, pruned("snip1", 0.9)), branch_of(dense, pruned("snip1", 0.8))]

    found = grouped(parent, dense, *children, where="strategy=snip1")

    assert [point.rows for point in found.dense] == [(dense,)]
    assert parent not in [row for point in found.points for row in point.rows] and not found.untrained


def test_a_run_that_was_imported_without_a_mask_is_the_dense_reference_of_its_branches() -> None:
    parent = imported(None, accuracy=0.95)

    found = grouped(parent, branch_of(parent, pruned("snip1", 0.9)))

    assert [(point.is_dense, point.keys) for point in found.points] == [(True, ("dense", 0.0)), (False, ("snip1", 0.9))]


def test_keys_that_no_run_has_are_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="strategy"):
        grouped(pruned("snip1", 0.9), by="stratgy")


def test_a_key_that_no_run_has_is_refused_by_the_flag_that_gives_it() -> None:
    with pytest.raises(UsageError) as error:
        grouped(pruned("snip1", 0.9), by="strategy,nonsense", flags={"nonsense": "columns"})
    assert error.value.hparams == ("columns",)
    with pytest.raises(UsageError) as error:
        grouped(pruned("snip1", 0.9), over=["nonsense"])
    assert error.value.hparams == ("over",)


def test_there_is_no_dense_reference_where_the_keys_do_not_tell_it_apart() -> None:
    found = grouped(training(), pruned("snip1", 0.9), by="dataset_name", where="strategy=snip1")

    assert not found.dense and only(found).n == 1


def test_a_training_that_is_not_complete_and_has_no_branches_is_left_out() -> None:
    found = grouped(training(1, None), training(2))

    assert found.untrained == () and [each.why for each in found.left_out] == ["incomplete"]


def test_trainings_without_branches_are_no_references() -> None:
    assert not grouped(training(), training(2)).dense
    assert grouped(training(), training(2), pruned("snip1", 0.9)).dense[0].n == 2


def test_a_value_that_no_run_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="test_accuracy"):
        Comparison.of([pruned("snip1", 0.9)], ["strategy"], Value("test_acuracy"))


def test_a_level_is_the_same_whether_it_was_asked_for_or_achieved() -> None:
    rows = pruned("snip1", 0.9), pruned("snip1", 0.95, achieved=0.9)

    assert [point.keys for point in grouped(*rows, by="density", over=["prune_fraction"]).points] == [(0.1,)]


@pytest.mark.parametrize("key, expected", [("sparsity", 0.875), ("density", 0.125), ("compression", 8.0)])
def test_levels_are_written_in_three_ways(key: str, expected: float) -> None:
    assert only(grouped(pruned("snip1", 0.875), by=key)).keys == (expected,)


@pytest.mark.parametrize("text, at", [("test_loss", ""), ("test_loss@3ep", "3ep"), ("test_loss@min", "min")])
def test_a_value_is_read_from_metrics_at_any_step(family: Family, text: str, at: str) -> None:
    (row,) = (row for row in read_rows(family.root) if row.run.location == family.training.location)
    lines = [line.split(",") for line in (family.training.folder / METRICS).read_text().splitlines()[1:]]
    losses = {int(iteration): float(value) for name, iteration, value in lines if name == "test_loss"}
    expected = {"": losses[max(losses)], "3ep": losses[3 * row.iterations_per_epoch], "min": min(losses.values())}

    assert Value.parse(text).of(row) == expected[at]


def measured(folder: Path, values: dict[tuple[str, int], float]) -> Row:
    """Return the row of a run that measured something."""
    desc = TrainDesc.of({"dataset_name": "digits"})
    run = Run(folder, desc.location(1))
    with run.locked(print):
        run.create(desc)
        run.save_metrics(Metrics(values))
    return replace(training(), run=run, iterations_per_epoch=10)


@pytest.mark.parametrize(("text", "expected"), [("loss@max", 3.0), ("loss@min", 1.0)])
def test_the_highest_and_lowest_of_all_steps_are_of_those_that_are_finite(
    tmp_path: Path, text: str, expected: float
) -> None:
    odd = {("loss", 1): math.inf, ("loss", 2): -math.inf, ("loss", 30): math.nan, ("other", 3): 9.0, ("other", 4): -9.0}
    row = measured(tmp_path, {**odd, ("loss", 0): 2.0, ("loss", 10): 1.0, ("loss", 20): 3.0})

    assert Value.parse(text).of(row) == expected


@pytest.mark.parametrize("text", ["loss@max", "loss@min"])
def test_a_metric_that_was_never_finite_is_not_a_number_and_one_without_values_nothing(
    tmp_path: Path, text: str
) -> None:
    row = measured(tmp_path, {("loss", 0): math.inf, ("loss", 10): math.nan})

    found = Value.parse(text).of(row)

    assert found is not None and math.isnan(found)
    assert Value.parse(text.replace("loss", "other")).of(row) is None


def test_the_value_at_the_best_step_is_where_a_finite_validation_accuracy_is_highest(tmp_path: Path) -> None:
    best = {10: 0.5, 20: 0.8, 30: 0.8, 40: math.nan, 50: math.inf}
    values = {("validation_accuracy", step): value for step, value in best.items()}
    row = measured(tmp_path, {**values, **{("loss", step): float(step) for step in best}})

    assert Value.parse("loss@best").of(row) == 20.0
    assert Value.parse("loss@3ep").of(row) == 30.0
    assert Value.parse("loss@25it").of(row) is None
    assert Value.parse("other@best").of(row) is None


def test_a_metric_that_is_no_result_counts_where_it_was_measured(tmp_path: Path) -> None:
    rows = measured(tmp_path, {("loss", 30): 2.0}), pruned("snip1", 0.9)
    found = Comparison.of(rows, ["strategy"], Value.parse("loss@3ep"))

    assert {point.keys: point.values for point in found.points} == {("dense",): (2.0,), ("snip1",): ()}


@pytest.mark.parametrize("text", ["", "@best", "test_loss@", "test_loss@third"])
def test_a_value_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Value.parse(text)


@pytest.mark.parametrize("value", ["test_accuracy", "sparsity", "test_accuracy@max"])
def test_a_run_whose_metrics_are_not_those_of_the_manifest_does_not_count(own_family: Family, value: str) -> None:
    path = own_family.branch.folder / METRICS
    path.write_bytes(path.read_bytes().replace(b"0.", b"1.", 1))

    found = Comparison.of(read_rows(own_family.root), ["strategy"], Value.parse(value), where="branch=oneshot")

    assert str(own_family.branch.location) not in {row.location for point in found.points for row in point.rows}
    assert any("damaged" in note for note in found.notes())


def test_a_value_that_fails_for_all_runs_alike_is_an_error_and_no_note() -> None:
    def fails(row: Row) -> float:
        raise UsageError(f"{row.run.location.name[:14]} has no such measure.", "measure")

    def fails_once(row: Row) -> float:
        return fails(row) if row.replicate == 1 else 0.5

    rows = [pruned("snip1", 0.9, number) for number in (1, 2)]

    with pytest.raises(UsageError, match="measure: branch_oneshot has no such measure"):
        Comparison.of(rows, ["strategy"], Value("value", read=fails))
    found = Comparison.of(rows, ["strategy"], Value("value", read=fails_once))
    assert [each.why for each in found.left_out] == ["branch_oneshot has no such measure"]


def test_a_function_of_runs_returns_numbers_of_any_kind_and_nothing_else(family: Family) -> None:
    rows = read_rows(family.root)

    def values_of(number: object) -> list[tuple[float, ...]]:
        def value(run: StoredRun) -> Any:
            return number if run.manifest else None

        return [point.values for point in comparison(rows, GroupsOptions(), value, by="density").points if point.n]

    for number in (0.5, np.float32(0.5), torch.tensor(0.5)):
        found = values_of(number)
        assert found and {repr(value) for values in found for value in values} == {"0.5"}
    for wrong in ("0.5", [1, 2]):
        with pytest.raises(PluginError, match=r"test_comparison.py, line \d+: value returned a (str|list) for a run"):
            values_of(wrong)
