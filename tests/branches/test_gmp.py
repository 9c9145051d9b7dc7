"""Gradual magnitude pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foundations.errors import UsageError
from tests.branches.small_branches import branch, describe, mask_of, ref_of
from tests.training.small_runs import context, run_of, train_desc
from training.jobs.compute import complete


def test_masks_only_shrink_and_end_at_the_exact_count_with_pruned_weights_at_zero(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    desc = describe("gmp", gmp_end="2ep", gmp_frequency="2it", density=0.1)
    steps = [desc.as_trained.step(f"{t}it") for t in range(19)]

    run = complete(desc, place, steps).run

    mask = mask_of(run)
    kept = [sum(int((run.load_state(step)[name] != 0).sum()) for name in mask) for step in steps]
    assert kept == sorted(kept, reverse=True)
    assert mask.kept == round(mask.total * 0.1)
    last = run.load_state(steps[-1])
    assert all(torch.equal(last[name] != 0, mask[name]) for name in mask)
    report = run.sparsity()
    assert report is not None
    assert report["achieved"]["kept"] == report["requested"]["kept"] == mask.kept


def test_its_end_defaults_to_half_of_the_training() -> None:
    assert describe("gmp").digest == describe("gmp", gmp_end="9it").digest


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"gmp_frequency": "0it"}, "^gmp_frequency: "),
        ({"gmp_begin": "9it", "gmp_end": "8it"}, "^gmp_begin, gmp_end: "),
        ({"gmp_end": "19it"}, "^gmp_begin, gmp_end: "),
    ],
)
def test_a_schedule_that_cannot_be_names_its_hyperparameters(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        describe("gmp", **flags)


def test_of_a_pruned_parent_nothing_is_pruned_until_the_curve_has_passed_its_sparsity(
    tmp_path: Path, digits: Path
) -> None:
    place = context(tmp_path, digits)
    parent = branch(place, "oneshot", density=0.5).run

    run = branch(place, "gmp", parent, gmp_end="2ep", density=0.2).run

    inherited, final = mask_of(parent), mask_of(run)
    assert final.intersection(inherited) == final
    assert final.kept == round(final.total * 0.2)


def test_it_begins_from_any_state_of_any_run(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    other = branch(place, "oneshot", density=0.5, reinitialize=True).run
    step = train_desc().step("7it")

    flags: dict[str, Any] = {
        "state_experiment": ref_of(other),
        "state_step": "7it",
        "start_step": "6it",
        "gmp_begin": "8it",
    }
    run = branch(place, "gmp", **flags, gmp_end="14it", gmp_frequency="3it", density=0.2).run

    first, begun = run.load_state(step.at(6)), other.load_state(step)
    assert all(torch.equal(first[name], begun[name]) for name in begun)
    assert mask_of(run).intersection(mask_of(other)) == mask_of(run)
    assert mask_of(run).kept == round(mask_of(run).total * 0.2)


def test_a_state_is_replayed_with_the_mask_it_had(tmp_path: Path, digits: Path) -> None:
    kept, replayed = (context(tmp_path / name, digits) for name in ("kept", "replayed"))
    desc = describe("gmp", gmp_end="2ep", density=0.1)
    step = train_desc().step("7it")
    complete(desc, kept, [step])

    complete(desc, replayed)
    complete(desc, replayed, [step])

    name = run_of(desc, kept).state_name(step)
    assert (run_of(desc, kept).folder / name).read_bytes() == (run_of(desc, replayed).folder / name).read_bytes()
