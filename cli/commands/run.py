"""The command that executors start: `run FILE...` computes the runs of job files."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from branches.job_files import read_job_file
from cli.request.context import context_of
from cli.request.flags import Flags, positional
from cli.request.job_flags import WorkHparams
from datasets.added.added import register_added
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.plan import plan
from foundations.program import PROGRAM
from platforms.platform import PlatformHparams
from training.jobs.compute import execute


@dataclass(frozen=True, kw_only=True)
class RunHparams(WorkHparams):
    """Settings of the work."""

    no_wait: bool = hparam(False)
    """If another process works on a run, exit at once with code 75."""


FLAGS = Flags(
    "run FILE...",
    "Compute what job files ask for: how sweeps and clusters start runs. Those of several files train together.",
    work=RunHparams,
    platform=PlatformHparams,
)


_OPENED: dict[Hashable, Any] = {}
"""The dataset in memory that jobs share which this process runs one after the other."""


def run(argv: Sequence[str], environment: Environment) -> int:
    """`run FILE...`: compute the runs of the files, or reuse them."""
    names, rest = positional(argv)
    flags = FLAGS.parse(rest)
    if not names:
        raise UsageError(f"run takes job files: {PROGRAM} run FILE... Sweeps and executors write them.")
    register_added(flags.work.datasets_in(environment))
    root = flags.work.root_in(environment)
    made = plan([read_job_file(Path(name), root) for name in names], root)
    with context_of(flags.work, flags.platform, environment, wait=not flags.work.no_wait) as context:
        execute(made, replace(context, together=len(names), opened=_OPENED))
    for planned in made:
        planned.run.drop_empty_output()
    return 0
