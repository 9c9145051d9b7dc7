"""Time of commands, each in a new interpreter, from its start to its end.

The first step is of a LeNet on prepared data of MNIST's size. Its time includes opening the data, building the network,
keeping its first state and measuring its accuracy. The time to import torch is measured in turn, and subtracted.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.made_runs import make_noise
from benchmarks.processes import command, process, until
from benchmarks.timing import Median, Row, in_turn

TRAIN = ("train", "--default_hparams=mnist_lenet_300_100", "--training_steps=1it", "--quiet")
FIRST_STEP = """
import sys
from training.loop import loop, trainer
from cli.main import main

steps = loop.steps

def marked(optimizer, *arguments, **options):
    optimizer.register_step_post_hook(lambda *_: print("STEP", flush=True))
    return steps(optimizer, *arguments, **options)

trainer.steps = marked
sys.exit(main(sys.argv[1:]))
"""


def rows(repeats: int = 7) -> list[Row]:
    """Measure each command in turn."""
    with tempfile.TemporaryDirectory() as folder:
        root, datasets = Path(folder) / "runs", Path(folder)
        make_noise("mnist", datasets)
        command(TRAIN, root, datasets)()
        works: dict[str, Callable[[], object]] = {
            "an interpreter that does nothing": process([sys.executable, "-c", "pass"], root),
            "--help": command(["--help"], root),
            "train --help": command(["train", "--help"], root),
            "ls of one run": command(["ls"], root),
            "train --dry_run": command([*TRAIN, "--dry_run"], root, datasets),
            "train, of a run that is complete": command(TRAIN, root, datasets),
        }
        took = in_turn(works, repeats)
        beyond = [_beyond_torch(Path(folder) / f"first_{number}", datasets) for number in range(repeats + 1)][1:]
    aims = zip(took.items(), ("", *(f"at most {most}" for most in (0.2, 0.5, 0.3, 0.4, 0.4))), strict=True)
    found = [Row(what, Median.of(times), aim, "whole process", "s") for (what, times), aim in aims]
    what = "train, from the command to its first step, beyond importing torch"
    return [*found, Row(what, Median.of(beyond), "at most 1.5", "a LeNet on prepared data", "s")]


def _beyond_torch(root: Path, datasets: Path) -> float:
    importing = until([sys.executable, "-c", "import torch; print('STEP', flush=True)"], root, "STEP")
    return until([sys.executable, "-c", FIRST_STEP, *TRAIN], root, "STEP", datasets) - importing
