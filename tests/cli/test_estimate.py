"""Estimates of the time of runs of any task, and the table of runs that are in progress."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from branches.desc import BranchDesc, BranchHparams
from cli.commands.watch import drawn
from cli.progress.estimate import Estimate, scoring_of
from cli.progress.rates import Rates
from foundations.description.desc import RunRef, StateOf
from foundations.environment import Environment
from foundations.plan import PlannedRun, Target, plan
from foundations.storage.locks import lock
from platforms.platform import PlatformHparams, make_platform
from pruning.hparams import PruningHparams
from training.desc import TrainDesc
from training.jobs.timing import time_scoring

START, STATE, ITERATION, EXAMPLE = 1.0, 0.5, 0.01, 0.001
VALUES: dict[str, dict[str, Any]] = {
    "breast_cancer": {"model_name": "mlp_8"},
    "diabetes": {"model_name": "mlp_8"},
    "kjv": {"model_name": "gpt_1_16_2", "sequence_length": 16},
    "modular_arithmetic": {"model_name": "encoder_1_16_2"},
}


class TimedRates:
    """The seconds of a made machine, of any network."""

    is_here, timed, took = True, 0, 0.0

    def get(self, *_: Any) -> dict[str, float]:
        return {"start": START, "state": STATE, "iteration": ITERATION, "example": EXAMPLE, "scoring": 0.0}


def described(name: str, **values: Any) -> TrainDesc:
    return TrainDesc.of({"dataset_name": name, "training_steps": "10ep", **VALUES[name], **values})


@pytest.mark.parametrize(("every", "evaluations"), [(1, 11), (3, 5), (10, 2), (50, 2), (math.inf, 2)])
@pytest.mark.parametrize("name", VALUES)
def test_an_estimate_counts_the_evaluations_of_a_run(tmp_path: Path, name: str, every: float, evaluations: int) -> None:
    desc = described(name, validation_examples=5)
    planned = list(plan([Target(desc, 1)], tmp_path))
    examples = desc.dataset.spec.num_test + 5

    seconds = Estimate(rates=cast("Rates", TimedRates()), evaluate_every=every).seconds(planned, 1)

    states = sum(len(each.missing()) for each in planned)
    expected = START + states * STATE + desc.end.iteration * ITERATION + evaluations * examples * EXAMPLE
    assert seconds == pytest.approx(expected)


@pytest.mark.parametrize("name", VALUES)
def test_runs_of_every_task_are_shown_while_they_are_computed(tmp_path: Path, name: str) -> None:
    (planned,) = plan([Target(described(name), 1)], tmp_path)
    planned.run.create(planned.desc)

    with lock(planned.run.lock_path, "it", lambda _: None) as holder:
        holder.note({"doing": "it", "done": 3, "total": 40, "unit": "it", "speed": 12.3456})
        shown = drawn(tmp_path, [], [])

    assert planned.run.location.digest[:8] in shown
    assert "running" in shown and "it 3 of 40" in shown and "12.3 it/s" in shown
    assert "Nothing is being computed" in drawn(tmp_path, [], [])


def branches(root: Path, strategy: str, of: dict[str, Any] | None = None, **values: Any) -> list[PlannedRun]:
    """Return the planned branches of two replicates that prune a network before training, unfinished."""
    main = described("breast_cancer", **(of or {}))
    start = StateOf.at(RunRef(main), "0it", "prune_step")
    pruning = PruningHparams.of({"strategy": strategy, "density": 0.5, **values})
    desc = BranchDesc(main=main, pruning=pruning, scored=start, state=start, branch=BranchHparams())
    return [each for number in (1, 2) for each in plan([Target(desc, number)], root) if each.is_target]


def finished(planned: PlannedRun, seconds: float) -> PlannedRun:
    """Return a planned run as if it had finished after some seconds."""
    return replace(planned, manifest=cast("Any", SimpleNamespace(wall_seconds=seconds)))


def test_runs_take_the_time_of_finished_ones_that_were_scored_alike(tmp_path: Path) -> None:
    slow, quick = branches(tmp_path, "hutchinson10"), branches(tmp_path, "snip10")
    other, longer = branches(tmp_path, "grasp10"), branches(tmp_path, "snip10", prune_iterations=7)
    estimate = Estimate([finished(slow[0], 90.0), finished(quick[0], 3.0)])

    assert estimate.seconds([slow[1]], 1) == pytest.approx(90.0)
    assert estimate.seconds([quick[1]], 1) == pytest.approx(3.0)
    assert estimate.seconds([other[1], longer[1]], 1) == pytest.approx(2 * 3.0)
    assert estimate.said([slow[1], quick[1]], 1) == "about 93 s of computing"
    assert "without scoring by grasp10, snip10" in estimate.said([other[1], longer[1], quick[1]], 1)


def test_no_method_is_named_whose_scoring_takes_a_moment(tmp_path: Path) -> None:
    quick = [branches(tmp_path, strategy)[0] for strategy in ("magnitude", "random")]
    estimate = Estimate([finished(branches(tmp_path, "snip10")[0], 3.0)])

    assert "without" not in estimate.said(quick, 1)
    assert "without scoring by synflow" in estimate.said([*quick, branches(tmp_path, "synflow")[0]], 1)


def test_scoring_that_takes_too_long_is_named_and_not_timed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = replace(Environment.read(tmp_path), cache=tmp_path / "cache")
    planned = branches(tmp_path, "synflow", prune_iterations=3)
    known = Estimate([finished(branches(tmp_path, "random")[0], 3.0)], Rates(PlatformHparams(), 1, environment))

    monkeypatch.setattr("cli.progress.rates._LONGEST_CASE", 1e-6)
    monkeypatch.setattr("cli.progress.rates._LOOK_EVERY", 1e-3)
    known.time(planned)
    monkeypatch.undo()
    again = Rates(PlatformHparams(), 1, environment)
    again.time([case for each in planned if (case := scoring_of(each)) is not None])

    assert "without scoring by synflow" in known.said(planned, 1)
    assert (again.timed, again.took) == (0, 0.0)


class RatesOf:
    """Iterations of the larger network take thrice as long; methods were timed on the smaller one only, or on none."""

    is_here, timed, took = True, 0, 0.0

    def __init__(self, *timed: str) -> None:
        self.strategies = timed

    def get(self, desc: TrainDesc, pruning: PruningHparams | None = None) -> dict[str, float] | None:
        is_small = desc.model.model_name == "mlp_8"
        if pruning is None:
            return {**TimedRates().get(), "iteration": ITERATION if is_small else 3 * ITERATION}
        return {"scoring": 5.0} if is_small and pruning.strategy in self.strategies else None

    def time(self, *_: Any) -> None: ...


def test_a_scoring_that_was_not_timed_takes_its_time_on_another_network_by_that_of_an_iteration(tmp_path: Path) -> None:
    def estimated(*timed: str) -> tuple[float | None, str]:
        estimate = Estimate(rates=cast("Rates", RatesOf(*timed)))
        estimate.time(planned)
        return estimate.seconds(planned, 1), estimate.said(planned, 1)

    small, large = (branches(tmp_path, "grasp10", of={"model_name": name})[0] for name in ("mlp_8", "mlp_64"))
    planned = [small, large]

    (without, unknown), (by_others, named) = estimated(), estimated("grasp10")

    assert without is not None and by_others == pytest.approx(without + 5.0 + 3 * 5.0)
    assert "without scoring by grasp10" in unknown
    assert "with scoring by grasp10 estimated from other networks" in named and "without" not in named


def test_a_timing_that_the_end_of_all_cuts_off_is_not_taken_for_one_that_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = replace(Environment.read(tmp_path), cache=tmp_path / "cache")
    cases = [case for each in branches(tmp_path, "synflow") if (case := scoring_of(each)) is not None]
    rates = Rates(PlatformHparams(), 1, environment)

    monkeypatch.setattr("cli.progress.rates.LONGEST", 5e-3)
    monkeypatch.setattr("cli.progress.rates._LOOK_EVERY", 1e-3)
    rates.time(cases)
    monkeypatch.undo()
    again = Rates(PlatformHparams(), 1, environment)
    again.time(cases)

    assert (rates.timed, again.timed) == (0, 1)


def test_scoring_to_an_effective_density_is_timed_with_its_bisection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.jobs.timing._timed", lambda *_: 0.01)

    def seconds(**values: Any) -> float:
        pruning = PruningHparams.of({"strategy": "synflow", "prune_iterations": 20, **values})
        desc = described("breast_cancer")
        timed = make_platform(PlatformHparams(threads=1)).launch(partial(time_scoring, desc, pruning))
        return timed["scoring"]

    assert seconds(effective_density=0.5) > 3 * seconds(density=0.5)


@pytest.mark.parametrize("strategy", ["fisher100", "hutchinson100", "grasp100"])
def test_scoring_with_many_examples_is_estimated_by_few(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desc, pruning = described("breast_cancer"), PruningHparams.of({"strategy": strategy, "density": 0.5})
    scored = []

    def timed(work: Callable[[int], None], examples: int, _device: torch.device) -> float:
        work(examples)
        scored.append(examples)
        return 0.01 + 2e-4 * examples

    def seconds() -> float:
        return make_platform(PlatformHparams(threads=1)).launch(partial(time_scoring, desc, pruning))["scoring"]

    monkeypatch.setattr("training.jobs.timing._timed", timed)
    monkeypatch.setattr("training.jobs.timing._SECONDS", 0.0)
    by_few, few = seconds(), max(scored)
    monkeypatch.setattr("training.jobs.timing._SECONDS", math.inf)

    assert by_few == pytest.approx(seconds())
    assert 10 * few < max(scored)
