"""Several trainings in one process: a step of each network in turn, against one step of their stack.

Measures whole steps, with the optimizer and the mask, of branches of one network at different levels. A ratio above 1
means that stacking pays. On CPUs it pays only for tiny networks without convolutions; `training.jobs.together.pays` is
the rule that follows from these rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.made_runs import make_noise
from benchmarks.timing import Row, in_turn, median_ratio
from platforms.local import LocalPlatform
from platforms.platform import PlatformHparams
from pruning.prune import prune
from training.context import Context
from training.desc import TrainDesc
from training.job import initialized_model
from training.jobs.together import Stack
from training.loop.trainer import Trainer
from training.recipes import recipe

NETWORKS = (
    ("digits_lenet_40_20", 8, 50),
    ("mnist_lenet_300_100", 8, 10),
    ("digits_resnet_8", 4, 5),
    ("cifar_resnet_20", 4, 1),
)
"""Name, number of networks, and number of steps per measurement."""


def rows(repeats: int = 7) -> list[Row]:
    """Measure each network, on the best available device."""
    with tempfile.TemporaryDirectory() as folder:
        return [_row(name, count, steps, Path(folder), repeats) for name, count, steps in NETWORKS]


def _row(name: str, count: int, steps: int, folder: Path, repeats: int) -> Row:
    desc = TrainDesc.of(recipe(name))
    make_noise(desc.dataset.dataset_name, folder)
    platform = LocalPlatform(PlatformHparams())
    context = Context(root=folder / "runs", datasets=folder, platform=platform)
    in_turns, stacked = ([_trainer(desc, context, number, count) for number in range(count)] for _ in range(2))
    batches = [next(iter(trainer.loader.train_batches(0))) for trainer in in_turns]
    stack = Stack(stacked)

    def take_turns() -> None:
        for trainer, batch in zip(in_turns, batches, strict=True):
            trainer.compute_gradients(*batch)

    def timed(trainers: list[Trainer], compute_gradients: Callable[[], None]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(steps):
                compute_gradients()
                for trainer in trainers:
                    trainer.optimizer.step()
            if platform.device.type == "cuda":
                torch.cuda.synchronize()

        return work

    works: dict[str, Callable[[], object]] = {
        "in turns": timed(in_turns, take_turns),
        "stacked": timed(stacked, partial(stack.compute_gradients, batches)),
    }
    times = in_turn(works, repeats)
    ratio = median_ratio(times["in turns"], times["stacked"])
    milliseconds = 1e3 * sorted(times["stacked"])[repeats // 2] / steps
    detail = f"{milliseconds:.1f} ms a stacked step, batch {desc.dataset.batch_size}, median of {repeats}"
    return Row(f"{count} x {name}: in turns / stacked", ratio, "", detail)


def _trainer(desc: TrainDesc, context: Context, number: int, count: int) -> Trainer:
    model = initialized_model(desc, 1)
    mask = prune(model, "magnitude", density=(number + 1) / (count + 1))
    trainer = Trainer(model, desc, context, context.platform, number)
    trainer.prepare(mask, desc.start)
    return trainer
