"""Clipping by norm, and whole trainings against plain loops of torch.optim, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.masks.mask import Mask
from tests.training.small_runs import context, train_desc
from training.job import initialized_model
from training.loop.clipping import clip_gradients
from training.loop.trainer import Trainer

STEPS = 8
OPTIONS: dict[str, Any] = {
    "optimizer_name": "adamw",
    "lr": 0.01,
    "weight_decay": 0.1,
    "no_decay": "biases",
    "adam_beta2": 0.95,
    "clip_grad_norm": 0.3,
    "lr_schedule": "linear",
    "warmup_steps": "2it",
    "min_lr": 0.001,
}


def trainer_of(tmp_path: Path, digits: Path, mask: Mask | None = None, **flags: Any) -> Trainer:
    desc, place = train_desc(**flags), context(tmp_path, digits)
    trainer = Trainer(initialized_model(desc, 1), desc, place, place.platform, 1)
    trainer.model.double()
    trainer.prepare(mask, desc.start)
    return trainer


def train(trainer: Trainer) -> list[tuple[Tensor, Tensor]]:
    """Train some steps in float64, and return their batches."""
    used = []
    for images, labels in trainer._steps(trainer.desc.start, trainer.desc.start.at(STEPS), ()):
        used.append((images.double(), labels))
        trainer.compute_gradients(*used[-1])
    return used


def test_a_training_is_a_plain_loop_of_torch_optim(tmp_path: Path, digits: Path) -> None:
    trainer = trainer_of(tmp_path, digits, **OPTIONS)
    model = initialized_model(trainer.desc, 1).double()
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), foreach=False)
    norms = []

    for t, (images, labels) in enumerate(train(trainer)):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * t / 2 if t < 2 else 0.001 + 0.009 * (18 - t) / 16
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 0.3).item())
        optimizer.step()

    assert max(norms) > 0.3
    torch.testing.assert_close(trainer.model.state_dict(), dict(model.state_dict()), rtol=1e-10, atol=1e-12)


def test_pruned_weights_do_not_count_in_the_norm() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 5).double()
    mask = Mask({"weight": torch.rand(5, 6) < 0.4}, model)
    attached = mask.attach(torch.optim.SGD(model.parameters(), lr=0.1), model)
    model(torch.randn(9, 6).double()).square().sum().backward()
    assert model.weight.grad is not None and model.bias.grad is not None
    before = model.weight.grad.clone()
    expected = torch.cat([before[mask["weight"]], model.bias.grad]).norm()

    found = clip_gradients(model.parameters(), 1.0, attached)

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.weight.grad, before / (expected + 1e-6))


def test_a_gradient_with_a_small_norm_stays_as_it_is() -> None:
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.tensor([0.3, 0.4, 0.0])

    clip_gradients([weight], 0.6)

    assert weight.grad.tolist() == torch.tensor([0.3, 0.4, 0.0]).tolist()


def test_gradients_in_fp16_are_clipped_without_their_scale(tmp_path: Path, digits: Path) -> None:
    flags: dict[str, Any] = {"momentum": 0.0, "weight_decay": 0.0, "clip_grad_norm": 0.01, "lr": 1.0}
    trainer = trainer_of(tmp_path, digits, **flags, precision="fp16")
    trainer.model.float()
    before = [p.detach().clone() for p in trainer.model.parameters()]

    for batch in trainer._steps(trainer.desc.start, trainer.desc.start.at(1), ()):
        trainer.compute_gradients(*batch)
        scaled = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
        assert scaled.norm() > 100

    moved = [(p.detach() - old).flatten() for p, old in zip(trainer.model.parameters(), before, strict=True)]
    assert torch.cat(moved).norm().item() == pytest.approx(0.01, rel=1e-2)
