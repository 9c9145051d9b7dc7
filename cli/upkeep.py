"""The commands that keep the runs in order: verify and rm."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from cli.flags import parse, positional
from cli.folder_flags import RootHparams
from cli.plain_table import printable, printable_lines
from foundations import upkeep
from foundations.environment import Environment
from foundations.errors import Busy, DamagedError, EnvironmentFailure, UsageError
from foundations.files import explain_os_errors
from foundations.hparams import hparam
from foundations.program import PROGRAM
from foundations.run import Run
from foundations.store import all_runs, find_run, users_of


@dataclass(frozen=True, kw_only=True)
class VerifyHparams(RootHparams):
    """Where runs are, and what to do about damage."""

    mend: bool = hparam(False)
    """Set damaged files aside (as damaged_NAME), so that the next job makes them anew."""


@dataclass(frozen=True, kw_only=True)
class VerifyFlags:
    """Check every byte of one run (verify ADDRESS), or of all."""

    verify: VerifyHparams = field(default_factory=VerifyHparams)


@dataclass(frozen=True, kw_only=True)
class RemoveHparams(RootHparams):
    """Where runs are, and what may be removed."""

    force: bool = hparam(False)
    """Do not ask."""
    with_branches: bool = hparam(False)
    """Remove a parent together with its branches."""


@dataclass(frozen=True, kw_only=True)
class RemoveFlags:
    """Remove a run (rm ADDRESS)."""

    remove: RemoveHparams = field(default_factory=RemoveHparams)


def verify(argv: Sequence[str], environment: Environment) -> int:
    """`verify [ADDRESS]`: check every byte; exit code 1 where something is damaged and was not mended."""
    names, rest = positional(argv)
    flags = parse(VerifyFlags, rest, "verify").verify
    root = flags.root_in(environment)
    if len(names) > 1:
        raise UsageError("verify takes one address, or none for all runs.")
    runs = [find_run(root, names[0])] if names else list(all_runs(root))
    damaged = 0
    for run in runs:
        problems = upkeep.verify(run)
        if run.leftovers():
            _sweep(run)
        if problems:
            problems = _verified_alone(run, problems)
        damaged += bool(problems)
        for problem in problems:
            print(printable_lines(str(problem)))
        if problems and flags.mend:
            with run.locked(print):
                aside = upkeep.mend(run)
            named = printable(", ".join(aside) or "nothing")
            print(f"{run}: set aside {named}; the next job that needs it makes it anew.")
    if not names:
        upkeep.sweep_removed(root)
    print(f"Checked {len(runs)} run(s): {damaged} damaged, {len(runs) - damaged} whole.")
    return int(damaged > 0 and not flags.mend)


def _sweep(run: Run) -> None:
    """Remove what a killed process left in a run, where no process works on it now, and it may be written."""
    with contextlib.suppress(Busy, EnvironmentFailure, OSError), run.locked(print, wait=False):
        pass


def _verified_alone(run: Run, problems: list[DamagedError]) -> list[DamagedError]:
    """Return what is wrong with a run while no process works on it: a file that a job just replaced is no damage.

    problems: what was found without the lock, which may not be had where nothing can be written.
    """
    try:
        with run.locked(print, wait=False):
            return upkeep.verify(run) if run.folder.exists() else []
    except Busy as busy:
        print(f"{busy} Verify it again when it is complete.")
        return []
    except (EnvironmentFailure, OSError):
        return problems


def rm(argv: Sequence[str], environment: Environment) -> int:
    """`rm ADDRESS`: remove a run and what measures kept about it, after asking."""
    from analysis.measures.results import forget

    names, rest = positional(argv)
    flags = parse(RemoveFlags, rest, "rm").remove
    if len(names) != 1:
        raise UsageError(f"rm takes one address: {PROGRAM} rm ADDRESS (`ls` lists them).")
    run = find_run(flags.root_in(environment), names[0])
    users = users_of(run)
    if users and not flags.with_branches:
        raise UsageError(
            f"{run} has {len(users)} branch(es), which draw on it. Remove them too with --with_branches, or first."
        )
    to_remove = [*reversed(users), run]
    if not flags.force and not _confirmed(to_remove):
        print("Nothing was removed.")
        return 1
    for each in to_remove:
        _remove(each)
        print(f"Removed {each}.")
    with explain_os_errors("remove results of measures in", run.root):
        forgotten = forget(run.root, [str(each) for each in to_remove])
    if forgotten:
        print(f"Removed {forgotten} result(s) of measures.")
    return 0


def _confirmed(to_remove: Sequence[Run]) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("rm asks before it removes; without a terminal, give --force.")
    for run in to_remove:
        print(f"  {run}")
    return input(f"Remove {len(to_remove)} run(s)? [y/N] ").strip().lower() in ("y", "yes")


def _remove(run: Run) -> None:
    with run.locked(print), explain_os_errors("remove", run.folder):
        upkeep.remove(run)
