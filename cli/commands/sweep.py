"""The command that computes a grid of runs: planned as one graph, executed, and continued when it is repeated."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

from cli.progress.estimate import Estimate, has_checkpoint, iterations_left
from cli.progress.rates import Case, Rates
from cli.request.dispatching import Dispatched, dispatch_plan
from cli.request.flags import flags_of, parse, positional, taken_out
from cli.request.grid import Grid, Sweep, parse_axis, parse_rule, read_sweep
from cli.request.help import PLUGIN, help_asked
from cli.request.job_flags import RequestHparams
from cli.request.request import REQUESTS, Request, prepare_dispatch
from cli.request.sweep_flags import refuse_disagreement, refuse_two_values, without_shared
from foundations.description.hparams import Hparams, hparam
from foundations.environment import Environment
from foundations.errors import UsageError
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


@dataclass(frozen=True, kw_only=True)
class SweepFlags:
    """Compute a grid of runs; repeated, go on with what is left. What stands behind -- is the command of every run."""

    sweep: SweepHparams = field(default_factory=SweepHparams)
    job: RequestHparams = field(default_factory=RequestHparams)
    platform: PlatformHparams = field(default_factory=PlatformHparams)
    executor: ExecutorHparams = field(default_factory=ExecutorHparams)


class WholeFlags(Protocol):
    """Flags of a command that gives many runs to an executor."""

    @property
    def job(self) -> RequestHparams: ...  # noqa: D102
    @property
    def platform(self) -> PlatformHparams: ...  # noqa: D102
    @property
    def executor(self) -> ExecutorHparams: ...  # noqa: D102


Flags = TypeVar("Flags", bound=WholeFlags)


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

    def folders(self) -> str:
        """Return the folder of each run, a line each."""
        return "\n".join(dict.fromkeys(str(planned.run.place) for _, _, planned in self.targets()))

    def preview(
        self, rates: Rates | None = None, *, at_once: int = 1, is_timed: bool = False, measured: Sequence[Case] = ()
    ) -> str:
        """Return a text with the number of runs, of done ones, the work left, and the estimated time.

        rates: timings of this machine. is_timed: whether to time missing cases. measured: scoring cases of measures.
        """
        runs, to_do, requested = list(self.plan), self.plan.to_do(), self.requested()
        targets = sum(len(each.request.targets) for each in self.asked)
        distinct, done = len(requested), sum(planned.is_done for planned in requested)
        iterations = sum(map(iterations_left, to_do))
        lines = [
            f"{targets} run{'s' if targets != 1 else ''}"
            + (f" ({distinct} different ones)" if distinct != targets else "")
            + f", {done} done"
        ]
        ancestors = [planned for planned in to_do if planned not in requested]
        if ancestors:
            lines.append(f"{len(ancestors)} more, on which they depend, are computed as far as needed")
        if to_do:
            only_at_end = self.asked[0].request.job.evaluate_only_at_end
            estimate = Estimate((each for each in runs if each.is_done), rates, only_at_end=only_at_end)
            if is_timed:
                estimate.time(to_do, measured)
            time = estimate.said(to_do, min(at_once, len(to_do)), measured)
            resumed = sum(map(has_checkpoint, to_do))
            lines.append(
                (f"{iterations} iterations left" if iterations else "nothing to train")
                + f", {time}"
                + (f"; {resumed} go on from a checkpoint" if resumed else "")
            )
        return "\n".join(lines)


def sweep(argv: Sequence[str], environment: Environment) -> int:
    """`sweep`: compute a grid of runs."""
    described, rest = described_by(argv)
    described, own, behind = without_shared(described)
    refuse_two_values(rest, behind)
    flags = parse_whole(SweepFlags, [*own, *behind, *rest], "sweep", environment)
    asked = asked_by(with_shared(described, flags.job, flags.platform), environment)
    if flags.sweep.export:
        plugins = [f"--{PLUGIN}={plugin.path.absolute()}" for plugin in loaded_plugins()]
        print("\n".join(f"{PROGRAM} {shlex.join([*each.argv, *plugins])}" for each in asked))
        return 0
    planned, job = plan_sweep(asked, environment), flags.job
    if job.display_output_location:
        print(planned.folders())
        return 0
    if not job.quiet or job.dry_run:
        print(preview_of(planned, flags, environment), flush=True)
    if job.dry_run:
        return 0
    is_retry = flags.sweep.retry == "failed"
    return compute_sweep(planned, flags.executor, environment, quiet=job.quiet, retry_failed=is_retry).exit_code


def parse_whole(kind: type[Flags], argv: Sequence[str], command: str, environment: Environment) -> Flags:
    """Return the flags of a command that gives many runs to an executor. Raises: UsageError, HelpRequested."""
    flags = parse(kind, argv, command, {"executor": "pool", **site_settings(environment.site)})
    if flags.executor.executor is None:
        names = ", ".join(EXECUTORS.spellings())
        raise UsageError(f"the runs of a {command} are given to an executor; choose from {names}.", "executor")
    return flags


def with_shared(described: Sweep, job: RequestHparams, platform: PlatformHparams) -> Sweep:
    """Return a sweep whose runs have the flags that they share, except those that only print.

    Raises: UsageError where a grid varies a flag that is fixed for all its runs.
    """
    refuse_disagreement(described)
    shared = (*flags_of(job.replaced({"dry_run": False, "display_output_location": False})), *flags_of(platform))
    return Sweep(tuple(replace(grid, flags=(*grid.flags, *shared)) for grid in described.grids))


def preview_of(
    planned: PlannedSweep, flags: WholeFlags, environment: Environment, measured: Sequence[Case] = ()
) -> str:
    """Return the preview of a sweep with the timings of this machine; a dry run times missing cases."""
    at_once, threads = 1, None
    if EXECUTORS.find(str(flags.executor.executor)).is_local:
        with make_executor(flags.executor, Program(entry="")) as executor:
            at_once, threads = executor.slots(), executor.threads()
    rates = Rates.of(flags.platform, threads, environment)
    return planned.preview(rates, at_once=at_once, is_timed=flags.job.dry_run, measured=measured)


def plan_sweep(asked: Sequence[Asked], environment: Environment) -> PlannedSweep:
    """Plan the runs of a sweep. Raises: DamagedError where an existing run has another description."""
    targets = (target for each in asked for target in each.request.targets.values())
    return PlannedSweep(tuple(asked), plan(targets, asked[0].request.job.root_in(environment)))


def compute_sweep(
    planned: PlannedSweep, executor: ExecutorHparams, environment: Environment, *, quiet: bool, retry_failed: bool
) -> Dispatched:
    """Compute the missing runs of a sweep, and print a summary unless `quiet`."""
    first = planned.asked[0]
    request = replace(first.request, job=replace(first.request.job, quiet=quiet), executor=executor)
    what = f"sweep of {len(planned.asked)} runs: {' '.join(first.argv[:3])}"
    prepare_dispatch(planned.plan, request, environment)
    outcome = dispatch_plan(
        planned.plan, request, environment, what, labels=planned.labels(), retry_failed=retry_failed
    )
    if not quiet:
        print(_summary(planned.requested(), outcome), flush=True)
    if outcome.is_stopped and not outcome.still:
        print("open_prune: Stopped; the jobs wrote checkpoints. The same command goes on from there.", file=sys.stderr)
    return outcome


def described_by(argv: Sequence[str]) -> tuple[Sweep, list[str]]:
    """Read a sweep from arguments, and from the file if they name one; return it and the remaining arguments.

    Raises: UsageError, EnvironmentFailure.
    """
    cut = list(argv).index("--") if "--" in argv else len(argv)
    grids, own = taken_out("grid", argv[:cut])
    rules, own = taken_out("when", own)
    names, rest = positional(own, SweepFlags)
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
    whole.refuse_idle(more)
    return whole, rest


def asked_by(described: Sweep, environment: Environment) -> list[Asked]:
    """Return the points of a sweep with their requests. Raises: UsageError that names the run."""
    found = []
    for argv, label, grid in described.points():
        if argv[0] not in REQUESTS:
            raise UsageError(f"'{argv[0]}' is not a command to sweep over; choose from {', '.join(REQUESTS)}.")
        try:
            request: Request = load(REQUESTS[argv[0]])(argv[1:], environment)
        except UsageError as error:
            where = f"\n(in the run with {label})" if label else ""
            raise UsageError(f"{error.reason}{where}", *error.hparams) from error
        found.append(Asked(argv, label, request, grid))
    if not found:
        raise UsageError(f"the sweep has no runs.\n{_USAGE}")
    return found


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
