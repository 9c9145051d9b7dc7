"""The command that computes a grid of runs: planned as one graph, executed, and continued when it is repeated."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cli.dispatching import Dispatched, dispatch_plan
from cli.estimate import Estimate, has_checkpoint, iterations_left
from cli.flags import parse, positional, taken_out
from cli.grid import Grid, Sweep, parse_axis, parse_rule, read_sweep
from cli.help import PLUGIN, help_asked
from cli.plain_table import duration
from cli.request import Request
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.hparams import Hparams, hparam
from foundations.plan import Plan, PlannedRun, plan
from foundations.program import PROGRAM
from foundations.registry import load, loaded_plugins
from platforms.executors.base import ExecutorHparams
from platforms.executors.site import site_settings

_REQUESTS = {
    "train": "cli.jobs:train_request",
    "branch": "cli.branch:branch_request",
    "lottery": "cli.lottery:lottery_request",
}
"""The commands that a sweep repeats, and the functions that say what they ask for."""
_USAGE = f"usage: {PROGRAM} sweep [FILE.toml] [--grid FLAG=VALUES]... [FLAGS] [-- COMMAND FLAGS]"


@dataclass(frozen=True, kw_only=True)
class SweepHparams(Hparams):
    """Which runs, and what is done with them."""

    grid: str | None = hparam(None)
    """Values of a flag, such as strategy=snip10,synflow, replicate=1-5 or density=0.8^1..10 (powers). Every combination
    of the values of repeated --grid is a run. Flags that vary together: lr,batch_size=0.1:128,0.01:64."""
    when: str | None = hparam(None)
    """Flags of the runs that have some value, such as strategy=synflow:prune_iterations=100. May be repeated."""
    retry: str | None = hparam(None, choices=("failed",))
    """failed: start runs that failed before again. By default they stay failed, and the sweep says so."""
    export: bool = hparam(False)
    """Print the plain commands of the runs, one a line, in an order in which they can run one by one, and stop."""
    dry_run: bool = hparam(False)
    """Print what would be computed and what is there already, and stop."""
    quiet: bool = hparam(False)
    """Print nothing but failures."""


@dataclass(frozen=True, kw_only=True)
class SweepFlags:
    """Compute a grid of runs; repeated, go on with what is left. What stands behind -- is the command of every run."""

    sweep: SweepHparams = field(default_factory=SweepHparams)
    executor: ExecutorHparams = field(default_factory=ExecutorHparams)


@dataclass(frozen=True)
class Asked:
    """A point of the sweep: its command, what it is called, and what it asks for."""

    argv: tuple[str, ...]
    label: str
    request: Request
    grid: str = ""
    """The name of the grid that it is of."""


@dataclass(frozen=True)
class PlannedSweep:
    """The points of a sweep, and their runs as one graph."""

    asked: tuple[Asked, ...]
    plan: Plan

    def targets(self) -> Iterator[tuple[Asked, str, PlannedRun]]:
        """Yield each run that a point asks for, with the point and the run's name among those of the point."""
        for each in self.asked:
            for name, target in each.request.targets.items():
                yield each, name, self.plan[target.desc.location(target.replicate)]

    def labels(self) -> dict[PlannedRun, str]:
        """Return what the runs of a sweep are called, for people."""
        labels: dict[PlannedRun, str] = {}
        for each, name, planned in self.targets():
            labels.setdefault(planned, f"{each.label} {each.request.series} {name}".strip() if name else each.label)
        return labels

    def preview(self) -> str:
        """Return how many runs there are, how many are done, and what is left to do."""
        runs, to_do = list(self.plan), self.plan.to_do()
        targets = sum(len(each.request.targets) for each in self.asked)
        distinct = sum(planned.is_target for planned in runs)
        done = sum(planned.is_target and planned.is_done for planned in runs)
        iterations = sum(map(iterations_left, to_do))
        lines = [
            f"{targets} run{'s' if targets != 1 else ''}"
            + (f" ({distinct} different ones)" if distinct != targets else "")
            + f", {done} done"
        ]
        ancestors = [planned for planned in to_do if not planned.is_target]
        if ancestors:
            lines.append(f"{len(ancestors)} more that they draw on are made as far as they are needed")
        if to_do:
            seconds = Estimate(planned for planned in runs if planned.is_done).seconds(to_do, 1)
            time = f"about {duration(seconds)} of computing" if seconds is not None else "time not known yet"
            resumed = sum(map(has_checkpoint, to_do))
            lines.append(
                f"{iterations} iterations left, {time}" + (f"; {resumed} go on from a checkpoint" if resumed else "")
            )
        return "\n".join(lines)


def sweep(argv: Sequence[str], environment: Environment) -> int:
    """`sweep`: compute a grid of runs."""
    described, rest = described_by(argv)
    flags = parse(SweepFlags, rest, "sweep", {"executor": "pool", **site_settings(environment.site)})
    asked = asked_by(described, environment)
    if flags.sweep.export:
        plugins = [f"--{PLUGIN}={plugin.path.absolute()}" for plugin in loaded_plugins()]
        print("\n".join(f"{PROGRAM} {shlex.join([*each.argv, *plugins])}" for each in asked))
        return 0
    planned = plan_sweep(asked, environment)
    quiet = flags.sweep.quiet or asked[0].request.job.quiet
    if not quiet or flags.sweep.dry_run:
        print(planned.preview(), flush=True)
    if flags.sweep.dry_run:
        return 0
    is_retry = flags.sweep.retry == "failed"
    return compute_sweep(planned, flags.executor, environment, quiet=quiet, retry_failed=is_retry).exit_code


def plan_sweep(asked: Sequence[Asked], environment: Environment) -> PlannedSweep:
    """Return the plan for the points of a sweep. Raises: DamagedError where a run that is there is another one."""
    targets = (target for each in asked for target in each.request.targets.values())
    return PlannedSweep(tuple(asked), plan(targets, asked[0].request.job.root_in(environment)))


def compute_sweep(
    planned: PlannedSweep, executor: ExecutorHparams, environment: Environment, *, quiet: bool, retry_failed: bool
) -> Dispatched:
    """Compute what is missing of a sweep, and print what became of it unless it is to be quiet."""
    first = planned.asked[0]
    request = replace(first.request, job=replace(first.request.job, quiet=quiet), executor=executor)
    what = f"sweep of {len(planned.asked)} runs: {' '.join(first.argv[:3])}"
    outcome = dispatch_plan(
        planned.plan, request, environment, what, labels=planned.labels(), retry_failed=retry_failed
    )
    if not quiet:
        print(_summary(planned.plan, outcome))
    return outcome


def described_by(argv: Sequence[str]) -> tuple[Sweep, list[str]]:
    """Return the sweep that arguments, and the file if they name one, describe, and the arguments that are left.

    Raises: UsageError, EnvironmentFailure.
    """
    cut = list(argv).index("--") if "--" in argv else len(argv)
    grids, own = taken_out("grid", argv[:cut])
    rules, own = taken_out("when", own)
    names, rest = positional(own)
    words, flags = positional(argv[cut + 1 :])
    if help_asked(rest) is not None:
        return Sweep(), rest
    if len(names) > 1 or not (names or words):
        raise UsageError(f"give one file, or a command behind --.\n{_USAGE}")
    file = read_sweep(Path(names[0]), words) if names else Sweep((Grid(tuple(words), {}, ()),))
    added, more = tuple(map(parse_axis, grids)), tuple(map(parse_rule, rules))
    whole = Sweep(
        tuple(
            replace(each, axes=(*each.axes, *added), rules=(*each.rules, *more), flags=tuple(flags))
            for each in file.grids
        )
    )
    return whole, rest


def asked_by(described: Sweep, environment: Environment) -> list[Asked]:
    """Return what each point of a sweep asks for. Raises: UsageError that says which run it is about."""
    found = []
    for argv, label, grid in described.points():
        if argv[0] not in _REQUESTS:
            raise UsageError(f"'{argv[0]}' is not a command to sweep over; choose from {', '.join(_REQUESTS)}.")
        try:
            request: Request = load(_REQUESTS[argv[0]])(argv[1:], environment)
        except UsageError as error:
            where = f"\n(in the run with {label})" if label else ""
            raise UsageError(f"{error.reason}{where}", *error.hparams) from error
        found.append(Asked(argv, label, request, grid))
    if not found:
        raise UsageError(f"the sweep has no runs.\n{_USAGE}")
    return found


def _summary(made: Plan, outcome: Dispatched) -> str:
    """Return what became of a sweep."""
    targets = [planned for planned in made if planned.is_target]
    computed = set(map(id, outcome.computed))
    done = [planned for planned in targets if planned.is_done]
    ours = sum(id(planned) in computed for planned in done)
    are = "runs are" if len(targets) != 1 else "run is"
    lines = [f"{len(done)} of {len(targets)} {are} complete: {ours} computed now, {len(done) - ours} before"]
    if outcome.failed:
        lines.append(f"{len(outcome.failed)} failed. Once the cause is mended, repeat the sweep with --retry failed.")
    if outcome.is_stopped:
        lines.append(outcome.still or "Stopped. The same command goes on from there.")
    return "\n".join(lines)
