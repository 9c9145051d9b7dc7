"""The commands of the lottery: `lottery`, and `branch lottery BRANCH` over a range of its levels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from branches.lottery.lottery import LevelBranch, Lottery, LotteryHparams, parse_levels
from branches.registry import LEVEL_BRANCHES
from cli.commands.jobs import TRAIN, check_keep_best, parse_job, request_of, taken_by_default, target_of, train_desc
from cli.request.flags import Flags
from cli.request.request import Request, run_request
from foundations.description.desc import Desc, RunRef
from foundations.environment import Environment
from foundations.errors import UsageError, choose_from
from foundations.plan import Target
from foundations.plugins.users_code import returned
from pruning.hparams import PruningHparams
from training.recipes import lottery_recipe

LOTTERY = Flags(
    "lottery",
    "Train, prune, rewind, again: iterative magnitude pruning, or any other strategy in magnitude's place.",
    **TRAIN.groups,
    pruning=PruningHparams,
    lottery=LotteryHparams,
)


def lottery(argv: Sequence[str], environment: Environment) -> int:
    """`lottery`: compute the levels of a lottery, or reuse them."""
    return run_request(lottery_request(argv, environment), environment)


def lottery_request(argv: Sequence[str], environment: Environment) -> Request:
    """Return the request of a `lottery` command. Raises: UsageError, HelpRequested."""
    flags = parse_job(LOTTERY, argv, environment, recipe_of=lottery_recipe)
    text = flags.lottery.levels
    return _over_levels(flags, f"0-{text}" if text.isdecimal() else text, None, argv)


@functools.cache
def level_flags_of(found: LevelBranch) -> Flags:
    """Return the flags of a branch of levels: the lottery's and its own."""
    command, summary = f"branch lottery {found.spelling}", found.describe.__doc__ or ""
    return Flags(command, summary, **LOTTERY.groups, branch=found.flags)


def branch_lottery_request(name: str, argv: Sequence[str], environment: Environment) -> Request:
    """Return the request of `branch lottery NAME`: a branch of each chosen level. Raises: UsageError."""
    if name not in LEVEL_BRANCHES:
        raise UsageError(
            f"'{name}' is not a branch of lottery{choose_from(name, LEVEL_BRANCHES.spellings())}\n"
            "Or branch a level by its address: branch ADDRESS oneshot."
        )
    found = LEVEL_BRANCHES.find(name)
    flags = parse_job(level_flags_of(found), argv, environment, recipe_of=lottery_recipe)
    return _over_levels(flags, flags.lottery.levels, found, argv)


def _over_levels(flags: Any, levels: str, found: LevelBranch | None, argv: Sequence[str]) -> Request:
    """Return the request for the chosen levels, or for a branch of each of them."""
    wanted, described = parse_levels(levels), Lottery(train_desc(flags), flags.pruning, flags.lottery)
    targets = {}
    for number, desc in described.levels(max(wanted)):
        if number in wanted:
            targets[str(number)] = _target(flags, described, desc, found)
    values = {
        "strategy": flags.pruning.strategy,
        "pruning_fraction": flags.lottery.pruning_fraction,
        "levels": flags.lottery.levels,
        "pruning_layers_to_ignore": flags.pruning.pruning_layers_to_ignore,
    }
    defaults = taken_by_default(argv, *(({flag: value}, (flag,)) for flag, value in values.items()))
    return request_of(flags, targets, series="level", first_line=defaults)


def _target(flags: Any, described: Lottery, level: Desc, found: LevelBranch | None) -> Target:
    """Return the target of a level with the states that the flags name, or of a branch of the level."""
    if found is None:
        check_keep_best(level, flags.job)
        return target_of(level, flags.job)
    branch = returned(found.describe(described, RunRef(level), flags.branch), Desc, found.describe, found)
    check_keep_best(branch, flags.job)
    return Target(branch, flags.job.replicate)
