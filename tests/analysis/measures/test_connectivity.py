"""Error barriers between runs, against networks that are interpolated and evaluated here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.measures.interpolation import interpolated
from analysis.measures.results import measure
from analysis.rows.run import StoredRun, open_run
from foundations.errors import UsageError
from tests.analysis.conftest import Family
from tests.analysis.measures.opened import batches_of, opened
from tests.training.small_runs import context, train_desc
from training.jobs.compute import complete


def line(runs: tuple[StoredRun, StoredRun], points: int, split: str = "test", *, recompute: bool = False) -> list[Any]:
    """Return error and loss of each network on the line between the last states of two runs, in float64."""
    first, second = (run.state() for run in runs)
    model, found = runs[0].model().double(), []
    for alpha in np.linspace(0, 1, points):
        model.load_state_dict(
            {name: (1 - alpha) * part.double() + alpha * second[name].double() for name, part in first.items()}
        )
        if recompute:
            take_statistics(model, [images for images, _ in batches_of(runs[0], "train")])
        wrong, loss, number = 0, 0.0, 0
        for images, labels in batches_of(runs[0], split):
            with torch.no_grad():
                logits = model(images)
            wrong += int((logits.argmax(1) != labels).sum())
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            number += len(labels)
        found.append((wrong / number, loss / number))
    return found


def take_statistics(model: nn.Module, batches: list[Tensor]) -> None:
    """Give batchnorm the mean over the batches of their means and variances, in eval mode."""
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in norms}

    def note(name: str, inputs: Tensor) -> None:
        seen[name].append((inputs.mean((0, 2, 3)), inputs.var((0, 2, 3))))

    hooks = [
        norm.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs[0]))
        for name, norm in norms.items()
    ]
    model.train()
    for images in batches:
        with torch.no_grad():
            model(images)
    model.eval()
    for hook in hooks:
        hook.remove()
    for name, norm in norms.items():
        norm.running_mean = torch.stack([mean for mean, _ in seen[name]]).mean(0)
        norm.running_var = torch.stack([var for _, var in seen[name]]).mean(0)


@pytest.mark.parametrize(
    "options", [{"points": 5}, {"points": 4, "split": "train"}, {"points": 3, "recompute_batchnorm": True}]
)
def test_the_barrier_is_the_largest_error_over_the_mean_of_the_ends(
    resnets: tuple[StoredRun, StoredRun], options: dict[str, Any]
) -> None:
    points = line(
        resnets, options["points"], options.get("split", "test"), recompute=options.get("recompute_batchnorm", False)
    )
    errors, losses = zip(*points, strict=True)

    found = measure("linear_mode_connectivity", *resnets, device="cpu", **options)

    assert found.table["alpha"] == pytest.approx(np.linspace(0, 1, options["points"]))
    assert found.table["error"] == pytest.approx(errors, abs=1.01 / 360)  # an example may fall on the other side
    assert found.table["loss"] == pytest.approx(losses, rel=1e-4)
    measured = found.table["error"]
    assert found.values["barrier"] == pytest.approx(max(measured) - (measured[0] + measured[-1]) / 2)
    assert found.values["max_error"] == max(measured)
    assert found.values["ends_error"] == pytest.approx((measured[0] + measured[-1]) / 2)
    assert found.values["loss_barrier"] == pytest.approx(max(losses) - (losses[0] + losses[-1]) / 2, rel=1e-3, abs=1e-5)


def test_by_default_thirty_networks_are_evaluated_and_the_ends_are_the_runs(family: Family) -> None:
    runs = opened(family, family.training), opened(family, family.levels[0])

    found = measure("linear_mode_connectivity", *runs, device="cpu")

    assert len(found.table["alpha"]) == 30
    for end, run in ((0, runs[0]), (-1, runs[1])):
        assert 1 - found.table["error"][end] == pytest.approx(run.results["test_accuracy"])
        assert found.table["loss"][end] == pytest.approx(run.results["test_loss"])


def test_running_statistics_are_interpolated_and_counts_are_not() -> None:
    first = {"mean": torch.tensor([0.0, 1.0]), "count": torch.tensor(3)}
    second = {"mean": torch.tensor([1.0, 5.0]), "count": torch.tensor(9)}

    assert interpolated(first, second, 0.25)["mean"].tolist() == [0.25, 2.0]
    assert interpolated(first, second, 0.25)["count"] == 3


def test_a_run_has_no_barrier_to_itself(family: Family) -> None:
    run = opened(family, family.training)

    assert measure("linear_mode_connectivity", run, run, device="cpu").values["barrier"] == 0


def test_aligned_networks_have_a_lower_barrier_and_the_same_ends(tmp_path: Path, digits: Path) -> None:
    places = [context(tmp_path, digits, replicate=each) for each in (1, 2)]
    runs = [open_run(str(complete(train_desc(), place).run), tmp_path, digits) for place in places]

    plain, moved = (measure("linear_mode_connectivity", *runs, points=5, align=each) for each in (False, True))

    assert moved.values["loss_barrier"] < plain.values["loss_barrier"]
    for end in (0, -1):
        assert moved.table["loss"][end] == pytest.approx(plain.table["loss"][end], rel=1e-4)


def test_stability_is_over_all_pairs_of_orders_of_the_data(own_family: Family) -> None:
    place = own_family.context
    runs = [
        open_run(str(complete(train_desc(data_order_seed=seed), place).run), place.root, place.datasets)
        for seed in (1, 2, 3)
    ]

    found = measure("sgd_stability", *runs, points=5, device="cpu")

    assert list(zip(found.table["first"], found.table["second"], strict=True)) == [
        (runs[a].address, runs[b].address) for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    pairs = [measure("linear_mode_connectivity", runs[a], runs[b], points=5, device="cpu") for a, b in ((0, 1), (0, 2))]
    for row, pair in enumerate(pairs):
        for name in ("barrier", "max_error", "ends_error", "loss_barrier"):
            assert found.table[name][row] == pair.values[name]
    assert found.values["mean_barrier"] == pytest.approx(np.mean(found.table["barrier"]))
    assert found.values["max_barrier"] == max(found.table["barrier"])


def test_runs_that_differ_in_more_than_the_order_of_data_are_not_compared(own_family: Family) -> None:
    place = own_family.context

    def trained(**flags: Any) -> StoredRun:
        return open_run(str(complete(train_desc(**flags), place).run), place.root, place.datasets)

    first = trained(data_order_seed=1)
    for other, reason in (
        (trained(data_order_seed=2, lr=0.05), "trained in different ways"),
        (opened(own_family, own_family.branch), "do not start from the same weights"),
        (trained(data_order_seed=1), "in the same order"),
    ):
        with pytest.raises(UsageError, match=reason):
            measure("sgd_stability", first, other, device="cpu")


def test_runs_of_different_networks_have_nothing_between_them(
    own_family: Family,
) -> None:
    place = own_family.context
    wide = complete(train_desc(model_name="digits_lenet_20", training_steps="1it"), place)

    with pytest.raises(UsageError, match="different networks"):
        measure(
            "linear_mode_connectivity",
            opened(own_family, own_family.training),
            open_run(str(wide.run), place.root, place.datasets),
            device="cpu",
        )
