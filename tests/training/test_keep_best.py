"""Keeping the state where the headline metric on held out examples was best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.loading.loader import open_loader
from foundations.storage.run import Run
from tests.training.small_runs import context, oneshot_desc, run_of, tensor_digests, train_desc
from tests.training.test_resuming import run_with_stops
from training.job import initialized_model
from training.jobs.compute import complete, ensure_states
from training.loop.evaluation import evaluate

# At this learning rate, accuracy is best after the second of four epochs.
UNSTEADY: dict[str, Any] = {"lr": 0.8, "validation_examples": 157, "training_steps": "4ep"}


def best_of(run: Run) -> int:
    """Return the first iteration of the highest validation accuracy."""
    values = {step: value for (name, step), value in run.metrics().values.items() if name == "validation_accuracy"}
    return min(step for step, value in values.items() if value == max(values.values()))


def test_the_best_state_is_kept_besides_the_first_and_the_last(tmp_path: Path, digits: Path) -> None:
    desc = train_desc(**UNSTEADY)

    run = complete(desc, context(tmp_path, digits, keep_best=True)).run

    best = best_of(run)
    assert 0 < best < desc.end.iteration
    assert run.best_step(5) == desc.start.at(best)
    assert [step.iteration for step in run.kept_states(5)] == [0, best, 20]
    model = initialized_model(desc, 1)
    model.load_state_dict(run.load_state(desc.start.at(best)))
    held_out = open_loader(desc.dataset, digits).validation_batches()
    found = evaluate(model, held_out, 10, examples_are="validation")
    assert found["validation_accuracy"] == run.metrics().values["validation_accuracy", best]


def test_the_address_and_all_other_files_are_the_same(tmp_path: Path, digits: Path) -> None:
    desc = train_desc(**UNSTEADY)

    plain = complete(desc, context(tmp_path / "plain", digits)).run
    kept = complete(desc, context(tmp_path / "kept", digits, keep_best=True)).run

    assert tensor_digests(plain).items() < tensor_digests(kept).items()
    assert len(tensor_digests(kept)) == len(tensor_digests(plain)) + 1


@pytest.mark.parametrize("stops", [(3, 10), range(20)], ids=str)
@pytest.mark.parametrize(
    "desc", [train_desc(**UNSTEADY), oneshot_desc("random", UNSTEADY, density=0.3)], ids=["train", "branch"]
)
def test_a_run_that_was_stopped_keeps_the_same_bytes(tmp_path: Path, digits: Path, desc: Any, stops: Any) -> None:
    run_with_stops(desc, tmp_path / "whole", digits, (), keep_best=True)
    run_with_stops(desc, tmp_path / "stopped", digits, stops, keep_best=True)

    whole, stopped = (run_of(desc, context(tmp_path / name, digits)) for name in ("whole", "stopped"))

    assert whole.best_step(5) in whole.kept_states(5)
    assert tensor_digests(stopped) == tensor_digests(whole)


@pytest.mark.parametrize("until", [3, 12, 20])
def test_a_run_that_was_begun_or_completed_without_it_keeps_it_later(tmp_path: Path, digits: Path, until: int) -> None:
    desc = train_desc(**UNSTEADY)
    place = context(tmp_path / "later", digits)
    at_once = complete(desc, context(tmp_path / "at once", digits, keep_best=True)).run
    if until == 20:
        complete(desc, place)
    else:
        ensure_states(desc, place, [desc.start.at(until)])

    later = complete(desc, context(tmp_path / "later", digits, keep_best=True))

    best = desc.start.at(best_of(at_once))
    assert not later.reused
    assert all(torch.equal(t, at_once.load_state(best)[name]) for name, t in later.run.load_state(best).items())
    assert complete(desc, context(tmp_path / "later", digits, keep_best=True)).reused


def test_without_held_out_examples_nothing_more_is_kept(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()

    run = complete(desc, context(tmp_path, digits, keep_best=True)).run

    assert run.best_step(6) is None
    assert [step.iteration for step in run.kept_states(6)] == [0, 18]
