"""The runs that a command asks for, and how they are computed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from cli.job_flags import JobHparams, WorkHparams, make_context
from cli.progress import reporting
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.interrupts import Interrupts
from foundations.plan import Target
from platforms.base import PLATFORMS, PlatformHparams
from platforms.executors.base import ExecutorHparams
from training.context import Context

Result = TypeVar("Result")
REQUESTS = {
    "train": "cli.jobs:train_request",
    "branch": "cli.branch:branch_request",
    "lottery": "cli.lottery:lottery_request",
}
"""The commands that compute runs, and the functions that say what they ask for."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The runs that a command asks for, and how they are computed."""

    targets: Mapping[str, Target]
    """What is asked of each run, by its name among them."""
    job: JobHparams
    platform: PlatformHparams
    executor: ExecutorHparams
    series: str = ""
    """What the names are of several runs that one command stands for, such as level; nothing for one run."""
    first_line: str = ""
    """What is said before work begins."""

    @property
    def what(self) -> str:
        """What is computed, in words."""
        locations = [target.desc.location(target.replicate) for target in self.targets.values()]
        return str(locations[0]) + (f" and {len(locations) - 1} more" if len(locations) > 1 else "")


def together_of(request: Request) -> int:
    """Return how many runs a process trains at once. Raises: UsageError where several processes work on one run."""
    together, platform = request.executor.together, PLATFORMS.find(request.platform.platform)
    if together > 1 and platform.splits_batches:
        raise UsageError(f"on {platform.spelling}, several processes train one run; choose 1.", "together", "platform")
    return together


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
    """Return what some work comes to in the context that the flags describe, with signals caught.

    named: the work, for the message about a signal.
    """
    interrupts = Interrupts(work=named)
    with reporting(job.quiet, partial(interrupts.stop, signal.SIGPIPE)) as reporter:
        context = make_context(job, platform, environment, reporter, interrupts, replicate=replicate, wait=wait)
        with interrupts.caught():
            return work(context)
