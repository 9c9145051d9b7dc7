"""Cyclic training against a plain loop in float64, and the lengths of cycles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from foundations.errors import UsageError
from tests.training.small_runs import train_desc
from tests.training.techniques.toy_training import ToyTraining, batch, network, run
from training.techniques.cyclic import CyclicHparams


def test_twenty_steps_are_those_of_a_plain_loop_with_a_new_optimizer_in_each_cycle() -> None:
    values: dict[str, Any] = {"lr_schedule": "cosine", "warmup_steps": "2it", "training_steps": "20it"}
    training = ToyTraining(train_desc(lr=0.2, momentum=0.9, weight_decay=0.01, **values))
    run(training, 20, technique="cyclic", cycles=2, cycle_lengths="linear_increase")

    plain, iteration = network(), 0
    for length in (6, 14):
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.2, momentum=0.9, weight_decay=0.01)
        for t in range(length):
            cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * max(0, t - 2) / (length - 2), dtype=torch.float64)))
            optimizer.param_groups[0]["lr"] = 0.2 * float(cosine) * min(1.0, t / 2)
            x, labels = batch(iteration)
            optimizer.zero_grad()
            F.cross_entropy(plain(x), labels).backward()
            optimizer.step()
            iteration += 1
    for ours, theirs in zip(training.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("lengths", "bounds"),
    [
        ("constant", [0, 25, 50, 75, 100]),
        ("linear_increase", [0, 10, 30, 60, 100]),
        ("linear_decrease", [0, 40, 70, 90, 100]),
        ("exponential_increase", [0, 6, 20, 46, 100]),
        ("exponential_decrease", [0, 53, 80, 93, 100]),
    ],
)
def test_cycles_fill_the_training(lengths: str, bounds: list[int]) -> None:
    assert CyclicHparams(cycles=4, cycle_lengths=lengths).bounds(100) == bounds


def test_more_cycles_than_iterations_are_refused() -> None:
    with pytest.raises(UsageError, match="too few for 19 cycles") as caught:
        train_desc(technique="cyclic", cycles=19)
    assert caught.value.hparams == ("cycles",)
