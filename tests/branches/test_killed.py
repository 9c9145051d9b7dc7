"""kill -9 at any stage of a branch or a lottery: the same command finishes it with the same bytes."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from branches.lottery.lottery import Lottery, LotteryHparams
from foundations.description.desc import Desc, RunRef
from foundations.reporter import NullReporter
from foundations.storage import pending_files, working_run
from pruning.hparams import PruningHparams
from tests.branches.small_branches import describe
from tests.training.small_runs import FORK, context, oneshot_desc, run_of, tensor_digests, train_desc
from training.context import Context
from training.jobs.compute import complete


def branch_descs() -> list[Desc]:
    """A training, and a branch that scores with examples and requires a replay of its parent."""
    return [train_desc(), describe("lottery_rewind", rewind_step="4it", strategy="snip2", density=0.3)]


def gradual_descs() -> list[Desc]:
    return [describe("gmp", gmp_end="2ep", gmp_frequency="3it", density=0.1)]


def technique_descs() -> list[Desc]:
    """A run with two techniques, and a branch that requires a replay of it."""
    often: dict[str, Any] = {"mask_update_frequency": "4it", "gmp_frequency": "3it"}
    desc = oneshot_desc("random", density=0.3, technique="set,gmp", gmp_density=0.1, **often)
    return [desc, describe("lottery_rewind", RunRef(desc), density=0.05)]


def draw_descs() -> list[Desc]:
    """A branch that trains weights that its method draws."""
    return [describe("oneshot", strategy="ntk_sap", ntk_keep_draw=True, ntk_batch_size=5, prune_iterations=2)]


def lottery_descs() -> list[Desc]:
    described = Lottery(train_desc(), PruningHparams.of({}), LotteryHparams(rewinding_steps="4it"))
    return [desc for _, desc in described.levels(2)]


def compute(descs: Sequence[Desc], place: Context) -> None:
    for desc in descs:
        complete(desc, place)


class Bomb(NullReporter):
    """Kills its process at the n-th thing that happens.

    This is a line, an iteration, a scoring, or a file that is about to be written, to be flushed, or to get its name.
    """

    def __init__(self, fuse: int) -> None:
        self.fuse = fuse

    def tick(self) -> None:
        self.fuse -= 1
        if self.fuse == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def say(self, line: str) -> None:
        self.tick()

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        self.tick()

    def before(self, module: ModuleType, name: str) -> None:
        """Count the calls of a function that a module has imported."""
        plain = getattr(module, name)

        def counted(*arguments: Any, **how: Any) -> Any:
            self.tick()
            return plain(*arguments, **how)

        setattr(module, name, counted)


def compute_until_killed(descs: Sequence[Desc], place: Context, fuse: int) -> None:
    bomb = Bomb(fuse)
    bomb.before(working_run, "replace_file")
    for name in ("part_of", "flush_together", "name_part"):
        bomb.before(pending_files, name)
    compute(descs, context(place.root, place.datasets, reporter=bomb, checkpoint_seconds=0.0))


FUSES = {
    draw_descs: (3, 5, 7, 9, 12),
    branch_descs: (3, 8, 21, 33, 47, 58, 71, 83, 95, 110, 128),
    technique_descs: (3, 14, 27, 41, 52, 64, 75, 88, 97),
    gradual_descs: (3, 8, 21, 27, 41, 52, 64, 75),
    lottery_descs: (3, 21, 47, 64, 83, 101, 118, 135, 152, 170, 189),
}
"""Some of the things that happen, of each kind, up to its last ones."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Callable[..., Context]:
    """A function that returns where jobs were computed without being killed."""

    @functools.cache
    def computed(descs_of: Callable[[], list[Desc]]) -> Context:
        calm = context(tmp_path_factory.mktemp("calm"), digits)
        compute(descs_of(), calm)
        return calm

    return computed


@pytest.mark.parametrize(("descs_of", "fuse"), [(descs_of, fuse) for descs_of in FUSES for fuse in FUSES[descs_of]])
def test_a_killed_job_ends_with_the_same_bytes(
    descs_of: Callable[[], list[Desc]], fuse: int, tmp_path: Path, digits: Path, undisturbed: Callable[..., Context]
) -> None:
    place = context(tmp_path / "killed", digits)
    child = FORK.Process(target=compute_until_killed, args=(descs_of(), place, fuse))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL

    compute(descs_of(), place)

    calm = undisturbed(descs_of)
    for desc in descs_of():
        assert tensor_digests(run_of(desc, place)) == tensor_digests(run_of(desc, calm))
