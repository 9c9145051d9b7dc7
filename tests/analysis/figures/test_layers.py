"""Densities of layers, as the masks have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.figures.layers import in_order
from analysis.figures.plot import plot
from analysis.rows.run import open_run
from foundations.errors import UsageError
from foundations.storage import sealed_json
from foundations.storage.run import SPARSITY, Run
from tests.analysis.figures.conftest import STRATEGIES, branch_in
from tests.foundations.toy_descriptions import rewrite


def test_direct_densities_are_those_of_the_masks(grid: Path) -> None:
    drawn = plot("layers", grid)

    (axes,) = drawn.figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    for strategy in STRATEGIES:
        runs = [open_run(str(branch_in(grid, strategy, number).location), grid) for number in (1, 2)]
        masks = [run.mask() for run in runs]
        assert masks[0] is not None and masks[1] is not None
        expected = [
            sum(float(mask[name].double().mean()) for mask in masks if mask is not None) / 2
            for name in ("fc_layers.0.weight", "fc.weight")
        ]
        points = [point for point in drawn.points if (point["strategy"], point["kind"]) == (strategy, "direct")]
        assert [point["layer"] for point in points] == ["fc_layers.0.weight", "fc.weight"]
        assert [point["mean"] for point in points] == pytest.approx(expected)
        assert list(lines[strategy].get_ydata()) == pytest.approx([100 * each for each in expected])  # type: ignore[arg-type]


def test_effective_densities_are_those_of_the_reports(grid: Path) -> None:
    drawn = plot("layers", grid, where="strategy=random")

    reports = [branch_in(grid, "random", number).sparsity() for number in (1, 2)]
    for point in drawn.points:
        if point["kind"] == "effective":
            values = [report["layers"][point["layer"]]["effective_density"] for report in reports if report]
            assert point["mean"] == pytest.approx(sum(values) / 2)
            assert [float(value) for value in str(point["values"]).split()] == values
    assert {point["kind"] for point in drawn.points} == {"direct", "effective"}
    assert {point["kind"] for point in plot("layers", grid, direct_only=True).points} == {"direct"}


def test_a_layer_of_which_nothing_is_left_is_a_cross_at_the_axis(own_grid: Path) -> None:
    for number in (1, 2):
        _rewrite(branch_in(own_grid, "random", number), "fc.weight", 0.0)

    drawn = plot("layers", own_grid)

    (axes,) = drawn.figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    cross = lines["_collapsed random"]
    assert list(cross.get_xdata()) == [1]  # type: ignore[arg-type]
    assert list(cross.get_ydata()) == pytest.approx([axes.get_ylim()[0]])  # type: ignore[arg-type]
    assert "_collapsed magnitude" not in lines
    assert any(note.startswith("random: nothing is left") for note in drawn.notes)


def test_a_report_that_is_not_that_of_the_manifest_is_left_out_and_said_so(own_grid: Path) -> None:
    run = branch_in(own_grid, "random")
    path = run.folder / SPARSITY
    path.write_text(path.read_text().replace('"density": 0.3', '"density": 0.9'))

    drawn = plot("layers", own_grid)

    named = f"{run.location.digest}/{run.location.replicate}"
    assert not any(named in str(point["addresses"]).split() for point in drawn.points)
    assert any("damaged" in note and run.location.digest[:8] in note for note in drawn.notes)


def test_dense_networks_have_no_line_and_no_note(grid: Path) -> None:
    drawn = plot("layers", grid)

    assert {point["strategy"] for point in drawn.points} == set(STRATEGIES)
    assert not any("Left out" in note for note in drawn.notes)


def test_runs_without_a_mask_are_an_error(grid: Path) -> None:
    with pytest.raises(UsageError, match="mask"):
        plot("layers", grid, where="branch=")


@pytest.mark.parametrize(
    "name", ["mnist_lenet_300_100", "cifar_vgg_16", "cifar_resnet_8", "digits_lenet_40_20", "tost_lenet5_mnist"]
)
def test_layers_are_in_the_order_of_the_network(name: str) -> None:
    from pruning.paths.graph import trace
    from training.desc import TrainDesc
    from training.job import initialized_model
    from training.recipes import recipe

    desc = TrainDesc.of(recipe(name))
    model = initialized_model(desc, 1)
    found = [node.layer for node in trace(model, desc.dataset.input_shape).layers if node.layer]

    order = in_order({name: list(model.get_parameter(name).shape) for name in sorted(found)})

    assert [each for each in order if "shortcut" not in each] == [each for each in found if "shortcut" not in each]


def _rewrite(run: Run, layer: str, density: float) -> None:
    """Write another density into a run's report, and the file's digest into its manifest."""
    report = run.sparsity()
    assert report is not None
    report["layers"][layer]["density"] = report["layers"][layer]["effective_density"] = density
    rewrite(run, SPARSITY, sealed_json.to_bytes(report))
