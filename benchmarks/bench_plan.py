"""What it costs to describe and to plan: one branch from its flags, and a sweep of ten thousand of them.

Measured in a process of its own, since other benchmarks import torch, which none of this may do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.made_runs import make_complete
from benchmarks.timing import Row, seconds
from branches.oneshot import OneshotFlags, oneshot
from cli.main import main as command
from foundations.desc import Desc, RunRef
from foundations.plan import Target, plan
from pruning.hparams import PruningHparams
from training.desc import TrainDesc
from training.recipes import recipe

COUNT = 10_000
STRATEGIES = ("magnitude", "snip10", "grasp10", "synflow", "random")
SEEDS = 20
PRESET = "--default_hparams=cifar_resnet_20"
ONE = ("branch", "train", "oneshot", PRESET, "--strategy=snip10", "--density=0.1", "--seed=3")
AIMS = {"one": 0.0005, "none there": 5.0, "all complete": 8.0}
"""Seconds."""


def rows() -> list[Row]:
    """Measure in a new interpreter."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.bench_plan", "--json"], capture_output=True, check=True)
    return [Row(**row) for row in json.loads(done.stdout)]


def measured() -> list[Row]:
    """Measure in this process. Raises: AssertionError where torch was imported."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        found = {"one": _one(), "none there": seconds(lambda: _planned(root, is_done=False))}
        make_complete(_grid(), root)
        found["all complete"] = seconds(lambda: _planned(root, is_done=True))
    assert "torch" not in sys.modules, "describing and planning must not import torch"
    words = {
        "one": "a oneshot branch from its flags to its address",
        "none there": f"{COUNT:,} branches described and planned, none there",
        "all complete": f"{COUNT:,} branches described and planned, all complete",
    }
    return [
        Row(words[name], took / AIMS[name], f"at most 1 of {AIMS[name]:g} s", f"{took:.4f} s")
        for name, took in found.items()
    ]


def _one(repeats: int = 200) -> float:
    """Return the median time of a command that only tells the address; the first one, which imports, is not counted."""

    def work() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            assert command([*ONE, "--display_output_location"]) == 0

    work()
    return statistics.median(seconds(work) for _ in range(repeats))


def _grid() -> list[Desc]:
    """Return branches of one training by every strategy at every level, with every seed: all different."""
    main = TrainDesc.of(recipe("cifar_resnet_20"))
    levels = COUNT // len(STRATEGIES) // SEEDS
    descs: list[Desc] = []
    for strategy, level, seed in itertools.product(STRATEGIES, range(1, levels + 1), range(SEEDS)):
        values = {"strategy": strategy, "density": level / (levels + 1), "seed": seed}
        flags = OneshotFlags.of({**values, "randomize_layerwise": True})  # so that every seed counts
        descs.append(oneshot(RunRef(main), PruningHparams.of(values), flags))
    return descs


def _planned(root: Path, *, is_done: bool) -> None:
    """Describe the branches and plan them, and check that the plan is as it must be."""
    descs = _grid()
    made = plan([Target(desc) for desc in descs], root)
    assert len({desc.digest for desc in descs}) == COUNT
    assert len(made.to_do()) == (0 if is_done else COUNT + 1)


if __name__ == "__main__":
    if "--json" in sys.argv:
        print(json.dumps([dataclasses.asdict(row) for row in measured()]))
    else:
        for row in measured():
            print(f"{row.what:<60}{row.ratio:8.3f}   {row.aim:<22}{row.detail}")
