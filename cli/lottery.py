"""The commands of the lottery: `lottery`, and `branch lottery BRANCH` over a range of its levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from branches.lottery import Lottery, LotteryHparams, parse_levels
from branches.registry import LEVEL_BRANCHES
from cli.jobs import TrainFlags, parse_job, plan_table, steps_to_keep, taken_by_default, with_context
from cli.table import percent, table
from foundations.desc import Desc, RunRef
from foundations.environment import Environment
from foundations.errors import UsageError, choose_from
from foundations.plan import Target, plan
from foundations.store import short_address
from pruning.hparams import PruningHparams
from training.execution import execute
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
    flags = parse_job(LotteryFlags, argv, "lottery", environment, recipe_of=lottery_recipe)
    text = flags.lottery.levels
    wanted = parse_levels(f"0-{text}" if text.isdigit() else text)
    return _over_levels(flags, environment, wanted, None, argv)


def branch_lottery(name: str, argv: Sequence[str], environment: Environment) -> int:
    """`branch lottery NAME`: compute a branch of each of some levels."""
    if name not in LEVEL_BRANCHES:
        raise UsageError(
            f"'{name}' is not a branch of lottery{choose_from(name, LEVEL_BRANCHES.spellings())}\n"
            "Or branch a level by its address: branch ADDRESS oneshot."
        )
    found = LEVEL_BRANCHES.find(name)
    own = [("branch", found.flags, field(default_factory=found.flags))]
    kind = make_dataclass("LevelBranchFlags", own, bases=(LotteryFlags,), frozen=True, kw_only=True)
    kind.__doc__ = found.describe.__doc__
    flags: Any = parse_job(kind, argv, f"branch lottery {name}", environment, recipe_of=lottery_recipe)
    wanted = parse_levels(flags.lottery.levels)
    return _over_levels(
        flags, environment, wanted, lambda levels, level: found.describe(levels, level, flags.branch), argv
    )


def _over_levels(
    flags: LotteryFlags,
    environment: Environment,
    wanted: Sequence[int],
    branch: Callable[[Lottery, RunRef], Desc] | None,
    argv: Sequence[str],
) -> int:
    targets = _targets(flags, wanted, branch)
    root, replicate = flags.job.root_in(environment), flags.job.replicate
    if flags.job.display_output_location:
        for target in targets.values():
            print(target.desc.location(replicate).under(root))
        return 0
    made = plan(targets.values(), root)
    if flags.job.dry_run:
        for number, target in targets.items():
            planned = made[target.desc.location(replicate)]
            print(f"level {number}: {planned.status}, {planned.run.folder}")
        print(f"\n{plan_table(made)}")
        return 0
    first_line = _defaults(flags, argv)
    if first_line and not flags.job.quiet:
        print(first_line, flush=True)
    computed = with_context(flags.job, flags.platform, environment, lambda context: execute(made, context))
    if not flags.job.quiet:
        rows = []
        for number, target in targets.items():
            planned = made[target.desc.location(replicate)]
            results = planned.manifest.results if planned.manifest else {}
            rows.append(
                {
                    "level": str(number),
                    "sparsity": percent(results.get("sparsity", 0.0)),
                    "accuracy": percent(results.get("test_accuracy")),
                    "this time": "computed" if planned in computed else "reused",
                    "address": short_address(planned.run),
                }
            )
        print(table(rows, ("level", "sparsity", "accuracy", "this time", "address")))
        print(f"results under: {root}")
    return 0


def _defaults(flags: LotteryFlags, argv: Sequence[str]) -> str:
    """Return what was not given about how levels are pruned, in words."""
    values = {
        "strategy": flags.pruning.strategy,
        "pruning_fraction": flags.lottery.pruning_fraction,
        "levels": flags.lottery.levels,
        "pruning_layers_to_ignore": flags.pruning.pruning_layers_to_ignore,
    }
    return taken_by_default(argv, *(({flag: value}, (flag,)) for flag, value in values.items()))


def _targets(
    flags: LotteryFlags, wanted: Sequence[int], branch: Callable[[Lottery, RunRef], Desc] | None
) -> dict[int, Target]:
    """Return what is asked for of each level: the level itself, or a branch of it."""
    described, found = flags.described(), {}
    for number, desc in described.levels(max(wanted)):
        if number in wanted:
            asked = desc if branch is None else branch(described, RunRef(desc))
            keep = steps_to_keep(desc, flags.job.weight_save_steps) if branch is None else []
            found[number] = Target(asked, flags.job.replicate, tuple(keep))
    return found
