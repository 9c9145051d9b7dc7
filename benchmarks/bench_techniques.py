"""Cost of a training step with each technique, against a step that only keeps a mask.

Processor time of one thread. The trainings take turns, a few steps at a time, so that each meets the same machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.made_runs import network
from benchmarks.timing import Row, in_turn, median_ratio
from foundations.errors import UsageError
from foundations.random_streams import generator
from pruning.prune import prune
from training.desc import TrainDesc
from training.hparams import TechniquesHparams
from training.recipes import recipe
from training.registry import TECHNIQUES
from training.sparse import sparse
from training.structure import transform

STEPS, TURN = 20, 5
"""Steps that are timed together, with one update of the mask; and steps of a turn."""
EVERY = {"mask_update_frequency": STEPS}
OPTIONS: dict[str, dict[str, Any]] = {
    "acdc": {"acdc_density": 0.05, "acdc_prune_at": "1it-181it@20it", "acdc_restore_at": "11it-171it@20it"},
    "continuous_sparsification": {"cs_rounds": 1, "cs_rewind": 1, "cs_temperature_frequency": 5},
    "early_bird": {
        "early_bird_prune_fraction": 0.95,
        "early_bird_frequency": STEPS,
        "early_bird_masks": 2,
        "early_bird_threshold": 1e-12,
    },
    "gem_miner": {"gem_miner_begin": 1, "gem_miner_period": STEPS},
    "gmp": {"gmp_density": 0.05, "gmp_frequency": STEPS},
    "granet": {**EVERY, "granet_density": 0.05},
    "str": {"str_s_init": -6.0},
    "topkast": {"topkast_refresh": STEPS, "topkast_density": 0.05},
    **dict.fromkeys(("itop", "mest", "rigl", "set", "snfs", "srigl"), EVERY),
}
"""Options by technique; others have their defaults."""
FROM_DENSE = ("gmp", "edge_popup", "gem_miner")
"""Techniques that start without the mask: the first would wait until it is as sparse, the others learn their own."""
NOT_MEASURED = ("gradinit", "cyclic")
"""Techniques that have no part in a step: one acts before training, one on the learning rate."""
NETWORKS = {"mnist_lenet_300_100": ((1, 28, 28), 128), "cifar_resnet_20": ((3, 32, 32), 16)}
"""Networks, each with the shape of its examples and the size of its batches."""
ALONE = "a mask alone"


def rows(repeats: int = 7) -> Iterator[Row]:
    """Measure every technique on every network that it can train."""
    torch.set_num_threads(1)
    for name in NETWORKS:
        yield from _of(name, repeats)


def _of(name: str, repeats: int) -> Iterator[Row]:
    shape, size = NETWORKS[name]
    drawn = generator("benchmark")
    batch = torch.randn(size, *shape, generator=drawn), torch.arange(size) % 10
    turns, end = repeats * STEPS // TURN, max(200, 2 * (repeats + 1) * STEPS)
    works = {ALONE: _turn(name, batch, None, end)}
    for technique in sorted(set(TECHNIQUES.spellings()) - set(NOT_MEASURED)):
        try:
            works[technique] = _turn(name, batch, technique, end)
        except UsageError as error:
            print(f"{technique} cannot train {name}: {error}")
    each = in_turn(works, turns, time.process_time)
    many = STEPS // TURN
    times = {label: [sum(found[i : i + many]) for i in range(0, turns, many)] for label, found in each.items()}
    detail = f"{STEPS} steps with one update of the mask, batches of {size}, density 0.1; processor time, paired"
    for label in times:
        if label != ALONE:
            ratio = median_ratio(times[label], times[ALONE])
            yield Row(f"step with {label} / with {ALONE}, {name}", ratio, "", detail)


def _turn(name: str, batch: tuple[torch.Tensor, torch.Tensor], technique: str | None, end: int) -> Callable[[], object]:
    """Return a function that takes the steps of a turn, of a training that ends after `end` steps.

    Raises: UsageError if the technique cannot train the network.
    """
    desc = TrainDesc.of(recipe(name))
    model = network(desc)
    if technique is not None and TECHNIQUES.find(technique).transform is not None:
        transform(model, desc.model, TechniquesHparams.of({"technique": technique}), (0,))
        technique = None  # its work is that of its layers
    mask = None if technique in FROM_DENSE else prune(model, "random", density=0.1, allocation="erk", seed=0)
    if mask is not None:
        mask.apply_(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    training = sparse(optimizer, model, technique, mask=mask, end=end, **OPTIONS.get(technique or "", {}))

    def work() -> None:
        for _ in range(TURN):
            optimizer.zero_grad()
            outputs = model(batch[0])
            loss = training.loss(F.cross_entropy(outputs, batch[1]), outputs, batch[1])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return work
