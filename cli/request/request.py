"""The runs that a command requests, planned and computed here or by an executor."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from cli.display.summaries import preview, results_rows, summary
from cli.progress.reporting import reporting
from cli.request.job_flags import JobHparams, WorkHparams
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.interrupts import Interrupts
from foundations.plan import Plan, Target, plan
from platforms.executors.executor import ExecutorHparams
from platforms.platform import PLATFORMS, PlatformHparams, make_platform
from training.context import Context
from training.jobs.compute import catch_up_logs, check_dataset, execute

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
        code = 0
        with context_of(job, request.platform, environment, replicate=job.replicate, named=request.what) as context:
            computed = execute(made, replace(context, together=request.together))
    if not job.quiet and all(planned.manifest for planned in runs.values()):
        print(results_rows(runs, computed, request.series, root) if request.series else summary(runs[""], computed))
    return code


@contextlib.contextmanager
def context_of(
    job: WorkHparams,
    platform: PlatformHparams,
    environment: Environment,
    *,
    replicate: int = 1,
    wait: bool = True,
    named: str = "",
) -> Iterator[Context]:
    """Yield the context that the flags describe, with signals caught in the block.

    wait: see `Context`. named: the work, for the message about a signal.
    Raises: UsageError for an invalid platform or logger.
    """
    interrupts = Interrupts(work=named)
    with reporting(job.quiet, partial(interrupts.stop, signal.SIGPIPE)) as reporter:
        context = Context(
            root=job.root_in(environment),
            datasets=job.datasets_in(environment),
            platform=make_platform(platform),
            replicate=replicate,
            wait=wait,
            reporter=reporter,
            interrupts=interrupts,
            may_download=not (job.no_download or environment.no_download),
            num_workers=job.num_workers,
            evaluate_only_at_end=job.evaluate_only_at_end,
            logs=job.loggers(),
            keep_best=job.keep_best,
            cuda_graphs=job.cuda_graphs,
            checkpoint_seconds=job.checkpoint_seconds,
        )
        with interrupts.caught():
            yield context


def prepare_dispatch(made: Plan, request: Request, environment: Environment) -> None:
    """Refuse results of other data, and bring loggers up to date with complete runs; jobs log the runs they compute."""
    with context_of(request.job, request.platform, environment) as context:
        for planned in made:
            check_dataset(planned, context)
        catch_up_logs(made, context)
