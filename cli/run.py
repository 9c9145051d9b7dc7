"""The command that executors start: `run FILE` computes what a job file asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from branches.job_files import read_job_file
from cli.flags import parse, positional
from cli.job_flags import WorkHparams
from cli.request import with_context
from datasets.added import register_added
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.hparams import hparam
from foundations.plan import plan
from foundations.program import PROGRAM
from platforms.base import PlatformHparams
from training.execution import execute


@dataclass(frozen=True, kw_only=True)
class RunHparams(WorkHparams):
    """How the work is done."""

    no_wait: bool = hparam(False)
    """Where another process works on a run, end at once with exit code 75."""


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """Compute what a job file asks for: how sweeps and clusters start one run."""

    work: RunHparams = field(default_factory=RunHparams)
    platform: PlatformHparams = field(default_factory=PlatformHparams)


def run(argv: Sequence[str], environment: Environment) -> int:
    """`run FILE`: compute what the file asks for, or reuse it."""
    names, rest = positional(argv)
    flags = parse(RunFlags, rest, "run FILE")
    if len(names) != 1:
        raise UsageError(f"run takes one job file: {PROGRAM} run FILE. Sweeps and executors write them.")
    register_added(flags.work.datasets_in(environment))
    root = flags.work.root_in(environment)
    made = plan([read_job_file(Path(names[0]), root)], root)
    with_context(
        flags.work, flags.platform, environment, lambda context: execute(made, context), wait=not flags.work.no_wait
    )
    return 0
