"""The commands that keep the runs in order: verify and rm."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from cli.addresses import all_runs, find_run
from cli.flags import parse, positional
from cli.job_flags import root_of
from cli.lineage import users_of
from cli.main import Environment
from foundations.errors import UsageError
from foundations.files import explain_os_errors
from foundations.hparams import Hparams, hparam
from foundations.run import Run


@dataclass(frozen=True, kw_only=True)
class VerifyHparams(Hparams):
    """Where, and what to do about damage."""

    mend: bool = hparam(False)
    """Set damaged files aside (as damaged_NAME), so that the next job makes them anew."""
    root: str | None = hparam(None)
    """Where runs lie; by default OPEN_PRUNE_ROOT, or ~/open_prune_data."""


@dataclass(frozen=True, kw_only=True)
class VerifyFlags:
    """Check every byte of one run (verify ADDRESS), or of all."""

    verify: VerifyHparams = field(default_factory=VerifyHparams)


@dataclass(frozen=True, kw_only=True)
class RemoveHparams(Hparams):
    """Where, and what may go."""

    force: bool = hparam(False)
    """Do not ask."""
    with_branches: bool = hparam(False)
    """Remove a parent together with its branches."""
    root: str | None = hparam(None)
    """Where runs lie; by default OPEN_PRUNE_ROOT, or ~/open_prune_data."""


@dataclass(frozen=True, kw_only=True)
class RemoveFlags:
    """Remove a run (rm ADDRESS)."""

    remove: RemoveHparams = field(default_factory=RemoveHparams)


def verify(argv: Sequence[str], environment: Environment) -> int:
    """`verify [ADDRESS]`: check every byte; exit code 1 where something is damaged and was not mended."""
    names, rest = positional(argv)
    flags = parse(VerifyFlags, rest, "verify", VerifyFlags()).verify
    root = root_of(flags, environment)
    if len(names) > 1:
        raise UsageError("verify takes one address, or none for all runs.")
    runs = [find_run(root, names[0])] if names else list(all_runs(root))
    damaged = 0
    for run in runs:
        problems = run.verify()
        damaged += bool(problems)
        for problem in problems:
            print(problem)
        if problems and flags.mend:
            with run.locked(print):
                aside = run.mend()
            print(f"{run}: set aside {', '.join(aside) or 'nothing'}; the next job that needs it makes it anew.")
    print(f"Checked {len(runs)} run(s): {damaged} damaged, {len(runs) - damaged} whole.")
    return int(damaged > 0 and not flags.mend)


def rm(argv: Sequence[str], environment: Environment) -> int:
    """`rm ADDRESS`: remove a run, after asking."""
    names, rest = positional(argv)
    flags = parse(RemoveFlags, rest, "rm", RemoveFlags()).remove
    if len(names) != 1:
        raise UsageError("rm takes one address: python open_prune.py rm ADDRESS (`ls` lists them).")
    root = root_of(flags, environment)
    run = find_run(root, names[0])
    users = users_of(run)
    if users and not flags.with_branches:
        raise UsageError(
            f"{run} has {len(users)} branch(es), which could no longer name their parent. "
            "Remove them too with --with_branches, or first."
        )
    doomed = [*reversed(users), run]
    if not flags.force and not _confirmed(doomed):
        print("Nothing was removed.")
        return 1
    for each in doomed:
        _remove(each)
        print(f"Removed {each}.")
    return 0


def _confirmed(doomed: Sequence[Run]) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("rm asks before it removes; without a terminal, say --force.")
    for run in doomed:
        print(f"  {run}")
    return input(f"Remove {len(doomed)} run(s)? [y/N] ").strip().lower() in ("y", "yes")


def _remove(run: Run) -> None:
    with run.locked(print), explain_os_errors("remove", run.folder):
        # Renamed first: a removal that is cut off leaves no half of a run under the run's name.
        trash = run.folder.with_name(f".removed_{run.folder.name}")
        shutil.rmtree(trash, ignore_errors=True)
        run.folder.replace(trash)
        shutil.rmtree(trash)
    for folder in (run.folder.parent, run.folder.parent.parent):
        if not any(folder.iterdir()):
            folder.rmdir()
