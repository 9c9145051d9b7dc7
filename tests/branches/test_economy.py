"""Nothing is computed twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from branches.lottery.lottery import Lottery, LotteryHparams
from foundations.description.desc import Desc
from pruning.hparams import PruningHparams
from tests.branches.small_branches import Counter, describe
from tests.training.small_runs import context, oneshot_desc, train_desc
from training.jobs.compute import complete

ITERATIONS = 18
AFTER_4 = ITERATIONS - 4


def levels(last: int, **flags: Any) -> list[Desc]:
    described = Lottery(train_desc(), PruningHparams.of({}), LotteryHparams(rewinding_steps="4it", **flags))
    return [desc for _, desc in described.levels(last)]


def test_twenty_related_commands_do_the_iterations_of_an_optimal_plan(tmp_path: Path, digits: Path) -> None:
    counter = Counter()
    place = context(tmp_path, digits, reporter=counter)
    commands: list[tuple[list[Desc], int]] = [
        # The branch comes first: of its parent it needs the state at 0 alone, which costs no iterations.
        ([oneshot_desc(density=0.2)], ITERATIONS),
        ([oneshot_desc(prune_fraction=0.8)], 0),
        ([oneshot_desc(compression=5.0)], 0),
        # The parent to its end, keeping the state at 4 on the way.
        ([describe("lottery_rewind", rewind_step="4it")], ITERATIONS + AFTER_4),
        ([train_desc()], 0),
        ([train_desc(training_steps="18it")], 0),
        ([oneshot_desc(prune_step="3ep", state_step="4it", start_step="4it")], 0),
        ([describe("lr_rewind")], ITERATIONS),
        ([oneshot_desc(prune_step="3ep", state_step="18it")], 0),
        (levels(2), 2 * AFTER_4),
        (levels(3), AFTER_4),
        ([describe("lottery_rewind", rewind_step="4it", prune_fraction=0.2)], 0),
        ([describe("randomize_layerwise", prune_step="3ep")], ITERATIONS),
        ([describe("random_tickets", prune_step="18it")], 0),
        ([describe("reinitialize")], ITERATIONS),
        ([describe("finetune", finetune_steps="1ep")], 6),
        ([describe("invert")], ITERATIONS),
        ([oneshot_desc(prune_highest=True)], 0),
        ([describe("gmp", gmp_end="2ep", density=0.1)], ITERATIONS),
        # A state of the complete parent that it did not keep: replayed so far, and no further.
        ([oneshot_desc(prune_step="7it", density=0.2)], 7 + ITERATIONS),
    ]
    for number, (descs, iterations) in enumerate(commands):
        before = counter.iterations
        for desc in descs:
            complete(desc, place)
        assert counter.iterations - before == iterations, f"command {number}"
