"""Estimates of the time of runs of any task, and the table of runs that are in progress."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pytest

from cli.commands.watch import drawn
from cli.progress.estimate import Estimate
from cli.progress.rates import Rates
from foundations.plan import Target, plan
from foundations.storage.locks import lock
from training.desc import TrainDesc

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
