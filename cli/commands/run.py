"""The command that executors start: `run FILE...` computes the runs of job files."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from branches.job_files import read_job_file, run_of_job_file
from cli.request.context import context_of
from cli.request.flags import Flags, positional
from cli.request.job_flags import WorkHparams
from datasets.added.added import register_added
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import Busy, EnvironmentFailure, UsageError
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
    files = [Path(name) for name in names]
    try:
        targets = [read_job_file(file, root) for file in files]
    except EnvironmentFailure:
        if not _were_removed(files, root):
            raise
        return Busy.exit_code  # the sweep that started this looks what is left to do
    made = plan(targets, root)
    with context_of(flags.work, flags.platform, environment, wait=not flags.work.no_wait) as context:
        execute(made, replace(context, together=len(names), opened=_OPENED))
    for planned in made:
        planned.run.drop_empty_output()
    return 0


def _were_removed(files: Sequence[Path], root: Path) -> bool:
    """Return whether another sweep has removed job files, since their runs are complete. Drops their empty output."""
    runs = [run_of_job_file(file, root) for file in files if not file.exists()]
    complete = [run for run in runs if run is not None and run.is_published]
    for run in complete:
        run.drop_empty_output()
    return bool(complete)
