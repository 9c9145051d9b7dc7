"""The commands of the lottery: `lottery`, and `branch lottery BRANCH` over a range of its levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from branches.lineage import job_of
from branches.lottery import (
    Lottery,
    LotteryHparams,
    RandomlyPruneHparams,
    RandomlyReinitializeHparams,
    parse_levels,
    prepare,
    randomly_prune,
    randomly_reinitialize,
)
from branches.named import RetrainHparams, retrain
from cli.addresses import short_address
from cli.job_flags import make_context
from cli.jobs import TrainFlags, make_reporter, parse_job, steps_to_keep
from cli.main import Environment
from cli.table import percent, table
from foundations.address import Desc
from foundations.errors import UsageError, did_you_mean
from foundations.hparams import Hparams
from foundations.interrupts import Interrupts
from foundations.step import Step
from pruning.hparams import PruningHparams
from training.completion import complete
from training.job import Job, Outcome


@dataclass(frozen=True, kw_only=True)
class LotteryFlags(TrainFlags):
    """Train, prune, rewind, again: iterative magnitude pruning, or any other strategy in magnitude's place."""

    pruning: PruningHparams = field(default_factory=PruningHparams)
    lottery: LotteryHparams = field(default_factory=LotteryHparams)

    def described(self) -> Lottery:
        """Return the lottery that the flags describe."""
        return Lottery(self.train_desc(), self.pruning, self.lottery)


@dataclass(frozen=True)
class LevelBranch:
    """A branch of the levels of a lottery."""

    describe: Callable[[Lottery, Job, Any], Desc]
    flags: type[Hparams]

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return (self.describe.__doc__ or "").splitlines()[0]


def _retrain(lottery: Lottery, level: Job, own: RetrainHparams) -> Desc:
    """Train a level's first weights and mask with other hyperparameters (OpenLTH's retrain)."""
    return retrain(lottery.parent(level), lottery.pruning, own)


LEVEL_BRANCHES = {
    "randomly_prune": LevelBranch(randomly_prune, RandomlyPruneHparams),
    "randomly_reinitialize": LevelBranch(randomly_reinitialize, RandomlyReinitializeHparams),
    "retrain": LevelBranch(_retrain, RetrainHparams),
}


def lottery(argv: Sequence[str], environment: Environment) -> int:
    """`lottery`: compute the levels of a lottery, or reuse them."""
    flags = parse_job(LotteryFlags, argv, "lottery", environment)
    text = flags.lottery.levels
    wanted = parse_levels(f"0-{text}" if text.isdigit() else text)
    return _over_levels(flags, environment, wanted, branch=None)


def branch_lottery(name: str, argv: Sequence[str], environment: Environment) -> int:
    """`branch lottery NAME`: compute a branch of each of some levels."""
    if name not in LEVEL_BRANCHES:
        raise UsageError(
            f"'{name}' is not a branch of lottery.{did_you_mean(name, LEVEL_BRANCHES)} Possible: "
            f"{', '.join(LEVEL_BRANCHES)}; or branch a level by its address: branch ADDRESS oneshot."
        )
    named = LEVEL_BRANCHES[name]
    kind = make_dataclass(
        "LevelBranchFlags",
        [("branch", named.flags, field(default_factory=named.flags))],
        bases=(LotteryFlags,),
        frozen=True,
        kw_only=True,
    )
    kind.__doc__ = named.describe.__doc__
    flags: Any = parse_job(kind, argv, f"branch lottery {name}", environment)
    wanted = parse_levels(flags.lottery.levels)
    return _over_levels(flags, environment, wanted, lambda levels, job: named.describe(levels, job, flags.branch))


def _over_levels(
    flags: LotteryFlags,
    environment: Environment,
    wanted: Sequence[int],
    branch: Callable[[Lottery, Job], Desc] | None,
) -> int:
    interrupts = Interrupts()
    described = flags.described()
    context = make_context(flags.job, flags.platform, environment, make_reporter(flags.job.quiet), interrupts)
    if flags.job.display_output_location or flags.job.dry_run:
        for number, job in described.levels(max(wanted)):
            run = (job if branch is None else job_of(branch(described, job))).run(context)
            if number in wanted and flags.job.dry_run:
                status = "complete" if run.manifest() else "incomplete" if run.exists() else "not begun"
                print(f"level {number}: {status}, {run.folder}")
            elif number in wanted:
                print(run.folder)
        return 0
    rows = []
    with interrupts.caught():
        prepare(described, context)
        for number, job in described.levels(max(wanted)):
            outcome = complete(job, context, _kept(described, number, job, flags))
            if branch is not None and number in wanted:
                outcome = complete(job_of(branch(described, job)), context)
            if number in wanted:
                rows.append(_row(number, outcome))
    if not flags.job.quiet:
        print(table(rows, ("level", "sparsity", "accuracy", "this time", "address")))
        print(f"results under: {context.root}")
    return 0


def _kept(described: Lottery, number: int, job: Job, flags: LotteryFlags) -> list[Step]:
    """Return the states to keep of a level: of the dense one also that to which the others rewind."""
    keep = steps_to_keep(job, flags.job.weight_save_steps)
    if number == 0 and not flags.lottery.pretrains:
        keep.append(described.trunk.step(flags.lottery.rewinding_steps, "rewinding_steps"))
    return keep


def _row(number: int, outcome: Outcome) -> dict[str, str]:
    results = outcome.manifest.results
    return {
        "level": str(number),
        "sparsity": percent(results.get("sparsity", 0.0)),
        "accuracy": percent(results.get("test_accuracy")),
        "this time": "reused" if outcome.reused else "computed",
        "address": short_address(outcome.run),
    }
