"""The lottery by hand: train, prune the smallest weights, rewind, again, with the library alone.

Frankle & Carbin 2019 (The Lottery Ticket Hypothesis), with rewinding as in Frankle et al. 2020 (Linear Mode
Connectivity and the Lottery Ticket Hypothesis). Each level has the weights, masks and metrics, bit for bit, of

    python open_prune.py lottery --default_hparams=digits_lenet_40_20 --levels=3 --rewinding_steps=50it

on the same machine. In the repository: PYTHONPATH=. python examples/lottery_by_hand.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_prune import (
    DatasetHparams,
    Loader,
    LoaderConfig,
    Mask,
    ModelHparams,
    build_model,
    ensure_prepared,
    memory_format,
    open_loader,
    prune,
)

NETWORK = "digits_lenet_40_20"
LEVELS, FRACTION = 3, 0.2  # after the dense level 0; of the weights that are left, each level prunes a fifth
REWIND = 50  # the iteration that weights and schedule are rewound to; 0 is the initialization, as in the first paper
EPOCHS, BATCH_SIZE = 12, 64
LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-4
DROPS, GAMMA = (6, 9), 0.1  # the epochs at which the learning rate is multiplied by gamma
DATASETS = Path(os.environ.get("OPEN_PRUNE_DATASETS", "~/open_prune_datasets")).expanduser()


@dataclass
class Level:
    """The outcome of one level of the lottery."""

    number: int
    mask: Mask | None = None
    """The weights that are kept; None at level 0, which is dense."""
    states: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """Weights and buffers by iteration: at the start, at the rewinding step and at the end."""
    metrics: dict[tuple[str, int], float] = field(default_factory=dict)
    """By name and iteration."""


def lottery(
    network: str = NETWORK, levels: int = LEVELS, rewind: int = REWIND, replicate: int = 1, datasets: Path = DATASETS
) -> Iterator[Level]:
    """Yield the levels of the lottery of a network for digits, level 0 first.

    rewind: the iteration to rewind to. replicate: names the random streams of the initialization and of the data order.
    datasets: the folder of prepared datasets; digits are written into it if they are not there.
    """
    ensure_prepared("digits", datasets, allow_download=False, report=print)
    digits = DatasetHparams(dataset_name="digits", batch_size=BATCH_SIZE)

    # 1. Randomly initialize a neural network f(x; θ_0).
    hparams = ModelHparams(model_name=network, model_init="kaiming_normal", batchnorm_init="uniform")
    model = build_model(hparams, outputs=10, inputs=digits.inputs, seed_keys=(replicate,))
    layout = memory_format(torch.device("cpu"), "float32", model)  # others round convolutions differently
    model.to(memory_format=layout)
    batches = open_loader(digits, datasets, LoaderConfig(memory_format=layout, order_key=replicate))

    # 2. Train it for j iterations, keeping the weights of iteration k on the way.
    level = Level(0)
    train(model, batches, level, start=0, keep=rewind)
    rewound = level.states[rewind]
    yield level

    for number in range(1, levels + 1):
        # 3. Prune the smallest of the trained weights, within the mask, to a density of 0.8^n.
        mask = prune(model, "magnitude", fraction=1 - (1 - FRACTION) ** number, mask=level.mask)
        # 4. Reset the remaining weights to their values in θ_k, and train on from there.
        model.load_state_dict(rewound)
        level = Level(number, mask)
        train(model, batches, level, start=rewind)
        yield level


def train(model: nn.Module, batches: Loader, level: Level, start: int, keep: int | None = None) -> None:
    """Train a network with a level's mask from an iteration to the end, filling in the level's states and metrics.

    keep: an iteration whose state is kept, besides the first and the last.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)
    if level.mask is not None:
        level.mask.apply_(model)
        level.mask.attach(optimizer, model)  # pruned weights, and their momentum, stay zero
    per_epoch = -(-batches.num_train // BATCH_SIZE)
    sums = torch.zeros(3, dtype=torch.float64)  # loss, correct answers and examples of the epoch so far

    for iteration in range(start, EPOCHS * per_epoch + 1):
        epoch, number = divmod(iteration, per_epoch)
        if number == 0:
            if sums[2]:
                loss, correct, examples = sums.tolist()
                level.metrics["train_loss", iteration] = loss / examples
                level.metrics["train_accuracy", iteration] = correct / examples
                sums.zero_()
            level.metrics |= {(name, iteration): value for name, value in evaluate(model, batches).items()}
        if iteration in (start, keep) or epoch == EPOCHS:
            level.states[iteration] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if epoch == EPOCHS:
            return
        if number == 0 or iteration == start:
            stream = batches.train_batches(epoch, number)  # the order depends on the replicate and the epoch alone
        optimizer.param_groups[0]["lr"] = LR * GAMMA ** sum(drop * per_epoch <= iteration for drop in DROPS)
        images, labels = next(stream)
        optimizer.zero_grad()
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        hits = (logits.argmax(1) == labels).sum().item()
        sums += torch.tensor([loss.item() * len(labels), hits, len(labels)], dtype=torch.float64)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Loader) -> dict[str, float]:
    """Return loss and accuracies on the test set."""
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64)  # loss, correct answers, and answers among the first five
    for images, labels in batches.test_batches():
        logits = model(images)
        total = F.cross_entropy(logits, labels, reduction="sum").item()
        hits = (logits.argmax(1) == labels).sum().item()
        in_top5 = (logits.topk(5).indices == labels[:, None]).sum().item()
        sums += torch.tensor([total, hits, in_top5], dtype=torch.float64)
    model.train()
    loss, accuracy, top5 = (sums / batches.num_test).tolist()
    return {"test_loss": loss, "test_accuracy": accuracy, "test_top5accuracy": top5}


if __name__ == "__main__":
    for found in lottery():
        density = 1.0 if found.mask is None else found.mask.density
        accuracy = found.metrics["test_accuracy", max(found.states)]
        print(f"level {found.number}  density {density:6.1%}  test accuracy {accuracy:.4f}")
