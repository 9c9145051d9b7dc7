"""The runs that a command requests, planned and computed here or by an executor."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from cli.display.summaries import preview, results_rows, summary
from cli.progress.reporting import reporting
from cli.request.job_flags import JobHparams, WorkHparams, make_context
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.interrupts import Interrupts
from foundations.plan import Plan, PlannedRun, Target, plan
from platforms.executors.registry import ExecutorHparams
from platforms.platform import PLATFORMS, PlatformHparams
from training.context import Context
from training.jobs.compute import catch_up_logs, check_dataset, execute

Result = TypeVar("Result")
REQUESTS = {
    "train": "cli.commands.jobs:train_request",
    "branch": "cli.commands.branch:branch_request",
    "lottery": "cli.commands.lottery:lottery_request",
}
"""The commands that compute runs, and the functions that return their requests."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The runs that a command requests, and the settings for computing them."""

    targets: Mapping[str, Target]
    """The target of each run, by the run's name within the request."""
    job: JobHparams
    platform: PlatformHparams
    executor: ExecutorHparams
    series: str = ""
    """The meaning of the names of several runs, such as level; empty for one run."""
    first_line: str = ""
    """Line printed before the job starts."""

    @property
    def what(self) -> str:
        """The title of the work."""
        locations = [target.desc.location(target.replicate) for target in self.targets.values()]
        return str(locations[0]) + (f" and {len(locations) - 1} more" if len(locations) > 1 else "")

    @property
    def together(self) -> int:
        """Number of runs that a process trains at once. Raises: UsageError where several processes work on one run."""
        together, platform = self.executor.together, PLATFORMS.find(self.platform.platform)
        if together > 1 and platform.splits_batches:
            raise UsageError(
                f"on {platform.spelling}, several processes train one run; choose 1.", "together", "platform"
            )
        return together


def run_request(request: Request, environment: Environment) -> int:
    """Compute or reuse the requested runs, and print the results. Return the exit code."""
    job, targets = request.job, request.targets
    root = job.root_in(environment)
    if job.display_output_location:
        for target in targets.values():
            print(target.desc.location(target.replicate).under(root))
        return 0
    made = plan(targets.values(), root)
    runs = {name: made[target.desc.location(target.replicate)] for name, target in targets.items()}
    if job.dry_run:
        print(preview(made, runs, request.series))
        return 0
    if request.first_line and not job.quiet:
        print(request.first_line, flush=True)
    if request.executor.executor is not None:
        from cli.request.dispatching import dispatch_plan

        prepare_dispatch(made, request, environment)
        outcome = dispatch_plan(made, request, environment, request.what)
        if outcome.still:
            print(outcome.still)
        code, computed = outcome.exit_code, outcome.computed
    else:

        def work(context: Context) -> list[PlannedRun]:
            return execute(made, replace(context, together=request.together))

        code = 0
        computed = with_context(job, request.platform, environment, work, replicate=job.replicate, named=request.what)
    if not job.quiet and all(planned.manifest for planned in runs.values()):
        print(results_rows(runs, computed, request.series, root) if request.series else summary(runs[""], computed))
    return code


def with_context(
    job: WorkHparams,
    platform: PlatformHparams,
    environment: Environment,
    work: Callable[[Context], Result],
    *,
    replicate: int = 1,
    wait: bool = True,
    named: str = "",
) -> Result:
    """Run `work` in the context that the flags describe, with signals caught, and return its result.

    named: the work, for the message about a signal.
    """
    interrupts = Interrupts(work=named)
    with reporting(job.quiet, partial(interrupts.stop, signal.SIGPIPE)) as reporter:
        context = make_context(job, platform, environment, reporter, interrupts, replicate=replicate, wait=wait)
        with interrupts.caught():
            return work(context)


def prepare_dispatch(made: Plan, request: Request, environment: Environment) -> None:
    """Refuse results of other data, and bring loggers up to date with complete runs; jobs log the runs they compute."""

    def prepare(context: Context) -> None:
        for planned in made:
            check_dataset(planned, context)
        catch_up_logs(made, context)

    with_context(request.job, request.platform, environment, prepare)
