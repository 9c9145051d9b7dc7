from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from foundations.description.step import Step
from foundations.errors import Interrupted
from foundations.interrupts import Interrupts
from foundations.metrics import Metrics
from training.loop.callbacks import at_steps, checkpoint_in_time, every_epoch, record, stop_when_asked
from training.loop.loop import Callback


def called_at(make: Callable[[Callback], Callback], end: int = 10, epoch_length: int = 4) -> list[int]:
    """Return the iterations at which a callback that `make` wraps is called."""
    seen: list[int] = []
    callback = make(lambda step: seen.append(step.iteration))
    for iteration in range(end + 1):
        callback(Step(iteration, epoch_length))
    return seen


def test_every_epoch_is_where_epochs_begin() -> None:
    assert called_at(every_epoch) == [0, 4, 8]
    assert called_at(lambda callback: every_epoch(callback, 2)) == [0, 8]


def test_at_steps_is_at_those_steps() -> None:
    assert called_at(lambda inner: at_steps([Step(3, 4), Step(9, 4)], inner)) == [3, 9]


def test_a_step_is_measured_and_reported_once() -> None:
    metrics = Metrics()
    lines: list[str] = []
    measured = 0

    def measure() -> dict[str, float]:
        nonlocal measured
        measured += 1
        return {"test_loss": 0.5, "test_accuracy": 0.25}

    callback = record(measure, metrics, lines.append)
    for iteration in (5, 5, 6):
        callback(Step(iteration, 4))

    assert measured == 2
    assert lines == [
        "ep 1 it 1  test_loss 0.5000  test_accuracy 0.2500",
        "ep 1 it 2  test_loss 0.5000  test_accuracy 0.2500",
    ]
    assert metrics.values["test_accuracy", 6] == 0.25


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_checkpoints_come_when_enough_time_has_passed_since_the_last() -> None:
    clock = Clock()
    saved: list[int] = []
    callback = checkpoint_in_time(lambda step: saved.append(step.iteration), 5.0, Interrupts(), clock)
    for iteration in range(12):
        clock.now = float(iteration)
        callback(Step(iteration, 4))

    assert saved == [5, 10]


def test_a_job_that_is_asked_to_stop_checkpoints_at_once_and_stops() -> None:
    interrupts = Interrupts()
    saved: list[int] = []
    callback = checkpoint_in_time(lambda step: saved.append(step.iteration), 1e9, interrupts)
    callback(Step(2, 4))
    interrupts.signal_number = signal.SIGTERM

    with pytest.raises(Interrupted, match="Checkpoint at step 3it") as stop:
        callback(Step(3, 4))

    assert saved == [3]
    assert stop.value.exit_code == 143


def test_a_replay_that_is_asked_to_stop_stops() -> None:
    interrupts = Interrupts()
    callback = stop_when_asked(interrupts)
    callback(Step(2, 4))
    interrupts.signal_number = signal.SIGINT

    with pytest.raises(Interrupted, match="SIGINT"):
        callback(Step(3, 4))
