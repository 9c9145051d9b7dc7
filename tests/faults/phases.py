"""Commands, and the functions of them in which they are stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.faults.jobs import SMALL, Command

SECONDS = 2.0
"""Time within which a command must end."""
SLOW = '''
"""`slow_linear`: a network whose forward pass takes as long as it is told, in one operation that nothing interrupts."""

import os
import time
from dataclasses import dataclass

import torch
from open_prune import Family, ModelHparams, NetworkSpec, Recipe, hparam
from torch import nn

_MATRIX = torch.ones(800, 800)


@dataclass(frozen=True, kw_only=True)
class SlowHparams(ModelHparams):
    """The network."""

    slow_products: int = hparam(1, at_least=0)
    """Matrix products in each forward pass, in one operation."""
    slow_sum: int = hparam(0, at_least=0)
    """Summands of a sum in each forward pass, during which no other thread of Python can run."""


class Slow(nn.Module):
    def __init__(self, products, summands, inputs, outputs):
        super().__init__()
        self.products, self.summands, self.linear = products, summands, nn.Linear(inputs, outputs)

    def forward(self, images):
        sum(range(self.summands))
        if self.products:
            torch.bmm(_MATRIX.expand(self.products, 800, 800), _MATRIX.expand(self.products, 800, 800))
        return self.linear(images.flatten(1))


def slow_linear(spec: NetworkSpec) -> nn.Module:
    """Build the network."""
    channels, height, width = spec.input_shape
    return Slow(spec.hparams.slow_products, spec.hparams.slow_sum, channels * height * width, spec.outputs)


SLOW = Family(
    spelling="slow_linear",
    builder=slow_linear,
    source="a test",
    options=frozenset(),
    batchnorm=False,
    hparams=SlowHparams,
)
RECIPE = Recipe.of_family(SLOW, {"dataset_name": "digits", "batch_size": 64, "training_steps": "2it", "lr": 0.1})
'''
_LENET = ("--default_hparams=digits_lenet_16",)
_LONG = (*_LENET, "--batch_size=256", "--training_steps=6000it", "--evaluate_only_at_end")
_SOME_SECONDS = (*_LENET, "--batch_size=256", "--training_steps=2000it", "--evaluate_only_at_end")
_PRUNED = ("branch", "train", "oneshot", *SMALL, "--density=0.1")
_SLOW_NETWORK = ("--default_hparams=slow_linear", "--plugin={folder}/slow.py", "--evaluate_only_at_end")
_RUNS = ("sweep", "--grid=replicate=1-2", "--jobs=2", "--")


@dataclass(frozen=True)
class Phase:
    """A command that is stopped while one of its functions is on the stack."""

    command: Command
    function: str
    """`module:function`, or `module:*` for any of the module."""
    before: tuple[Command, ...] = ()
    later: float = 0.0
    """Seconds that pass between then and the signal."""
    kept: str = ""
    """Text that the stopped command must print."""
    bound: float = SECONDS
    """Time within which it must end, in seconds."""
    prepare: Callable[[Path], None] = lambda _folder: None
    is_repeated: bool = True
    """Whether the same command goes on, and must end as if it had never been stopped."""


def _images(folder: Path, count: int = 400, side: int = 160) -> None:
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 255, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")


PAPER = """
title = "Ratios"
paper = "a test"
figure = "A figure"
shows = "Nothing."

[cpu]
takes = "a moment"

[cpu.sweep]
command = "train"

[cpu.sweep.base]
default_hparams = "digits_lenet_16"
batch_size = 256
training_steps = "2it"

[[cpu.sweep.grid]]
replicate = "1-2"

[[measure]]
name = "synaptic_flow_ratio"
schedules = ["linear,exponential"]
exponents = ["1,2"]
iterations = ["1,10,200"]

[[plot]]
name = "measure"
measure = "synaptic_flow_ratio"
x = "iterations"
y = "ratio"
"""
"""A paper that measures for a second or more."""


def _paper(folder: Path) -> None:
    (folder / "paper.toml").write_text(PAPER)


_MEASURED = ("paper", "{folder}/paper.toml", "--jobs=2")
_GMP = ("--technique=gmp", "--gmp_end=2it", "--gmp_frequency=1it", "--gmp_density=0.1")
_TRAIN = ("train", *SMALL)
_SYNFLOW = ("--strategy=synflow", "--prune_iterations=1500")
PHASES: dict[str, Phase] = {
    "datasets add": Phase(("datasets", "add", "mine", "{folder}/images"), "datasets.decode:*", prepare=_images),
    "preparing digits": Phase(_TRAIN, "datasets.prepared:_prepare"),
    "streamed images": Phase(
        ("train", "--default_hparams=cifar_resnet_8", "--dataset_name=mine", "--training_steps=6ep", "--num_workers=2"),
        "training.loop.trainer:compute_gradients",
        (("datasets", "add", "mine", "{folder}/images", "--stream", "--image_size=32"),),
        later=0.2,
        kept="Checkpoint at step",
        prepare=partial(_images, count=150, side=48),
    ),
    "importing torch": Phase(_TRAIN, "torch:<module>"),
    "evaluation": Phase(
        ("train", *_SLOW_NETWORK, "--slow_products=20", "--batch_size=16"),
        "training.loop.evaluation:evaluate",
        later=0.3,
    ),
    "training": Phase(("train", *_SOME_SECONDS), "training.loop.loop:steps", later=0.2, kept="Checkpoint at step"),
    "slow batches": Phase(
        ("train", *_SLOW_NETWORK, "--slow_products=200", "--batch_size=1024"),
        "training.loop.trainer:compute_gradients",
        bound=12.0,
        kept="Checkpoint at step",
    ),
    "replay": Phase(
        ("branch", "train", "lottery_rewind", *_LONG, "--rewind_step=2990it", "--density=0.5"),
        "training.loop.trainer:replay",
        (("train", *_LONG),),
        later=0.2,
    ),
    "SynFlow": Phase((*_PRUNED, *_SYNFLOW), "pruning.methods.synflow:synflow", (_TRAIN,), later=0.2),
    "SNIP": Phase(
        (*_PRUNED, "--strategy=snip100", "--prune_iterations=150"), "pruning.methods.snip:snip", (_TRAIN,), later=0.1
    ),
    "PHEW": Phase((*_PRUNED, "--strategy=phew"), "pruning.paths.walks:*", (_TRAIN,)),
    "gradual pruning": Phase(
        ("train", *SMALL, *_GMP, "--gmp_strategy=synflow", "--gmp_prune_iterations=600"),
        "pruning.methods.synflow:synflow",
        later=0.2,
        kept="Checkpoint at step",
    ),
    "lottery": Phase(
        ("lottery", *_LONG, "--levels=2"), "training.loop.loop:steps", later=0.3, kept="Checkpoint at step"
    ),
    "measure": Phase(
        ("measure", "linear_mode_connectivity", "8f6ab4a2/1", "8f6ab4a2/2", "--points=400"),
        "analysis.measures.results:result_of",
        (_TRAIN, ("train", *SMALL, "--replicate=2")),
        later=0.3,
    ),
    "ls": Phase(("ls",), "cli.commands.listing:ls", (_TRAIN,)),
    "table": Phase(("table",), "cli.commands.tables:table", (_TRAIN,)),
    "plot": Phase(
        ("plot", "curves", "--out={folder}/curves.png"),
        "cli.commands.plots:plot",
        (_TRAIN, (*_PRUNED, "--strategy=random")),
    ),
    "report": Phase(
        ("report", "--out={folder}/report.html"),
        "cli.commands.report:report",
        (_TRAIN, (*_PRUNED, "--strategy=random")),
    ),
    "verify": Phase(("verify",), "cli.commands.upkeep:verify", (_TRAIN,)),
    "export": Phase(("export", "train_", "{folder}/ticket.safetensors"), "cli.commands.tickets:export", (_TRAIN,)),
    "import": Phase(
        ("import", "{folder}/ticket.safetensors"),
        "cli.commands.tickets:import_",
        (_TRAIN, ("export", "train_", "{folder}/ticket.safetensors")),
    ),
    "paper": Phase(("paper", "demo", "--jobs=2", "--out={folder}/demo"), "platforms.dispatch:run", later=1.0),
    "paper, measuring": Phase(
        (*_MEASURED, "--out={folder}/drawn"), "analysis.measures.results:result_of", prepare=_paper, later=0.2
    ),
    "paper, drawing": Phase(
        (*_MEASURED, "--out={folder}/again"),
        "cli.commands.drawing:write",
        ((*_MEASURED, "--out={folder}/drawn"),),
        prepare=_paper,
    ),
    "sweep": Phase((*_RUNS, "train", *_LONG), "platforms.executors.pool:ended", later=1.5),
    "first second of a sweep": Phase((*_RUNS, "train", *_LONG), "platforms.executors.pool:_forked", later=0.3),
    "trained together": Phase(
        (
            "sweep",
            "--grid=replicate=1-2",
            "--jobs=1",
            "--together=2",
            "--",
            "train",
            *_LENET,
            "--evaluate_only_at_end",
            "--training_steps=200it",
            "--model_name=digits_resnet_8_2",
        ),
        "platforms.executors.pool:ended",
        later=2.5,
    ),
    "starting processes": Phase(
        ("train", *_LONG, "--platform=multi_gpu", "--num_processes=2"), "platforms.processes:_listen", later=0.5
    ),
    "several processes": Phase(
        ("train", *_LONG, "--platform=multi_gpu", "--num_processes=2"),
        "training.loop.loop:steps",  # in the processes that it starts
        later=0.3,
        kept="Checkpoint at step",
    ),
    "several slow processes": Phase(
        (
            "train",
            *_SLOW_NETWORK,
            "--slow_products=0",
            "--slow_sum=60000000",
            "--batch_size=1024",
            "--platform=multi_gpu",
            "--num_processes=2",
        ),
        "training.loop.trainer:compute_gradients",  # in the processes that it starts
        bound=12.0,
        kept="Checkpoint at step",
    ),
    "watch": Phase(("watch",), "cli.commands.watch:watch", (_TRAIN,), is_repeated=False),
}
