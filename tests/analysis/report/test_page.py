"""The data of a report: every number comes from the runs, and missing values are listed."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from analysis.report.details import Curve, thinned
from analysis.report.page import Page, page_of
from analysis.report.provenance import COUNTS
from analysis.report.table import MOST_LEVELS, levels_of, table_of
from analysis.rows.result_value import Value
from analysis.rows.runs import read_rows
from foundations.errors import UsageError
from tests.analysis.report.pages import FINISHED, write_pruned, write_training


def page(root: Path, value: str = "test_accuracy", **options: object) -> Page:
    return page_of(read_rows(root), Value.parse(value), **options)  # type: ignore[arg-type]


def warnings(found: Page) -> dict[str, str]:
    return {each.title: each.text for each in found.warnings}


def test_means_spreads_and_addresses_are_those_of_the_runs(tmp_path: Path) -> None:
    accuracies = (0.7, 0.8, 0.84)
    addresses = [write_pruned(tmp_path, "snip1", 0.1, n, value) for n, value in enumerate(accuracies, 1)]
    dense = write_training(tmp_path, 1, 0.95)

    found = page(tmp_path)

    reference, point = found.comparison.points
    assert [line.label for line in found.comparison.lines] == ["dense", "snip1"]
    assert (point.mean, point.density) == pytest.approx((statistics.fmean(accuracies), 0.1))
    assert point.half_width("std") == pytest.approx(statistics.stdev(accuracies))
    assert [row.address for row in point.rows] == addresses
    assert [run.value for run in found.runs if run.address in addresses] == list(accuracies)
    assert (reference.mean, [row.address for row in reference.rows]) == (0.95, [dense])
    assert found.levels == (0.1,)


def test_the_table_has_the_best_of_each_level_and_says_what_is_missing(tmp_path: Path) -> None:
    write_training(tmp_path, 1, 0.95)
    for strategy, density, accuracy in (("snip1", 0.5, 0.9), ("random", 0.5, 0.85), ("snip1", 0.1, 0.7)):
        write_pruned(tmp_path, strategy, density, 1, accuracy)
    write_pruned(tmp_path, "synflow", 0.5, 1, None)

    dense, random, snip, synflow = table_of(page(tmp_path))

    assert (dense.label, dense.cells[0].mean, dense.cells[0].is_best) == ("dense", "95.00", False)
    assert [(cell.mean, cell.is_best, cell.note) for cell in snip.cells] == [("90.00", True, ""), ("70.00", False, "")]
    assert [(cell.mean, cell.is_best, cell.note) for cell in random.cells] == [
        ("85.00", False, ""),
        ("", False, "not computed"),
    ]
    assert synflow.cells[0].note == "0 of 1 count"


def test_networks_are_compared_with_themselves(tmp_path: Path) -> None:
    for model, first, second in (("lenet", 0.9, 0.8), ("vgg", 0.7, 0.6)):
        write_pruned(tmp_path, "snip1", 0.5, 1, first, training={"model_name": model})
        write_pruned(tmp_path, "random", 0.5, 1, second, training={"model_name": model})

    assert {row.label: row.cells[0].is_best for row in table_of(page(tmp_path))} == {
        "snip1, lenet": True,
        "random, lenet": False,
        "snip1, vgg": True,
        "random, vgg": False,
    }


def test_a_table_of_very_many_levels_has_those_that_most_lines_have(tmp_path: Path) -> None:
    for level in range(1, MOST_LEVELS + 6):
        write_pruned(tmp_path, "snip1", level / 100)
    write_pruned(tmp_path, "random", 0.02)

    found = page(tmp_path)

    assert len(found.levels) == MOST_LEVELS + 5
    assert len(levels_of(found)) == MOST_LEVELS == len(table_of(found)[0].cells)
    assert 0.02 in levels_of(found)
    assert list(levels_of(found)) == sorted(levels_of(found), reverse=True)


def test_the_best_loss_is_the_lowest(tmp_path: Path) -> None:
    for strategy, loss in (("snip1", 0.5), ("random", 1.5)):
        write_pruned(tmp_path, strategy, 0.5, metrics={"test_loss": {0: 3.0, 20: loss}})

    random, snip = table_of(page(tmp_path, "test_loss@min"))

    assert [(row.label, row.cells[0].mean, row.cells[0].is_best) for row in (random, snip)] == [
        ("random", "1.5", False),
        ("snip1", "0.5", True),
    ]


def test_experiments_that_cannot_be_told_apart_have_no_mean_and_a_warning(tmp_path: Path) -> None:
    write_pruned(tmp_path, "snip1", 0.1, 1, 0.7, pruning={"lr": 0.1})
    write_pruned(tmp_path, "snip1", 0.1, 1, 0.8, pruning={"lr": 0.2})

    apart, mixed = page(tmp_path), page(tmp_path, by=["strategy"])

    assert [line.label for line in apart.comparison.lines] == ["snip1, lr=0.1", "snip1, lr=0.2"]
    assert (mixed.comparison.points[0].mean, mixed.comparison.points[0].n) == (None, 2)
    assert "lr (0.1, 0.2)" in warnings(mixed)["Different experiments"]
    assert page(tmp_path, over=["lr"]).comparison.points[0].mean == pytest.approx(0.75)
    assert [each.role for each in page(tmp_path, over=["lr"]).varying] == ["averaged"]


def test_runs_on_other_data_have_no_mean_and_a_warning(tmp_path: Path) -> None:
    write_pruned(tmp_path, "snip1", 0.1, 1)
    write_pruned(tmp_path, "snip1", 0.1, 2, data="e" * 64)

    found = page(tmp_path)

    assert found.comparison.points[0].mean is None
    assert "fingerprint" in warnings(found)["Different experiments"]
    assert "different data" in warnings(found)["Runs and data"]


def test_what_a_reader_must_know_is_among_the_warnings(tmp_path: Path) -> None:
    write_training(tmp_path, 1, None)
    write_pruned(tmp_path, "snip1", 0.1, 1, collapsed=["fc.weight"], versions={"torch": "2.15.0"})
    write_pruned(tmp_path, "snip1", 0.1, 2, versions={"torch": "2.14.0"})
    lacking = write_pruned(tmp_path, "random", 0.1, 1, None)
    write_pruned(tmp_path, "random", 0.1, 2)

    found = page(tmp_path)

    text = " ".join(f"{each.title}: {each.text}" for each in found.warnings)
    assert "Collapsed layers: Nothing is left of fc.weight in runs of snip1 at 10% (1 of 2)." in text
    assert "torch (2.14.0, 2.15.0)" in text
    assert f"Left out, incomplete: {lacking}" in text
    assert "Replicate 1 is missing for random at 10%" in text
    assert "No dense reference" in text
    assert {run.address: run.status for run in found.runs}[lacking] == "incomplete"


def test_damaged_files_are_said_and_do_not_end_the_report(tmp_path: Path) -> None:
    write_pruned(tmp_path, "snip1", 0.1, 1)
    write_pruned(tmp_path, "snip1", 0.1, 2)
    for path in sorted(tmp_path.rglob("sparsity.json")):
        path.write_text(path.read_text().replace('"density"', '"_ensity"'))  # as many bytes

    assert "another form" in warnings(page(tmp_path))["Unreadable files"]
    for path in sorted(tmp_path.rglob("sparsity.json")):
        path.write_text(path.read_text().replace('_ensity": 0.1', 'density": NaN'))
    assert "another form" in warnings(page(tmp_path))["Unreadable files"]
    next(tmp_path.rglob("description.json")).write_text("no")
    found = page(tmp_path)
    assert "damaged" in warnings(found)["Runs and data"]
    assert sorted(run.status == COUNTS for run in found.runs) == [False, True]


def test_hyperparameters_are_those_that_differ_and_those_that_all_share(tmp_path: Path) -> None:
    for density in (0.5, 0.25):
        write_pruned(tmp_path, "snip1", density, pruning={"score_examples": "all"})
        write_pruned(tmp_path, "random", density)

    found = page(tmp_path)

    assert [(each.name, each.values, each.role) for each in found.varying] == [
        ("strategy", ("random", "snip1"), "line"),
        ("prune_fraction", ("0.5", "0.75"), "level"),
        ("score_examples", ("None", "all"), ""),
    ]
    assert found.common == {"dataset_name": "digits", "model_name": "lenet", "lr": "0.1"}


def test_layers_and_training_curves_are_means_over_replicates(tmp_path: Path) -> None:
    for replicate, (direct, effective) in enumerate([(0.2, 0.1), (0.4, 0.3)], 1):
        curve = {0: 0.0, 10: replicate / 10, 15: 0.5, 20: replicate / 5}
        if replicate == 2:
            del curve[15]  # not measured by all
        layers = {"fc.weight": (direct, effective), "out.weight": (1.0, 1.0)}
        write_pruned(tmp_path, "snip1", 0.1, replicate, layers=layers, metrics={"test_accuracy": curve})

    found = page(tmp_path)

    (layers_of_point,) = found.layers
    assert layers_of_point is not None
    assert layers_of_point.names == ("fc.weight", "out.weight")
    assert layers_of_point.direct == pytest.approx((0.3, 1.0))
    assert layers_of_point.effective == pytest.approx((0.2, 1.0))
    assert found.training[0]["test_accuracy"] == Curve(
        (0.0, 1.0, 2.0), (0.0, 0.15, 0.3), (0.0, 0.1, 0.2), (0.0, 0.2, 0.4)
    )


def test_a_long_curve_is_thinned_to_its_ends_and_even_points_between() -> None:
    curve = Curve(tuple(map(float, range(101))), tuple(map(float, range(101))))

    assert thinned(curve, 5).epochs == thinned(curve, 5).mean == (0.0, 25.0, 50.0, 75.0, 100.0)
    assert thinned(curve, 101) == curve


def test_provenance_counts_the_runs_that_the_numbers_come_from(tmp_path: Path) -> None:
    write_pruned(tmp_path, "snip1", 0.1, 1, device="cuda:0")
    write_pruned(tmp_path, "snip1", 0.1, 2)
    write_pruned(tmp_path, "snip1", 0.1, 3, None)

    found = page(tmp_path).provenance

    assert (found.number, found.seconds, found.first, found.last) == (2, 3.0, FINISHED, FINISHED)
    assert dict(found.devices) == {"cpu": 1, "cuda:0": 1}
    assert found.versions == (({"torch": "2.15.0"}, 2),)
    assert found.data == (("digits", "f" * 64, 2),)
    assert found.replicates == ((1, 1), (2, 1))


def test_unknown_values_and_keys_are_refused(tmp_path: Path) -> None:
    write_pruned(tmp_path, "snip1", 0.1)

    for options in ({"value": "test_acuracy"}, {"by": ["stratgy"]}, {"where": "stratgy=snip1"}):
        with pytest.raises(UsageError):
            page(tmp_path, **options)


def test_layers_are_in_the_order_of_the_network(tmp_path: Path) -> None:
    names = ["conv.weight", "blocks.2.conv1.weight", "blocks.2.conv2.weight", "blocks.10.conv1.weight", "fc.weight"]
    shapes = [(8, 3, 3, 3), *[(8, 8, 3, 3)] * 3, (10, 8)]
    layers = dict.fromkeys(sorted(names), (0.5, 0.5))
    write_pruned(tmp_path, "snip1", 0.5, layers=layers, shapes=dict(zip(names, shapes, strict=True)))

    (found,) = page(tmp_path).layers

    assert found is not None
    assert list(found.names) == names


@pytest.mark.parametrize("steps, is_drawn", [((0, 20), False), ((0, 10, 20), True)])
def test_a_training_curve_needs_three_steps_and_the_page_says_so(
    tmp_path: Path, steps: tuple[int, ...], is_drawn: bool
) -> None:
    write_pruned(tmp_path, "snip1", 0.5, metrics={"test_accuracy": dict.fromkeys(steps, 0.5)})

    found = page(tmp_path)

    assert ("test_accuracy" in found.training[0]) == is_drawn
    assert ("No training curves of test_accuracy" in found.no_curves) != is_drawn
    assert bool(found.no_curves) != is_drawn


def test_the_title_counts_lines_whose_names_are_long(tmp_path: Path) -> None:
    for strategy in ("snip1", "synflow", "a_rather_long_name_of_a_strategy", "another_rather_long_name"):
        write_pruned(tmp_path, strategy, 0.5)

    assert page(tmp_path).title == "4 strategies on digits"
    assert page(tmp_path, where="strategy=snip1,strategy=synflow").title == "snip1 and synflow on digits"
