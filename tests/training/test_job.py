"""The number of times that a job computes its start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.small_runs import context, oneshot_desc, train_desc
from training.jobs.compute import complete, ensure_states

COUNTED = {
    "network": "training.job.build_model",
    "initial state of a training": "training.job.TrainJob.initial_state",
    "initial state of a branch": "branches.job.BranchJob.initial_state",
    "mask": "training.masking.mask_from_hparams",
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of expensive functions."""
    import training.job
    import training.masking  # noqa: F401 (their names are counted)
    from foundations.registry import load

    found: Counter[str] = Counter()

    def counted(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            found[what] += 1
            return function(*args, **kwargs)

        return call

    for what, path in COUNTED.items():
        owner, _, name = path.rpartition(".")
        module, _, kind = owner.rpartition(".")
        holder = load(f"{module}:{kind}")
        monkeypatch.setattr(holder, name, counted(what, getattr(holder, name)))
    return found


def test_a_training_builds_one_network(tmp_path: Path, digits: Path, calls: Counter[str]) -> None:
    complete(train_desc(), context(tmp_path, digits))

    assert calls == {"network": 1, "initial state of a training": 1}


def test_a_training_that_resumes_draws_no_initialization_again(
    tmp_path: Path, digits: Path, calls: Counter[str]
) -> None:
    desc = train_desc()
    ensure_states(desc, context(tmp_path, digits), [desc.start, desc.start.at(7)])
    calls.clear()

    complete(desc, context(tmp_path, digits))

    assert calls == {"network": 1}


def test_a_fresh_branch_builds_two_networks_and_selects_its_mask_once(
    tmp_path: Path, digits: Path, calls: Counter[str]
) -> None:
    complete(oneshot_desc("snip10"), context(tmp_path, digits))

    assert calls.pop("network") == 2
    assert calls == {"initial state of a training": 1, "initial state of a branch": 1, "mask": 1}


def test_a_branch_that_trains_another_state_than_it_scores_selects_its_mask_once(
    tmp_path: Path, digits: Path, calls: Counter[str]
) -> None:
    complete(oneshot_desc("snip10", prune_step="2ep", state_step="3it"), context(tmp_path, digits))

    assert calls.pop("network") <= 4
    assert calls == {"initial state of a training": 1, "initial state of a branch": 1, "mask": 1}


def test_a_state_of_a_complete_branch_is_replayed_with_the_mask_that_it_kept(
    tmp_path: Path, digits: Path, calls: Counter[str]
) -> None:
    desc = oneshot_desc("snip10")
    complete(desc, context(tmp_path, digits))
    calls.clear()

    complete(desc, context(tmp_path, digits), [desc.start.at(4), desc.start.at(9)])

    assert calls == {"network": 1, "initial state of a branch": 1}


def test_a_branch_that_resumes_selects_no_mask_again(tmp_path: Path, digits: Path, calls: Counter[str]) -> None:
    desc = oneshot_desc("snip10")
    ensure_states(desc, context(tmp_path, digits), [desc.start, desc.start.at(7)])
    calls.clear()

    complete(desc, context(tmp_path, digits))

    assert calls == {"network": 1}


def test_a_complete_run_is_reused_without_a_network(tmp_path: Path, digits: Path, calls: Counter[str]) -> None:
    complete(oneshot_desc("snip10"), context(tmp_path, digits))
    calls.clear()

    assert complete(oneshot_desc("snip10"), context(tmp_path, digits)).reused
    assert calls == {}
