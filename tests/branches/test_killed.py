"""kill -9 at any stage of a branch or a lottery: the same command finishes it with the same bytes."""

import os
import signal

import pytest

from branches.lottery import Lottery, LotteryHparams
from foundations import run as run_module
from foundations.files import write_atomically
from foundations.reporter import NullReporter
from pruning.hparams import PruningHparams
from tests.branches.small_branches import describe
from tests.training.small_runs import FORK, context, tensor_digests, train_desc
from training.execution import complete


def branch_jobs():
    """A branch that scores with examples, whose parent has to be replayed."""
    return [train_desc(), (describe("lottery_rewind", rewind_step="4it", strategy="snip2", density=0.3))]


def gradual_jobs():
    return [(describe("gmp", gmp_end="2ep", gmp_frequency="3it", density=0.1))]


def lottery_jobs():
    described = Lottery(train_desc(), PruningHparams(), LotteryHparams(rewinding_steps="4it"))
    return [desc for _, desc in described.levels(2)]


def compute(jobs, place):
    for desc in jobs:
        complete(desc, place)


class Bomb(NullReporter):
    """Kills its process at the n-th thing that happens: a line, an iteration, a scoring, a file about to be written."""

    def __init__(self, fuse):
        self.fuse = fuse

    def tick(self):
        self.fuse -= 1
        if self.fuse == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def say(self, line):
        self.tick()

    def progress(self, what, done, total, unit):
        self.tick()

    def write(self, path, data):
        self.tick()
        write_atomically(path, data)


def compute_until_killed(make_jobs, place, fuse):
    bomb = Bomb(fuse)
    run_module.write_atomically = bomb.write
    compute(make_jobs(), context(place.root, place.datasets, reporter=bomb, checkpoint_seconds=0.01))


@pytest.mark.parametrize("make_jobs", [branch_jobs, gradual_jobs, lottery_jobs])
@pytest.mark.parametrize("fuse", [3, 8, 21, 27, 33, 41, 47, 52, 58, 64, 71])
def test_a_killed_job_ends_with_the_same_bytes(make_jobs, fuse, tmp_path, digits):
    place, calm = context(tmp_path / "killed", digits), context(tmp_path / "calm", digits)
    child = FORK.Process(target=compute_until_killed, args=(make_jobs, place, fuse))
    child.start()
    child.join()

    compute(make_jobs(), place)

    compute(make_jobs(), calm)
    for desc in make_jobs():
        assert tensor_digests(run_of(desc, place)) == tensor_digests(run_of(desc, calm))
