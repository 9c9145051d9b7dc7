"""Time of commands, each in a new interpreter, from its start to its end.

The first step is of a LeNet on prepared data of MNIST's size. Its time includes opening the data, building the network,
keeping its first state and measuring its accuracy. The time to import torch is measured in turn, and subtracted.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench_training import make_noise
from benchmarks.processes import command, process, until
from benchmarks.timing import Median, Row, in_turn

TRAIN = ("train", "--default_hparams=mnist_lenet_300_100", "--training_steps=1it", "--quiet")
FIRST_STEP = """
import sys
from training import loop
from cli.main import main

steps = loop.steps

def marked(optimizer, *arguments, **options):
    optimizer.register_step_post_hook(lambda *_: print("STEP", flush=True))
    return steps(optimizer, *arguments, **options)

loop.steps = marked
import training.loop.trainer
training.loop.trainer.steps = marked
sys.exit(main(sys.argv[1:]))
"""


def rows(repeats: int = 7) -> list[Row]:
    """Measure each command in turn."""
    with tempfile.TemporaryDirectory() as folder:
        root, datasets = Path(folder) / "runs", Path(folder)
        make_noise("mnist", datasets)
        command(TRAIN, root, datasets)()
        works: dict[str, Callable[[], object]] = {
            "python": process([sys.executable, "-c", "pass"], root),
            "help": command(["--help"], root),
            "help of train": command(["train", "--help"], root),
            "ls": command(["ls"], root),
            "dry run": command([*TRAIN, "--dry_run"], root, datasets),
            "reused": command(TRAIN, root, datasets),
        }
        took = in_turn(works, repeats)
        beyond = [_beyond_torch(Path(folder) / f"first_{number}", datasets) for number in range(repeats + 1)][1:]
    words = {
        "python": ("an interpreter that does nothing", ""),
        "help": ("--help", "at most 0.2"),
        "help of train": ("train --help", "at most 0.5"),
        "ls": ("ls of one run", "at most 0.3"),
        "dry run": ("train --dry_run", "at most 0.4"),
        "reused": ("train, of a run that is complete", "at most 0.4"),
    }
    found = [Row(what, Median.of(took[name]), aim, "whole process", "s") for name, (what, aim) in words.items()]
    what = "train, from the command to its first step, beyond importing torch"
    return [*found, Row(what, Median.of(beyond), "at most 1.5", "a LeNet on prepared data", "s")]


def _beyond_torch(root: Path, datasets: Path) -> float:
    importing = until([sys.executable, "-c", "import torch; print('STEP', flush=True)"], root, "STEP")
    return until([sys.executable, "-c", FIRST_STEP, *TRAIN], root, "STEP", datasets) - importing
