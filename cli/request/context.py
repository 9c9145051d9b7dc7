"""The context of the jobs that a command computes in its own process."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from functools import partial

from cli.progress.reporting import reporting
from cli.request.job_flags import WorkHparams
from foundations.environment import Environment
from foundations.interrupts import Interrupts
from platforms.platform import PlatformHparams, make_platform
from training.context import Context


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
            evaluate_every=job.evaluate_every,
            logs=job.loggers(),
            keep_best=job.keep_best,
            cuda_graphs=job.cuda_graphs,
            checkpoint_seconds=job.checkpoint_seconds,
        )
        with interrupts.caught():
            yield context
