"""Several processes for one run: two on this machine's CPUs against one, each with one thread.

The time of a short training is subtracted from that of a long one, so that starting, preparing and evaluating do not
count. Without communication, two processes would take half the time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.made_runs import make_noise
from benchmarks.processes import command
from benchmarks.timing import Median, Row, seconds

STEPS = 60
TRAIN = ("train", "--default_hparams=cifar_resnet_20", "--batch_size=128", "--evaluate_only_at_end", "--quiet")
SHORT, LONG = "--training_steps=2it", f"--training_steps={STEPS + 2}it"
ONE = ("--threads=1",)
TWO = ("--platform=multi_gpu", "--device=cpu", "--num_processes=2", "--threads=2")


def rows(repeats: int = 1) -> list[Row]:
    """Measure a short and a long training on one process and on two; the difference is the time of the steps."""
    with tempfile.TemporaryDirectory() as folder:
        make_noise("cifar10", Path(folder))
        pairs = [(_steps(ONE, Path(folder), n), _steps(TWO, Path(folder), n)) for n in range(repeats)]
    speedup = Median.of([one / two for one, two in pairs])
    milliseconds = 1e3 * Median.of([two for _, two in pairs]) / STEPS
    detail = f"cifar_resnet_20, batch 128, {milliseconds:.0f} ms a step, a thread a process"
    return [Row("a step on one process / on two", speedup, "at least 1.5", detail)]


def _steps(flags: tuple[str, ...], folder: Path, number: int) -> float:
    """Return the seconds of the steps, without starting, preparing and evaluating."""
    root = folder / f"runs_{number}_{len(flags)}"
    took = [seconds(command([*TRAIN, steps, *flags], root, folder)) for steps in (SHORT, LONG)]
    return took[1] - took[0]
