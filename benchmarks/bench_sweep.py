"""Overhead of a sweep beyond its runs, and its savings against the same commands one after the other.

- Tiny runs (20 iterations on digits, of a LeNet and of a ResNet): the time of the sweep, against the sum of its runs'
  training times, divided by the slots. Training times include evaluating and keeping the last state. The same sweep
  with 25 runs in a process (`--together`), against the same sum, of runs one by one.
- A figure (4 epochs of a LeNet, 5 methods, 4 levels) on MNIST if prepared, else on digits: the
  commands of the sweep one after the other, each in a new interpreter, against the sweep.
- A plan over ten thousand runs, all missing or all complete.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.made_runs import make_complete
from benchmarks.processes import command
from benchmarks.timing import Row, seconds
from cli.commands.sweep import asked_by, described_by
from foundations.environment import Environment
from foundations.storage.run import Run
from foundations.storage.store import all_runs

SLOTS = 2
TINY = (
    "--grid strategy=random,magnitude --grid density=0.9^1..20 --grid replicate=1-5 -- branch train oneshot "
    "--default_hparams={name} --training_steps=20it --evaluate_only_at_end"
)
TINY_NETWORKS = ("digits_lenet_40_20", "digits_resnet_8")
FIGURE = (
    "--grid strategy=random,magnitude,snip10,grasp10,synflow --grid density=0.5^1..4 -- "
    "branch train oneshot --default_hparams={name} --training_steps=4ep --evaluate_only_at_end"
)
PLAN = (
    "--grid strategy=random,magnitude,snip10,grasp10,synflow --grid density=0.95^1..40 --grid replicate=1-50 -- "
    "branch train oneshot --default_hparams=mnist_lenet_300_100"
)


def rows(tiny: str = TINY, figure: str = FIGURE) -> Iterator[Row]:
    """Measure each once, since each is a mean over many runs."""
    with tempfile.TemporaryDirectory() as folder:
        for name in TINY_NETWORKS:
            yield from _tiny(Path(folder) / name, name, tiny)
        yield _figure(Path(folder), figure)
        yield from _plans(Path(folder) / "plans")


def _tiny(root: Path, name: str, arguments: str) -> list[Row]:
    arguments = arguments.format(name=name)
    alone = _timed(root / "alone", f"sweep --quiet --jobs={SLOTS} {arguments}")
    manifests = [manifest for run in all_runs(root / "alone") if (manifest := run.manifest()) is not None]
    training = sum(manifest.wall_seconds for manifest in manifests) / SLOTS
    together = _timed(root / "together", f"sweep --quiet --jobs={SLOTS} --together=25 {arguments}")
    what, aim, runs = f"a sweep of tiny runs of {name}", "at most 1.3", f"{len(manifests)} runs"
    return [
        Row(what, alone / training, aim, f"{alone:.1f} s, {training:.1f} s training, {runs}"),
        Row(f"{what}, 25 together", together / training, aim, f"{together:.1f} s, {training:.1f} s training, {runs}"),
    ]


def _figure(folder: Path, arguments: str) -> Row:
    has_mnist = (Environment.read().datasets / "mnist").exists()
    arguments = arguments.format(name="mnist_lenet_300_100" if has_mnist else "digits_lenet_40_20")
    described, _ = described_by(shlex.split(arguments))
    exported = [each.argv for each in asked_by(described, Environment.read())]
    alone = sum(seconds(command([*line, "--quiet"], folder / "alone")) for line in exported)
    swept = _timed(folder / "swept", f"sweep --quiet --jobs={SLOTS} {arguments}")
    detail = f"{alone:.0f} s, {swept:.0f} s, {len(exported)} runs on {'MNIST' if has_mnist else 'digits'}"
    return Row("commands one after the other, against one sweep", alone / swept, "at least 2.2", detail)


def _plans(root: Path) -> list[Row]:
    empty = _timed(root, f"sweep --dry_run {PLAN}")
    _complete(root)
    full = _timed(root, f"sweep --dry_run {PLAN}")
    return [
        Row("a plan over 10,000 runs that are not there", empty, "at most 5", "the command", "s"),
        Row("a plan over 10,000 runs that are complete", full, "at most 8", "the command", "s"),
    ]


def _complete(root: Path) -> None:
    """Complete the runs of the plan, by copying the runs of the first replicate."""
    described, _ = described_by(shlex.split(PLAN))
    targets = [t for asked in asked_by(described, Environment.read()) for t in asked.request.targets.values()]
    first = {target.desc.digest: target.desc for target in targets if target.replicate == 1}
    make_complete(first.values(), root)
    for target in targets:
        run = Run(root, target.desc.location(target.replicate))
        if not run.folder.exists():
            shutil.copytree(Run(root, target.desc.location(1)).folder, run.folder)


def _timed(root: Path, arguments: str) -> float:
    return seconds(command(shlex.split(arguments), root))
