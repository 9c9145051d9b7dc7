"""Cost of a training step with a technique, against a step that only keeps a mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.made_runs import network
from benchmarks.timing import Row, in_turn, median_ratio
from foundations.random_streams import generator
from pruning.prune import prune
from training.desc import TrainDesc
from training.recipes import recipe
from training.sparse import sparse

STEPS = 20
"""Steps that are timed together, with one update of the mask."""
EVERY = {"mask_update_frequency": STEPS}
CS = {"cs_rounds": 1, "cs_rewind": 1, "cs_temperature_frequency": 5}
WORKS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "mask alone": (None, {}),
    "rigl": ("rigl", EVERY),
    "set": ("set", EVERY),
    "itop": ("itop", EVERY),
    "granet": ("granet", {**EVERY, "granet_density": 0.05}),
    "snfs": ("snfs", EVERY),
    "mest": ("mest", EVERY),
    "srigl": ("srigl", EVERY),
    "srste": ("srste", {}),
    "ste": ("srste", {"srste_lambda": 0.0}),
    "acdc": ("acdc", {"acdc_density": 0.05, "acdc_prune_at": "1it-41it@20it", "acdc_restore_at": "11it-31it@20it"}),
    "str": ("str", {"str_s_init": -6.0}),
    "continuous_sparsification": ("continuous_sparsification", CS),
    "powerpropagation": ("powerpropagation", {}),
    "topkast": ("topkast", {"topkast_refresh": STEPS, "topkast_density": 0.05}),
}
"""Techniques by name, with their options; each starts from the same mask."""
NETWORKS = {"mnist_lenet_300_100": ((1, 28, 28), 128), "cifar_resnet_20": ((3, 32, 32), 16)}
"""Networks, each with the shape of its examples and the size of its batches."""


def rows(repeats: int = 7) -> list[Row]:
    """Measure every technique on every network."""
    return [row for name in NETWORKS for row in _of(name, repeats)]


def _of(name: str, repeats: int) -> list[Row]:
    shape, size = NETWORKS[name]
    drawn = generator("benchmark")
    batch = torch.randn(size, *shape, generator=drawn), torch.arange(size) % 10
    works = {label: _steps(name, batch, *work, (repeats + 1) * STEPS) for label, work in WORKS.items()}
    times = in_turn(works, repeats)
    detail = f"{STEPS} steps with one update of the mask, batches of {size}, density 0.1; paired"
    return [
        Row(
            f"step with {label} / with a mask alone, {name}",
            median_ratio(times[label], times["mask alone"]),
            "",
            detail,
        )
        for label in WORKS
        if label != "mask alone"
    ]


def _steps(
    name: str, batch: tuple[torch.Tensor, torch.Tensor], technique: str | None, options: dict[str, Any], end: int
) -> Callable[[], object]:
    """Return a function that takes some steps of a training that ends after `end` steps."""
    model: nn.Module = network(TrainDesc.of(recipe(name)))
    mask = prune(model, "random", density=0.1, allocation="erk", seed=0)
    mask.apply_(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    sparse(optimizer, model, technique, mask=mask, end=end, **options)

    def work() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            F.cross_entropy(model(batch[0]), batch[1]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return work
