"""The memory that scoring and stacked trainings take on a device, counted on the simulated one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pruning.prune import prune
from pruning.scoring import scoring
from tests.devices.simulated import DEVICE, MEMORY, OnDevice, simulated_device
from tests.training.small_runs import context, train_desc
from training.job import initialized_model
from training.jobs.together import Stack
from training.loop.trainer import Trainer

EXAMPLES, WIDTH, DEPTH = 2048, 64, 6


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [layer for _ in range(DEPTH) for layer in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 8))


@pytest.mark.parametrize("strategy", ["snip256", "grasp256", "taylor256", "fisher256"])
def test_scoring_keeps_no_more_activations_than_its_bound(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(EXAMPLES, WIDTH), torch.arange(EXAMPLES) % 8
    with simulated_device():
        model = network().to(DEVICE)
        there = x.to(DEVICE), y.to(DEVICE)

        def peak(most: int) -> int:
            monkeypatch.setattr(scoring, "MOST_ACTIVATIONS", most)
            return MEMORY.peak_of(lambda: prune(model, strategy, density=0.5, examples=there))

        whole, bounded = peak(1 << 40), peak(1 << 18)
    activations = EXAMPLES * WIDTH * 4 * 2 * DEPTH
    if strategy == "fisher256":  # gradients of examples, not activations, are its memory, and are bounded already
        assert bounded <= 1.1 * whole
    else:
        assert whole - bounded >= activations // 2


def test_a_stack_takes_the_memory_of_its_networks(tmp_path: Path, digits: Path) -> None:
    def peak(count: int) -> int:
        place = replace(context(tmp_path, digits), platform=OnDevice())
        desc = train_desc(model_name="digits_lenet_300_100", batch_size=32)
        trainers = []
        for number in range(count):
            trainer = Trainer(initialized_model(desc, number), desc, place, place.platform, number)
            trainer.prepare(None, desc.start)
            trainers.append(trainer)
        stack, batches = Stack(trainers), [next(iter(trainer.loader.train_batches(0))) for trainer in trainers]

        def step() -> None:
            stack.compute_gradients(batches)
            for trainer in trainers:
                trainer.optimizer.step()

        step()
        return MEMORY.peak_of(step)

    with simulated_device():
        one, four = peak(1), peak(4)
    assert four <= 5 * one  # gradients and activations of each, and the batches as one
