"""Estimates of the time of runs of any task, and the table of runs that are in progress."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

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


def branches(root: Path, strategy: str, **values: Any) -> list[PlannedRun]:
    """Return the planned branches of two replicates that prune a network before training, unfinished."""
    main = described("breast_cancer")
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


def test_scoring_to_an_effective_density_is_timed_with_its_bisection() -> None:
    def seconds(**values: Any) -> float:
        pruning = PruningHparams.of({"strategy": "synflow", "prune_iterations": 20, **values})
        desc = described("breast_cancer")
        timed = make_platform(PlatformHparams(threads=1)).launch(partial(time_scoring, desc, pruning))
        return timed["scoring"]

    assert seconds(effective_density=0.5) > 3 * seconds(density=0.5)


@pytest.mark.parametrize("strategy", ["fisher100", "hutchinson100", "grasp100"])
def test_scoring_with_many_examples_is_estimated_by_few(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desc, pruning = described("breast_cancer"), PruningHparams.of({"strategy": strategy, "density": 0.5})

    def seconds() -> float:
        return make_platform(PlatformHparams(threads=1)).launch(partial(time_scoring, desc, pruning))["scoring"]

    monkeypatch.setattr("training.jobs.timing._SECONDS", 0.0)
    by_few = seconds()
    monkeypatch.setattr("training.jobs.timing._SECONDS", math.inf)

    assert by_few < 10 * seconds()
