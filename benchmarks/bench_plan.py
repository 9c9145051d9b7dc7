"""Cost of describing and planning, without torch: one branch from its flags, and a sweep of ten thousand."""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
import tempfile
from pathlib import Path

from benchmarks.made_runs import make_complete
from benchmarks.timing import Median, Row, seconds
from branches.named.oneshot import OneshotFlags, oneshot
from cli.main import main as command
from foundations.description.desc import Desc, RunRef
from foundations.plan import Target, plan
from pruning.hparams import PruningHparams
from training.desc import TrainDesc
from training.recipes import recipe

COUNT = 10_000
STRATEGIES = ("magnitude", "snip10", "grasp10", "synflow", "random")
SEEDS = 20
PRESET = "--default_hparams=cifar_resnet_20"
ONE = ("branch", "train", "oneshot", PRESET, "--strategy=snip10", "--density=0.1", "--seed=3")


def rows(repeats: int = 3) -> list[Row]:
    """Measure in this process. Raises: AssertionError if torch was imported."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        one = _one()
        none_there = Median.of([seconds(lambda: _planned(root, is_done=False)) for _ in range(repeats)])
        make_complete(_grid(), root)
        complete = Median.of([seconds(lambda: _planned(root, is_done=True)) for _ in range(repeats)])
    assert "torch" not in sys.modules, "describing and planning must not import torch"
    what = "a oneshot branch from its flags to its address"
    return [
        Row(what, one, "at most 0.5", "in a process that did it before", "ms"),
        Row(f"{COUNT:,} branches described and planned, none there", none_there, "at most 5", "", "s"),
        Row(f"{COUNT:,} branches described and planned, all complete", complete, "at most 8", "", "s"),
    ]


def _one(repeats: int = 200) -> Median:
    """Return the milliseconds of a command that prints the address, without the first one, which imports modules."""

    def work() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            assert command([*ONE, "--display_output_location"]) == 0

    work()
    return Median.of([1e3 * seconds(work) for _ in range(repeats)])


def _grid() -> list[Desc]:
    """Return branches of one training: all strategies, levels and seeds, all different."""
    main = TrainDesc.of(recipe("cifar_resnet_20"))
    levels = COUNT // len(STRATEGIES) // SEEDS
    descs: list[Desc] = []
    for strategy, level, seed in itertools.product(STRATEGIES, range(1, levels + 1), range(SEEDS)):
        values = {"strategy": strategy, "density": level / (levels + 1), "seed": seed}
        flags = OneshotFlags.of({**values, "randomize_layerwise": True})  # so that each seed gives another branch
        descs.append(oneshot(RunRef(main), PruningHparams.of(values), flags))
    return descs


def _planned(root: Path, *, is_done: bool) -> None:
    """Describe and plan the branches, and check the plan."""
    descs = _grid()
    made = plan([Target(desc) for desc in descs], root)
    assert len({desc.digest for desc in descs}) == COUNT
    assert len(made.to_do()) == (0 if is_done else COUNT + 1)
