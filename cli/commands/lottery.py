"""The command `lottery`, and its levels as parents of branches (`branch lottery BRANCH`)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

from branches.lottery.lottery import Lottery, LotteryHparams, parse_levels
from branches.named.branch import Branch
from cli.commands.jobs import TRAIN, parse_job, series_request, taken_by_default, train_desc
from cli.request.flags import Flags
from cli.request.request import Request, run_request
from foundations.description.hparams import Hparams, merged_group
from foundations.environment import Environment
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from training.recipes import lottery_recipe

PREFIX = "branch_"
"""Before flags of a branch of levels whose names are flags of the lottery: pruning, seed, reinitialize."""
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
    wanted = parse_levels(f"0-{text}" if text.isdecimal() else text)
    descs = {str(number): desc for number, desc in lottery_of(flags).levels(max(wanted)) if number in wanted}
    return series_request(descs, flags, "level", lottery_defaults(flags, argv))


def lottery_of(flags: Any) -> Lottery:
    """Return the lottery that the flags describe."""
    return Lottery(train_desc(flags), flags.pruning, flags.lottery)


def lottery_defaults(flags: Any, argv: Sequence[str], *others: tuple[Mapping[str, Any], Sequence[str]]) -> str:
    """Return a line with the defaults of the flags for pruning levels, and of others, that were not given."""
    values = {
        "strategy": flags.pruning.strategy,
        "pruning_fraction": flags.lottery.pruning_fraction,
        "levels": flags.lottery.levels,
        "pruning_layers_to_ignore": flags.pruning.pruning_layers_to_ignore,
    }
    return taken_by_default(argv, *(({flag: value}, (flag,)) for flag, value in values.items()), *others)


@dataclass(frozen=True, kw_only=True)
class LevelBranchHparams(Hparams):
    """Flags of a branch of levels: the branch's own, and those of pruning where it prunes."""

    branch: ClassVar[Branch]

    @classmethod
    def group_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """Return the class with the options of the branch's strategy, by default the lottery's."""
        strategy = values.get(PREFIX + "strategy") or values.get("strategy") or PruningHparams.strategy
        with naming_flags_of(cls):
            return cast("type[Self]", _own_flags(cls.branch, PruningHparams.group_for({"strategy": strategy})))

    @classmethod
    def owners(cls) -> Mapping[str, type[Hparams]]:
        """Return the strategies of the branch, and the groups with the options of their methods."""
        if not cls.branch.prunes:
            return {}
        owners = PruningHparams.owners().items()
        return {PREFIX + name: _own_flags(cls.branch, cast("type[PruningHparams]", kind)) for name, kind in owners}


@functools.cache
def _own_flags(found: Branch, pruning: type[PruningHparams]) -> type[Hparams]:
    """Return the flags that a branch of levels has besides the lottery's."""
    renamed = _renamed(found)
    if not found.prunes and not renamed:
        return found.flags
    base = type("LevelBranchHparams", (LevelBranchHparams,), {"branch": found, "_is_generated": True})
    of_pruning = merged_group("BranchPruning", (pruning,), Hparams, "", PREFIX, "As --{}, for the branch.")
    groups = (found.flags, of_pruning) if found.prunes else (found.flags,)
    return merged_group("LevelBranchHparams", groups, base, found.flags.__doc__ or "", renamed=renamed)


def _renamed(found: Branch) -> dict[str, str]:
    """Return the branch's flags that have another name on levels."""
    return {name: PREFIX + name for name in found.flags.names() if name in LotteryHparams.names()}


@functools.cache
def level_flags_of(found: Branch) -> Flags:
    """Return the flags of a branch of levels: the lottery's and its own."""
    command, summary = f"branch lottery {found.spelling}", found.describe.__doc__ or ""
    return Flags(command, summary, **LOTTERY.groups, branch=_own_flags(found, PruningHparams))


def of_branch(found: Branch, flags: Any) -> tuple[PruningHparams, Hparams]:
    """Return the pruning of a branch of levels, and the branch's own flags.

    The lottery's pruning and seed are the defaults. Raises: UsageError.
    """
    names = {name: _renamed(found).get(name, name) for name in found.flags.names()}
    values = flags.branch.values()
    own = {name: values.pop(flag) for name, flag in names.items()}
    if own.get("seed") is None:
        own["seed"] = flags.lottery.seed
    pruning = {flag.removeprefix(PREFIX): value for flag, value in values.items() if value is not None}
    return flags.pruning.replaced(pruning), found.flags.of(own)


@contextlib.contextmanager
def naming_flags_of(group: Hparams | type[Hparams]) -> Iterator[None]:
    """Let errors about a branch of levels name its flags."""
    try:
        yield
    except UsageError as error:
        names = [PREFIX + name if PREFIX + name in group.names() else name for name in error.hparams]
        if names == list(error.hparams):
            raise
        raise UsageError(error.reason, *names) from error
