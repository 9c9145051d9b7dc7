"""Callbacks around a training step, and their frequencies."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from foundations.description.step import Step
from foundations.interrupts import Interrupts
from foundations.metrics import Metric, Metrics, written
from foundations.reporter import Reporter
from training.loop.loop import Callback


def at_steps(steps: Collection[Step], callback: Callback) -> Callback:
    """Call the callback at some steps only."""
    wanted = {step.iteration for step in steps}

    def called(step: Step) -> None:
        if step.iteration in wanted:
            callback(step)

    return called


def where_best(metrics: Metrics, headline: Metric, callback: Callback) -> Callback:
    """Call the callback at each step where the headline metric of held out examples is better than ever before."""

    def called(step: Step) -> None:
        is_measured = (headline.best_by, step.iteration) in metrics.values
        if is_measured and metrics.best_iteration(headline) == step.iteration:
            callback(step)

    return called


def every_epoch(callback: Callback, every: int = 1) -> Callback:
    """Call the callback at the start of each epoch, or of every few, counted from the first of all."""

    def called(step: Step) -> None:
        if step.it == 0 and step.ep % every == 0:
            callback(step)

    return called


def record(measure: Callable[[], dict[str, float] | None], metrics: Metrics, say: Callable[[str], None]) -> Callback:
    """Measure and record, once for each step, and report all values of the step in a line.

    measure: returns None if it was stopped; then nothing is recorded, and a resumed training measures again.
    """

    def called(step: Step) -> None:
        if ("test_loss", step.iteration) in metrics.values:
            return
        others = {name: value for (name, at), value in metrics.values.items() if at == step.iteration}
        values = measure()
        if values is None:
            return
        for name, value in values.items():
            metrics.add(name, step.iteration, value)
        words = "  ".join(f"{name} {written(value)}" for name, value in (values | others).items())
        say(f"ep {step.ep} it {step.it}  {words}")

    return called


def show_progress(reporter: Reporter, what: str, start: Step, end: Step) -> Callback:
    """Report the progress of the training."""

    def called(step: Step) -> None:
        done, total = step.iteration - start.iteration, end.iteration - start.iteration
        reporter.progress(what, done, total, "it")

    return called


def checkpoint_in_time(
    save: Callback, every_seconds: float, interrupts: Interrupts, clock: Callable[[], float] = time.monotonic
) -> Callback:
    """Checkpoint when enough time has passed since the last one, and at once when the process is asked to stop.

    Must be the last callback, so that a checkpoint holds all that was measured at its step.
    """
    last = clock()

    def called(step: Step) -> None:
        nonlocal last
        stop = interrupts.signal_number is not None
        if stop or clock() - last >= every_seconds:
            save(step)
            last = clock()
        if stop:
            raise interrupts.interrupted(continues_at(step))

    return called


def continues_at(step: Step) -> str:
    """Return the message about a training that was stopped after a checkpoint."""
    return f"Checkpoint at step {step}; the same command continues from there."


def stop_when_asked(interrupts: Interrupts) -> Callback:
    """Stop at once when the process is asked to stop and there is nothing to checkpoint."""

    def called(_step: Step) -> None:
        if interrupts.signal_number is not None:
            raise interrupts.interrupted("The same command starts the replay again.")

    return called
