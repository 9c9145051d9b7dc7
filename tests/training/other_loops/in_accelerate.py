"""accelerate in one process, or with DDP in several: zero after every step, saved, loaded and resumed."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from loop_checks import assert_pruned_are_zero, assert_same, refused  # type: ignore[import-not-found]
from torch import nn

from open_prune import accelerate_sparse, prune

DRAWN = torch.Generator().manual_seed(0)
EXAMPLES = torch.utils.data.TensorDataset(torch.randn(48, 12, generator=DRAWN), torch.arange(48) % 4)
CASES: tuple[tuple[str | None, dict[str, Any]], ...] = (
    (None, {}),
    ("rigl", {"mask_update_frequency": 2, "end": 24}),
    ("gmp", {"gmp_density": 0.2, "gmp_frequency": 2, "end": 24}),
)


def build(technique: str | None, options: dict[str, Any]) -> tuple[Any, ...]:
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 4))
    mask = prune(model, "random", density=0.3, allocation="erk")
    batches = torch.utils.data.DataLoader(EXAMPLES, batch_size=4)
    prepared = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=0.05), batches)
    training = accelerate_sparse(accelerator, prepared[1], prepared[0], technique, mask=mask, **options)
    return accelerator, *prepared, training


def train(accelerator: Any, model: Any, optimizer: Any, batches: Any, training: Any) -> None:
    for _ in range(2):
        for inputs, targets in batches:
            with accelerator.accumulate(model):
                accelerator.backward(nn.functional.cross_entropy(model(inputs), targets))
                optimizer.step()
                optimizer.zero_grad()
            assert_pruned_are_zero(model, training.mask)


def check_case(technique: str | None, options: dict[str, Any]) -> None:
    first = build(technique, options)
    train(*first)
    first[0].save_state(f"state_{technique}")
    train(*first)
    steps = 24 // first[0].num_processes
    assert first[-1].steps == steps and first[-1].mask.density < 0.301

    second = build(technique, options)
    second[0].load_state(f"state_{technique}")
    assert_pruned_are_zero(second[1], second[-1].mask)
    train(*second)
    assert_same(first[1], second[1])
    assert first[-1].mask == second[-1].mask
    assert second[-1].steps == steps


def check_scaler() -> None:
    """Check that a scaler of accelerate, which keeps the optimizer's step, calls the techniques."""
    model = nn.Linear(6, 4)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    optimizer = AcceleratedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), scaler=scaler)
    training = accelerate_sparse(Accelerator(cpu=True), optimizer, model, "set", density=0.5, end=6)
    for factor in (1.0, torch.inf, 1.0):
        optimizer.zero_grad()
        scaler.scale(model(torch.randn(4, 6)).square().sum() * factor).backward()
        optimizer.step()
        assert optimizer.step_was_skipped == (factor != 1)
        assert_pruned_are_zero(model, training.mask)
    assert training.steps == 2


def check_refusals() -> None:
    model = nn.Linear(6, 4)
    plain = torch.optim.SGD(model.parameters(), lr=0.1)
    accelerator = Accelerator(cpu=True)
    prepared = accelerator.prepare(plain)
    options: dict[str, Any] = {"density": 0.5, "end": 6}
    refused(lambda: accelerate_sparse(accelerator, plain, model, "set", **options), "optimizer: call accelerator.prep")
    refused(lambda: accelerate_sparse(3, prepared, model, "set", **options), "accelerator: it must be an Accelerator")
    refused(lambda: accelerate_sparse(accelerator, prepared, model, "set", density=0.5), "end: the loop has no last")
    refused(lambda: accelerate_sparse(accelerator, prepared, model), "technique: name one")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for technique, options in CASES:
        check_case(technique, options)
    check_scaler()
    check_refusals()
