"""The commands of the lottery: `lottery`, and `branch lottery BRANCH` over a range of its levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from branches.lottery.lottery import LevelBranch, Lottery, LotteryHparams, parse_levels
from branches.registry import LEVEL_BRANCHES
from cli.commands.jobs import TrainFlags, check_keep_best, parse_job, steps_to_keep, taken_by_default
from cli.request.request import Request, run_request
from foundations.description.desc import Desc, RunRef
from foundations.environment import Environment
from foundations.errors import UsageError, choose_from
from foundations.plan import Target
from foundations.plugins.users_code import returned
from pruning.hparams import PruningHparams
from training.recipes import lottery_recipe


@dataclass(frozen=True, kw_only=True)
class LotteryFlags(TrainFlags):
    """Train, prune, rewind, again: iterative magnitude pruning, or any other strategy in magnitude's place."""

    pruning: PruningHparams = field(default_factory=PruningHparams)
    lottery: LotteryHparams = field(default_factory=LotteryHparams)

    def described(self) -> Lottery:
        """Return the lottery that the flags describe."""
        return Lottery(self.train_desc(), self.pruning, self.lottery)


def lottery(argv: Sequence[str], environment: Environment) -> int:
    """`lottery`: compute the levels of a lottery, or reuse them."""
    return run_request(lottery_request(argv, environment), environment)


def lottery_request(argv: Sequence[str], environment: Environment) -> Request:
    """Return the request of a `lottery` command. Raises: UsageError, HelpRequested."""
    flags = parse_job(LotteryFlags, argv, "lottery", environment, recipe_of=lottery_recipe)
    text = flags.lottery.levels
    wanted = parse_levels(f"0-{text}" if text.isdecimal() else text)
    return _over_levels(flags, wanted, None, argv)


def level_flags_of(found: LevelBranch) -> Any:
    """Return the dataclass of the flags of a branch of levels: the lottery's and its own."""
    own = [("branch", found.flags, field(default_factory=found.flags))]
    kind = make_dataclass("LevelBranchFlags", own, bases=(LotteryFlags,), frozen=True, kw_only=True)
    kind.__doc__ = found.describe.__doc__
    return kind


def branch_lottery_request(name: str, argv: Sequence[str], environment: Environment) -> Request:
    """Return the request of `branch lottery NAME`: a branch of each chosen level. Raises: UsageError."""
    if name not in LEVEL_BRANCHES:
        raise UsageError(
            f"'{name}' is not a branch of lottery{choose_from(name, LEVEL_BRANCHES.spellings())}\n"
            "Or branch a level by its address: branch ADDRESS oneshot."
        )
    found = LEVEL_BRANCHES.find(name)
    flags: Any = parse_job(level_flags_of(found), argv, f"branch lottery {name}", environment, recipe_of=lottery_recipe)
    wanted = parse_levels(flags.lottery.levels)

    def describe(levels: Lottery, level: RunRef) -> Desc:
        return returned(found.describe(levels, level, flags.branch), Desc, found.describe, found)

    return _over_levels(flags, wanted, describe, argv)


def _over_levels(
    flags: LotteryFlags,
    wanted: Sequence[int],
    branch: Callable[[Lottery, RunRef], Desc] | None,
    argv: Sequence[str],
) -> Request:
    return Request(
        targets=_targets(flags, wanted, branch),
        job=flags.job,
        platform=flags.platform,
        executor=flags.executor,
        series="level",
        first_line=_defaults(flags, argv),
    )


def _defaults(flags: LotteryFlags, argv: Sequence[str]) -> str:
    """Return a line with the defaults of the flags for pruning levels that were not given."""
    values = {
        "strategy": flags.pruning.strategy,
        "pruning_fraction": flags.lottery.pruning_fraction,
        "levels": flags.lottery.levels,
        "pruning_layers_to_ignore": flags.pruning.pruning_layers_to_ignore,
    }
    return taken_by_default(argv, *(({flag: value}, (flag,)) for flag, value in values.items()))


def _targets(
    flags: LotteryFlags, wanted: Sequence[int], branch: Callable[[Lottery, RunRef], Desc] | None
) -> dict[str, Target]:
    """Return the target of each chosen level: the level itself, or a branch of it."""
    described, found = flags.described(), {}
    for number, desc in described.levels(max(wanted)):
        if number in wanted:
            asked = desc if branch is None else branch(described, RunRef(desc))
            check_keep_best(asked, flags.job)
            keep = steps_to_keep(desc, flags.job.weight_save_steps) if branch is None else []
            found[str(number)] = Target(asked, flags.job.replicate, tuple(keep))
    return found
