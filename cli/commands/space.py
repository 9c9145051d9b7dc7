"""The commands `du` and `gc`, which show the space that a root takes and make room. They import no torch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.space.collection import Collection, Limits, number_of_files
from analysis.space.eviction import Eviction, EvictionPlan
from analysis.space.usage import GROUPINGS, KIND, Group, Usage, usage_of
from cli.commands.listing import FormatHparams
from cli.display.plain_table import duration, percent, printable, printable_lines, table
from cli.request.flags import command
from cli.request.folder_flags import DatasetsRootHparams, RootHparams
from foundations.amounts import bytes_text, parse_bytes, parse_count, parse_seconds
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.files import explain_os_errors
from foundations.program import PROGRAM
from foundations.storage.root import alone, upstreams_of
from foundations.storage.usage import LEFTOVERS, SET_ASIDE, StoredFile

_STALE_SHOWN = 20
_RUNS_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class UsageHparams(FormatHparams):
    """Location of the runs, grouping and format."""

    by: str = hparam("all", choices=("all", KIND, *GROUPINGS))
    """Group the files by kind, or by the model, strategy or age of their run, or by run; all: the first four."""


@dataclass(frozen=True, kw_only=True)
class CollectHparams(RootHparams, DatasetsRootHparams):
    """Location of the runs, budget, and the files that may go."""

    budget: str | None = hparam(None)
    """The most bytes that the root may take, such as 200GB or 1.5TiB. To meet it, states go that a replay gives back
    with the same bytes, least recently used first. Without a budget, only leftovers of killed processes go."""
    files: str | None = hparam(None)
    """The most files and folders that the root may have, such as 500k."""
    grace: str = hparam("14d")
    """Keep what was written or read within this time, such as 12h; 0 keeps nothing for that."""
    set_aside: bool = hparam(False)
    """Remove files that `verify --mend` has set aside, too, if they are older than the grace period."""
    checkpoints: bool = hparam(False)
    """Remove checkpoints of interrupted runs, too, if they are older than the grace period: these runs begin again."""
    users: str | None = hparam(None)
    """Other roots with runs that depend on the ones here, separated by colons: what they use stays."""
    dry_run: bool = hparam(False)
    """List what would be removed, and stop."""

    def limits(self) -> Limits:
        """Return the limits. Raises: UsageError."""
        return Limits(
            size=None if self.budget is None else parse_bytes(self.budget, "budget"),
            files=None if self.files is None else parse_count(self.files, "files"),
            grace=parse_seconds(self.grace, "grace"),
            set_aside=self.set_aside,
            checkpoints=self.checkpoints,
        )

    def user_roots(self) -> tuple[Path, ...]:
        """Return the roots of the users. Raises: UsageError for one that is not there."""
        found = tuple(Path(each).expanduser() for each in (self.users or "").split(os.pathsep) if each)
        missing = next((each for each in found if not each.is_dir()), None)
        if missing is not None:
            raise UsageError(f"there is no folder {missing}.", "users")
        return found


@command(usage=UsageHparams)
def du(environment: Environment, usage: UsageHparams) -> int:
    """Show the space that a root takes: files and bytes by kind, model, strategy, age or run; leftovers."""
    whole = usage.root_in(environment)
    root = alone(whole)
    found = usage_of(root)
    groupings = [usage.by] if usage.by != "all" else [KIND, *(name for name in GROUPINGS if name != "run")]
    groups = {name: found.by(name) for name in groupings}
    if usage.json:
        print(json.dumps(_data(found, groups), indent=1))
        return 0
    for name, sums in groups.items():
        print(_table(name, sums, found.total.size) + "\n")
    total, links = found.total, f", {bytes_text(found.total.shared)} of them shared" if found.total.shared else ""
    print(f"{root}: {total.files:,} files in {len(found.folders):,} folders, {bytes_text(total.size)}{links}.")
    stale = _stale("Leftovers of killed processes", found.stale(LEFTOVERS), f"{PROGRAM} gc")
    aside = _stale("Set aside by verify --mend", found.stale(SET_ASIDE), f"{PROGRAM} gc --set_aside")
    for line in [*stale, *aside, *_upstreams(whole)]:
        print(line)
    return 0


def _upstreams(root: Path) -> list[str]:
    """Return a line on each upstream: what a root's own commands count and remove is not in these."""
    return [f"Not counted: the upstream {folder}, which is never written." for folder in upstreams_of(root)]


def _table(grouping: str, groups: Mapping[str, Group], total: int) -> str:
    rows = [
        {
            grouping: name,
            "files": f"{group.files:,}",
            "bytes": bytes_text(group.size),
            "share": percent(group.size / total if total else 0.0),
            "shared": bytes_text(group.shared) if group.shared else "",
        }
        for name, group in groups.items()
    ]
    has_shared = any(row["shared"] for row in rows)
    return table(rows, (grouping, "files", "bytes", "share", *(["shared"] if has_shared else [])))


def _stale(title: str, files: Sequence[StoredFile], remover: str) -> list[str]:
    """Return lines on files that `gc` removes. remover: the command, or nothing."""
    if not files:
        return []
    how = f". To remove: {remover}" if remover else ""
    lines = [f"{title}: {len(files):,} files, {bytes_text(sum(file.size for file in files))}{how}"]
    lines += [f"  {printable(file.path)}" for file in files[:_STALE_SHOWN]]
    return [*lines, *([f"  ... and {len(files) - _STALE_SHOWN:,} more"] if len(files) > _STALE_SHOWN else [])]


def _data(found: Usage, groups: Mapping[str, Mapping[str, Group]]) -> dict[str, object]:
    return {
        "total": {**found.total.to_dict(), "folders": len(found.folders)},
        "by": {name: {key: group.to_dict() for key, group in sums.items()} for name, sums in groups.items()},
        **{
            kind.replace(" ", "_"): [{"path": file.path, "bytes": file.size} for file in found.stale(kind)]
            for kind in (LEFTOVERS, SET_ASIDE)
        },
    }


@command(collecting=CollectHparams)
def gc(environment: Environment, collecting: CollectHparams) -> int:
    """Remove leftovers and, to meet a budget, states that a replay gives back: the least recently used first."""
    whole, limits, users = collecting.root_in(environment), collecting.limits(), collecting.user_roots()
    root = alone(whole)
    collection = Collection(root, collecting.datasets_in(environment), usage_of(root), limits, users)
    lines = [*_described(collection, is_dry=collecting.dry_run), *_upstreams(whole)]
    print(printable_lines("\n".join(lines)))
    if collecting.dry_run:
        return 0
    with explain_os_errors("remove files in", root):
        for line in collection.remove():
            print(printable(line))
    after = usage_of(root)
    print(f"{root} now has {number_of_files(after):,} files and folders, {bytes_text(after.total.size)}.")
    if not limits.is_met(after):
        print(f"The budget is not met: nothing more in {root} may go.", file=sys.stderr)
        return 1
    return 0


def _described(collection: Collection, *, is_dry: bool) -> list[str]:
    """Return lines on the files that go, the reasons, the time of replays, and whether the budget is met."""
    usage, plan, limits = collection.usage, collection.evictions, collection.limits
    lines = [f"{collection.root} has {number_of_files(usage):,} files and folders, {bytes_text(usage.total.size)}."]
    for title, stale in (
        ("Leftovers of killed processes", collection.leftovers),
        ("Files that were set aside", collection.set_aside),
        ("Checkpoints of interrupted runs", collection.checkpoints),
    ):
        lines += _stale(title, stale, "")
    lines += [f"Files of idle locks: {collection.idle_locks:,}"] if collection.idle_locks else []
    if plan.chosen:
        devices = ", ".join(sorted({each.device for each in plan.chosen}))
        lines += [
            "",
            "States that a replay gives back, least recently used first:",
            *table([_eviction(each) for each in plan.chosen], ("state", "bytes", "unused", "replay")).splitlines(),
            f"To replay all of them takes {duration(plan.seconds())} on {devices}.",
            "",
        ]
    size, files = collection.left
    lines.append(f"{'This would leave' if is_dry else 'This leaves'} {files:,} files and folders, {bytes_text(size)}.")
    return [*lines, *_budget(limits, size, files), *_kept(plan)]


def _eviction(each: Eviction) -> dict[str, str]:
    return {
        "state": f"{each.run.digest[:8]}/{each.run.replicate} {each.file.name}",
        "bytes": bytes_text(each.file.size),
        "unused": duration(max(0.0, each.idle)),
        "replay": duration(each.seconds),
    }


def _budget(limits: Limits, size: int, files: int) -> list[str]:
    """Return lines on how far the budget is met."""
    lines = []
    if limits.size is not None:
        over = f"missed by {bytes_text(size - limits.size)}" if size > limits.size else "met"
        lines.append(f"The budget of {bytes_text(limits.size)} is {over}.")
    if limits.files is not None:
        is_over = files > limits.files
        over = f"missed by {files - limits.files:,}; `{PROGRAM} pack` makes few files of many" if is_over else "met"
        lines.append(f"The budget of {limits.files:,} files and folders is {over}.")
    return lines


def _kept(plan: EvictionPlan) -> list[str]:
    """Return lines on the states that stay, by the reason."""
    lines = []
    for reason, files in sorted(plan.kept.items()):
        runs = list(dict.fromkeys(f"{file.run.digest[:8]}/{file.run.replicate}" for file in files if file.run))
        some = ", ".join(runs[:_RUNS_SHOWN]) + (", ..." if len(runs) > _RUNS_SHOWN else "")
        lines.append(
            f"Kept, {bytes_text(sum(file.size for file in files))} in {len(files):,} states, since {reason}: {some}"
        )
    return lines
