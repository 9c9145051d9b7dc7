"""The commands that keep the runs in order: verify and rm."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.rows.run_row import row_of
from cli.commands.choosing import ChosenHparams
from cli.commands.listing import listed
from cli.display.fitted_table import terminal_width
from cli.display.plain_table import printable, printable_lines
from cli.request.flags import command
from cli.request.folder_flags import RootHparams
from foundations.access import owner_of
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import Busy, ClosedError, EnvironmentFailure, OpenPruneError, UsageError
from foundations.files import explain_os_errors
from foundations.program import PROGRAM
from foundations.storage import upkeep
from foundations.storage.root import alone, upstreams_of
from foundations.storage.run import Run
from foundations.storage.store import all_runs, find_run, find_run_here, short_address, with_users


@dataclass(frozen=True, kw_only=True)
class VerifyHparams(RootHparams):
    """Location of the runs, and treatment of damage."""

    mend: bool = hparam(False)
    """Set damaged files aside (as damaged_NAME), so that the next job recomputes them."""


@dataclass(frozen=True, kw_only=True)
class RemoveHparams(ChosenHparams):
    """Selection and removal of the runs."""

    yes: bool = hparam(False)
    """Do not ask."""
    force: bool = hparam(False)
    """Do not ask: as --yes."""
    with_branches: bool = hparam(False)
    """Remove a parent together with its branches."""


@command(verify=VerifyHparams)
def verify(names: list[str], environment: Environment, verify: VerifyHparams) -> int:
    """Check every byte of one run (verify ADDRESS), or of all."""
    root = verify.root_in(environment)
    if len(names) > 1:
        raise UsageError("verify takes one address, or none for all runs.")
    packs = upkeep.damaged_packs(root, set_aside=verify.mend)
    if packs:
        print(printable_lines("\n".join(map(str, packs))))
        if not verify.mend:
            return 1
        print(f"Set aside {len(packs)} pack(s).")
    runs = [find_run(root, names[0])] if names else _all_to_verify(root)
    damaged = damaged_upstream = closed_runs = 0
    for run in runs:
        problems = upkeep.verify(run)
        if run.leftovers():
            _sweep(run)
        if problems:
            problems = _verified_alone(run, problems)
        closed = [problem for problem in problems if isinstance(problem, ClosedError)]
        for problem in closed[:1] or problems:
            print(printable_lines(str(problem)))
        if closed:
            closed_runs += 1
            continue
        damaged += bool(problems)
        if problems and run.upstream is not None:
            damaged_upstream += 1
        elif problems and verify.mend:
            with run.locked(print), explain_os_errors("mend", run.folder):
                aside = upkeep.mend(run, lambda line: print(printable_lines(line)))
            named = printable(", ".join(aside) or "nothing")
            print(f"{run}: set aside {named}; the next job that needs it computes it again.")
    if not names:
        upkeep.sweep_removed(root)
    of_upstreams = sum(run.upstream is not None for run in runs)
    where = f" ({of_upstreams} of them in upstreams, which are never written)" if of_upstreams else ""
    counts = f"{damaged} damaged, {len(runs) - damaged - closed_runs} whole"
    print(f"Checked {len(runs)} run(s){where}: {counts}{f', {closed_runs} closed' if closed_runs else ''}.")
    return int(closed_runs > 0 or damaged_upstream > 0 or (damaged > 0 and not verify.mend))


def _all_to_verify(root: Path) -> list[Run]:
    """Return all runs in a root itself, also those in whose place an upstream's counts, and those of its upstreams."""
    if not upstreams_of(root):
        return list(all_runs(root))
    return [*all_runs(alone(root)), *(run for run in all_runs(root) if run.upstream is not None)]


def _sweep(run: Run) -> None:
    """Remove a killed process's leftovers from a run, unless a process works on it or it is read-only."""
    with contextlib.suppress(Busy, EnvironmentFailure, OSError), run.locked(print, wait=False):
        pass


def _verified_alone(run: Run, problems: list[OpenPruneError]) -> list[OpenPruneError]:
    """Verify a run again under its lock: a file that a job has just replaced is not damage.

    problems: those found without the lock, returned if the lock cannot be taken because the root is read-only.
    """
    try:
        if run.upstream is not None:
            return problems
        with run.locked(print, wait=False):
            return upkeep.verify(run) if run.is_published or run.folder.exists() else []
    except Busy as busy:
        print(f"{busy} Verify it again when it is complete.")
        return []
    except (EnvironmentFailure, OSError):
        return problems


@command(remove=RemoveHparams)
def rm(names: list[str], environment: Environment, remove: RemoveHparams) -> int:
    """Remove a run (rm ADDRESS), or all that a condition holds for (rm --where 'status=incomplete,age>30d')."""
    from analysis.measures.results import forget

    whole = remove.root_in(environment)
    root = alone(whole)
    if len(names) != (remove.where is None):
        raise UsageError(f"rm takes one address, or --where: {PROGRAM} rm ADDRESS (`ls` lists them).")
    chosen = [row_of(find_run_here(whole, names[0]))] if names else remove.rows(root)
    if not chosen:
        others = " Runs of upstreams are never removed." if upstreams_of(whole) else ""
        print(f"No runs under {root} with {remove.where}.{others} Nothing was removed.")
        return 1
    runs = [row.run for row in chosen]
    to_remove, meant = with_users(runs), {run.location for run in runs}
    users = [run for run in to_remove if run.location not in meant]
    if users and not remove.with_branches:
        raise _refusal(runs, users)
    if remove.where is not None or remove.dry_run:
        print(listed([row_of(run) for run in to_remove], [], terminal_width()))
    if others := _of_others(to_remove):
        print(f"{others}.")
    if remove.dry_run:
        print(f"{len(to_remove)} run(s) would be removed.")
        return 0
    if not (remove.force or remove.yes) and not _confirmed(to_remove, is_listed=remove.where is not None):
        print("Nothing was removed.")
        return 1
    for each in to_remove:
        with each.locked(print), explain_os_errors("remove", each.folder):
            upkeep.remove(each)
        print(f"Removed {each}.")
    with explain_os_errors("remove results of measures in", root):
        forgotten = forget(root, [str(each) for each in to_remove])
    if forgotten:
        print(f"Removed {forgotten} result(s) of measures.")
    return 0


def _refusal(runs: Sequence[Run], users: Sequence[Run]) -> UsageError:
    """Return the error for runs that others depend on."""
    if len(runs) == 1:
        what = f"{runs[0]} has {len(users)} branch(es), which depend on it"
    else:
        some = ", ".join(short_address(user) for user in users[:6]) + (", ..." if len(users) > 6 else "")
        what = f"{len(users)} run(s) that are not among the {len(runs)} depend on them: {some}"
    others = _of_others(users)
    if others:
        return UsageError(f"{what}. {others}: ask before you remove them (--with_branches).")
    return UsageError(f"{what}. Remove them too with --with_branches, or first.")


def _of_others(runs: Sequence[Run]) -> str:
    """Return a clause on the runs that belong to other users; empty if there are none."""
    numbers = Counter(filter(None, (owner_of(run.folder) for run in runs)))
    return ", ".join(f"{number} run(s) belong to {owner}" for owner, number in sorted(numbers.items()))


def _confirmed(to_remove: Sequence[Run], *, is_listed: bool) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("rm asks before it removes; without a terminal, give --yes (or --force).")
    for run in () if is_listed else to_remove:
        print(f"  {run}")
    return input(f"Remove {len(to_remove)} run(s)? [y/N] ").strip().lower() in ("y", "yes")
