"""The command that computes a grid of runs: planned as one graph, executed, and continued when it is repeated."""

from __future__ import annotations

import contextlib
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cli.commands.all_flags import names_of_all_flags
from cli.progress.estimate import Estimate, has_checkpoint, iterations_left
from cli.progress.rates import Case, Rates
from cli.request.dispatching import Dispatched, dispatch_plan
from cli.request.flags import Flags, flags_of, positional, taken_out
from cli.request.grid import Grid, Sweep, parse_axis, parse_rule, read_sweep
from cli.request.help import PLUGIN, split_help
from cli.request.job_flags import RequestHparams
from cli.request.remote_runs import planned_with_remote
from cli.request.request import REQUESTS, Request
from cli.request.sweep_flags import refuse_disagreement, refuse_two_values, without_shared
from foundations.description.hparams import Hparams, hparam
from foundations.environment import Environment
from foundations.errors import UsageError, did_you_mean
from foundations.plan import Plan, PlannedRun, plan
from foundations.program import PROGRAM
from foundations.registry import load, loaded_plugins
from platforms.executors.executor import Program
from platforms.executors.registry import EXECUTORS, ExecutorHparams, make_executor
from platforms.executors.site import site_settings
from platforms.platform import PlatformHparams

_USAGE = f"usage: {PROGRAM} sweep [FILE.toml] [--grid FLAG=VALUES]... [FLAGS] [-- COMMAND FLAGS]"


@dataclass(frozen=True, kw_only=True)
class SweepHparams(Hparams):
    """Runs of the sweep, and actions on them."""

    grid: str | None = hparam(None)
    """Values of a flag, such as strategy=snip10,synflow, replicate=1-5 or density=0.8^1..10 (powers). Every combination
    of the values of repeated --grid is a run. Flags that vary together: lr,batch_size=0.1:128,0.01:64."""
    when: str | None = hparam(None)
    """Flags of the runs that have some value, such as strategy=synflow:prune_iterations=100. May be repeated."""
    retry: str | None = hparam(None, choices=("failed",))
    """failed: start runs that failed before again. By default they stay failed, and the sweep lists them."""
    export: bool = hparam(False)
    """Print the plain commands of the runs, one a line, in an order in which they can run one by one, and stop."""


SHARED: dict[str, type[Hparams]] = {"job": RequestHparams, "platform": PlatformHparams, "executor": ExecutorHparams}
"""The groups of the commands that give many runs to an executor."""
SWEEP = Flags(
    "sweep",
    "Compute a grid of runs; repeated, go on with what is left. What stands behind -- is the command of every run.",
    sweep=SweepHparams,
    **SHARED,
)


@dataclass(frozen=True)
class Asked:
    """A point of the sweep: its command, its label and its request."""

    argv: tuple[str, ...]
    label: str
    request: Request
    grid: str = ""
    """The name of its grid."""


@dataclass(frozen=True)
class PlannedSweep:
    """The points of a sweep, and their runs as one graph."""

    asked: tuple[Asked, ...]
    plan: Plan

    def targets(self) -> Iterator[tuple[Asked, str, PlannedRun]]:
        """Yield each requested run, with its point and the run's name within the point."""
        for each in self.asked:
            for name, target in each.request.targets.items():
                yield each, name, self.plan[target.desc.location(target.replicate)]

    def requested(self) -> list[PlannedRun]:
        """Return the requested runs, each once."""
        return list(dict.fromkeys(planned for *_, planned in self.targets()))

    def labels(self) -> dict[PlannedRun, str]:
        """Return the label of each run of the sweep, for people."""
        labels: dict[PlannedRun, str] = {}
        for each, name, planned in self.targets():
            labels.setdefault(planned, f"{each.label} {each.request.series} {name}".strip() if name else each.label)
        return labels


def sweep(argv: Sequence[str], environment: Environment) -> int:
    """`sweep`: compute a grid of runs."""
    described, rest = described_by(argv)
    described, own, behind = without_shared(described)
    refuse_two_values(rest, behind)
    flags = parse_whole(SWEEP, [*own, *behind, *rest], environment)
    asked = asked_by(with_shared(described, flags.job, flags.platform), environment)
    if flags.sweep.export:
        plugins = [f"--{PLUGIN}={plugin.path.absolute()}" for plugin in loaded_plugins()]
        print("\n".join(f"{PROGRAM} {shlex.join([*each.argv, *plugins])}" for each in asked))
        return 0
    return compute_sweep(plan_sweep(asked, environment), flags, environment, flags.sweep.retry)


def parse_whole(kind: Flags, argv: Sequence[str], environment: Environment) -> SimpleNamespace:
    """Return the flags of a command that gives many runs to an executor. Raises: UsageError, HelpRequested."""
    flags = kind.parse(argv, {"executor": "pool", **site_settings(environment.site)})
    if flags.executor.executor is None:
        names = ", ".join(EXECUTORS.spellings())
        raise UsageError(f"the runs of a {kind.command} are given to an executor; choose from {names}.", "executor")
    return flags


def with_shared(described: Sweep, job: RequestHparams, platform: PlatformHparams) -> Sweep:
    """Return a sweep whose runs have the flags that they share, except those that only print.

    Raises: UsageError where a grid varies a flag that is fixed for all its runs.
    """
    refuse_disagreement(described)
    shared = (*flags_of(job.replaced({"dry_run": False, "display_output_location": False})), *flags_of(platform))
    return Sweep(tuple(replace(grid, flags=(*grid.flags, *shared)) for grid in described.grids))


def plan_sweep(asked: Sequence[Asked], environment: Environment) -> PlannedSweep:
    """Plan the runs of a sweep; pull first those that its remote has, if it names one.

    Raises: DamagedError where an existing run has another description.
    """
    job = asked[0].request.job
    targets = [target for each in asked for target in each.request.targets.values()]
    made = planned_with_remote(lambda: plan(targets, job.root_in(environment)), job, environment)
    return PlannedSweep(tuple(asked), made)


def compute_sweep(
    planned: PlannedSweep,
    flags: Any,
    environment: Environment,
    retry: str | None,
    *,
    title: str = "",
    measured: Sequence[Case] = (),
) -> int:
    """Preview a sweep, compute its missing runs unless the flags say otherwise, and return the exit code.

    title: a line above the preview. measured: scoring cases of measures.
    """
    job = flags.job
    if job.display_output_location:
        print("\n".join(dict.fromkeys(str(each.run.place) for *_, each in planned.targets())))
        return 0
    if not job.quiet or job.dry_run:
        print(title + _preview_of(planned, flags, environment, measured), flush=True)
    if job.dry_run:
        return 0
    first = planned.asked[0]
    request = replace(first.request, job=replace(first.request.job, quiet=job.quiet), executor=flags.executor)
    what = f"sweep of {len(planned.asked)} runs: {' '.join(first.argv[:3])}"
    is_retry = retry == "failed"
    outcome = dispatch_plan(planned.plan, request, environment, what, labels=planned.labels(), retry_failed=is_retry)
    if not job.quiet:
        print(_summary(planned.requested(), outcome), flush=True)
    if outcome.is_stopped and not outcome.still:
        print("open_prune: Stopped; the jobs wrote checkpoints. The same command goes on from there.", file=sys.stderr)
    return outcome.exit_code


def _preview_of(planned: PlannedSweep, flags: Any, environment: Environment, measured: Sequence[Case]) -> str:
    """Return the number of runs, of done ones, the work left, and the estimated time.

    The estimate needs timings of this machine; a dry run times missing cases.
    """
    at_once, threads = 1, None
    if EXECUTORS.find(str(flags.executor.executor)).is_local:
        with make_executor(flags.executor, Program(entry="")) as executor:
            at_once, threads = executor.slots(), executor.threads()
    to_do, requested = planned.plan.to_do(), planned.requested()
    targets, distinct = len(list(planned.targets())), len(requested)
    different = f" ({distinct} different ones)" if distinct != targets else ""
    done = sum(each.is_done for each in requested)
    lines = [f"{targets} run{'s' if targets != 1 else ''}{different}, {done} done"]
    ancestors = [each for each in to_do if each not in requested]
    if ancestors:
        lines.append(f"{len(ancestors)} more, on which they depend, are computed as far as needed")
    if to_do:
        complete = [each for each in planned.plan if each.is_done]
        job = planned.asked[0].request.job
        every = math.inf if job.evaluate_only_at_end else job.evaluate_every
        estimate = Estimate(complete, Rates(flags.platform, threads, environment), evaluate_every=every)
        if flags.job.dry_run:
            estimate.time(to_do, measured)
        iterations, resumed = sum(map(iterations_left, to_do)), sum(map(has_checkpoint, to_do))
        training = f"{iterations} iterations left" if iterations else "nothing to train"
        time = estimate.said(to_do, min(at_once, len(to_do)), measured)
        lines.append(f"{training}, {time}" + (f"; {resumed} go on from a checkpoint" if resumed else ""))
    return "\n".join(lines)


def described_by(argv: Sequence[str]) -> tuple[Sweep, list[str]]:
    """Read a sweep from arguments, and from the file if they name one; return it and the remaining arguments.

    Raises: UsageError, EnvironmentFailure.
    """
    cut = list(argv).index("--") if "--" in argv else len(argv)
    grids, own = taken_out("grid", argv[:cut])
    rules, own = taken_out("when", own)
    names, rest = positional(own, SWEEP)
    words, flags = positional(argv[cut + 1 :])
    if split_help(rest)[0] is not None:
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
    whole.refuse_idle(more)
    return whole, rest


def asked_by(described: Sweep, environment: Environment) -> list[Asked]:
    """Return the points of a sweep with their requests. Raises: UsageError that names the run."""
    found = []
    if unknown := described.unknown_conditions():
        flags = names_of_all_flags()
        for name in sorted(unknown - flags):
            meant = did_you_mean(f"--{name}", [f"--{other}" for other in flags])
            raise UsageError(f"[[when]]: there is no flag --{name}.{meant}")
    for argv, label, grid in described.points():
        if argv[0] not in REQUESTS:
            raise UsageError(f"'{argv[0]}' is not a command to sweep over; choose from {', '.join(REQUESTS)}.")
        with said_in(f"the run with {label}" if label else ""):
            request: Request = load(REQUESTS[argv[0]])(argv[1:], environment)
        found.append(Asked(argv, label, request, grid))
    if not found:
        raise UsageError(f"the sweep has no runs.\n{_USAGE}")
    return found


@contextlib.contextmanager
def said_in(place: str) -> Iterator[None]:
    """Add a place to each UsageError of the block, unless the place is empty."""
    try:
        yield
    except UsageError as error:
        if not place:
            raise
        raise UsageError(f"{error.reason}\n(in {place})", *error.hparams) from error


def _summary(targets: Sequence[PlannedRun], outcome: Dispatched) -> str:
    """Return the numbers of complete, computed and failed runs of a sweep, as text."""
    computed = set(map(id, outcome.computed))
    done = [planned for planned in targets if planned.is_done]
    ours = sum(id(planned) in computed for planned in done)
    are = "runs are" if len(targets) != 1 else "run is"
    lines = [f"{len(done)} of {len(targets)} {are} complete: {ours} computed now, {len(done) - ours} before"]
    if outcome.failed:
        lines.append(f"{len(outcome.failed)} failed. Once the cause is mended, repeat the sweep with --retry failed.")
    if outcome.still:
        lines.append(outcome.still)
    return "\n".join(lines)
