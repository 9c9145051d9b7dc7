"""The runs that a command requests, planned and computed here or by an executor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cli.request.job_flags import JobHparams
from foundations.environment import Environment
from foundations.errors import UsageError
from platforms.executors.registry import ExecutorHparams
from platforms.platform import PLATFORMS, PlatformHparams

if TYPE_CHECKING:
    from foundations.plan import Target

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
    from foundations.plan import plan  # these imports take long, and reading flags and printing help needs none of them
    from foundations.storage.run import Run

    job, targets = request.job, request.targets
    root = job.root_in(environment)
    if job.display_output_location:
        for target in targets.values():
            print(Run(root, target.desc.location(target.replicate)).place)
        return 0
    from cli.display.summaries import preview, results_rows, summary
    from cli.request.remote_runs import planned_with_remote

    made = planned_with_remote(lambda: plan(targets.values(), root), job, environment)
    runs = {name: made[target.desc.location(target.replicate)] for name, target in targets.items()}
    if job.dry_run:
        print(preview(made, runs, request.series))
        return 0
    if request.first_line and not job.quiet:
        print(request.first_line, flush=True)
    if request.executor.executor is not None:
        from cli.request.dispatching import dispatch_plan

        outcome = dispatch_plan(made, request, environment, request.what)
        if outcome.still:
            print(outcome.still)
        code, computed = outcome.exit_code, outcome.computed
    else:
        from cli.request.context import context_of
        from training.jobs.compute import execute

        code = 0
        with context_of(job, request.platform, environment, replicate=job.replicate, named=request.what) as context:
            computed = execute(made, replace(context, together=request.together))
    if not job.quiet and all(planned.manifest for planned in runs.values()):
        print(results_rows(runs, computed, request.series, root) if request.series else summary(runs[""], computed))
    return code
