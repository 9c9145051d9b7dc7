from __future__ import annotations

from typing import Any

import pytest

from foundations.errors import UsageError
from training.hparams import TrainingHparams


def canonical(**hparams: Any) -> dict[str, Any]:
    return TrainingHparams(**hparams).normalized(391).canonical()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"training_steps": "160ep"}, {"training_steps": "62560it"}),
        ({"training_steps": "160ep"}, {"training_steps": "159ep391it"}),
        ({"milestone_steps": "120ep,80ep", "gamma": 0.1}, {"milestone_steps": "31280it,120ep", "gamma": 0.1}),
        ({"milestone_steps": "80ep", "gamma": 1}, {}),
        ({"milestone_steps": "", "gamma": 0.1}, {}),
        ({"warmup_steps": "0ep"}, {}),
        ({"lr": 1}, {"lr": 1.0}),
        ({"weight_decay": -0.0}, {}),
        ({"nesterov_momentum": 0.9}, {"nesterov_momentum": 0.9, "momentum": 0.9}),
        ({"optimizer_name": "adam", "momentum": 0.9}, {"optimizer_name": "adam"}),
        ({"optimizer_name": "adamw", "nesterov_momentum": 0.9}, {"optimizer_name": "adamw"}),
    ],
)
def test_spellings_of_one_training_are_one(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert canonical(**one) == canonical(**other)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.2},
        {"momentum": 0.9},
        {"nesterov_momentum": 0.9},
        {"weight_decay": 1e-4},
        {"milestone_steps": "80ep,80ep", "gamma": 0.1},
        {"lr_schedule": "cosine"},
        {"warmup_steps": "1it"},
        {"label_smoothing": 0.1},
        {"data_order_seed": 0},
        {"precision": "bf16"},
        {"precision": "tf32"},
        {"optimizer_name": "adam"},
        {"training_steps": "161ep"},
    ],
)
def test_what_changes_a_result_is_in_the_canonical_form(change: dict[str, Any]) -> None:
    assert canonical(**change) != canonical()


def test_a_milestone_that_is_written_twice_is_not_one_that_is_written_once() -> None:
    assert canonical(milestone_steps="80ep,80ep", gamma=0.1) != canonical(milestone_steps="80ep", gamma=0.1)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"milestone_steps": "80ep"}, "milestone_steps, gamma: give both or neither"),
        ({"gamma": 0.1}, "milestone_steps, gamma: give both or neither"),
        (
            {"lr_schedule": "cosine", "milestone_steps": "80ep", "gamma": 0.1},
            "lr_schedule, milestone_steps: 'cosine' has no milestones",
        ),
        ({"momentum": 0.9, "nesterov_momentum": 0.8}, "momentum, nesterov_momentum: they differ"),
        ({"lr": 0.0}, "lr: 0.0 is not a valid value; it must be above 0"),
        ({"momentum": 1.0}, "momentum: 1.0 is not a valid value; it must be at least 0 and below 1"),
        ({"precision": "float16"}, "Did you mean 'float32'"),
    ],
)
def test_impossible_trainings_are_refused(hparams: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainingHparams(**hparams)


@pytest.mark.parametrize("hparam", ["training_steps", "warmup_steps"])
def test_a_step_that_cannot_be_read_is_refused_by_its_name(hparam: str) -> None:
    with pytest.raises(UsageError, match=f"{hparam}: 'soon' is not a step"):
        TrainingHparams.of({hparam: "soon"}).normalized(391)
