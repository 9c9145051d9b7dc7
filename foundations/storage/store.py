"""The runs under a root: listing all, finding one by its address, and the dependencies between them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from errno import EACCES
from pathlib import Path
from typing import Any

from foundations.access import reason
from foundations.description.address import MAIN, Location
from foundations.errors import EnvironmentFailure, OpenPruneError, UsageError
from foundations.program import PROGRAM
from foundations.storage.generations import holds
from foundations.storage.packed import packed_runs
from foundations.storage.root import alone, counts_at, upstreams_of
from foundations.storage.root_format import check_format
from foundations.storage.run import DESCRIPTION, MANIFEST, Run

MEASURES_FOLDER = ".measures"
"""The folder of a root that holds results of measures (`analysis.measures.results`)."""


def all_runs(root: Path) -> Iterator[Run]:
    """Yield every run under a root, trainings before their branches. Folders with other names are not ours.

    Raises: EnvironmentFailure where the root is there and cannot be read.
    """
    if upstreams_of(root):
        yield from _all_that_count(root)
        return
    for (training, number, name), is_closed in _names(root):
        if is_closed or _holds_run(root, f"{training}/replicate_{number}/{name}"):
            yield Run(root, Location(training, number, name))


def _all_that_count(root: Path) -> Iterator[Run]:
    """Yield the runs of a root with upstreams: complete ones wherever they are, others in the root itself."""
    places: dict[tuple[str, int, str], list[tuple[Path | None, bool]]] = {}
    for upstream in (None, *upstreams_of(root)):
        for parts, is_closed in _names(alone(root) if upstream is None else upstream):
            places.setdefault(parts, []).append((upstream, is_closed))
    for training, number, name in sorted(
        places, key=lambda parts: (parts[0], str(parts[1]), parts[2] != MAIN, parts[2])
    ):
        location = Location(training, number, name)
        found = places[training, number, name]
        for upstream, is_closed in found:
            if is_closed or counts_at(alone(root) if upstream is None else upstream, str(location)):
                yield Run.at(root, location, upstream)
                break
        else:
            if found[0][0] is None and _holds_run(root, str(location)):
                yield Run.at(root, location, None)


def all_names(root: Path) -> Iterator[str]:
    """Yield the locations of runs as text, from the names of folders alone. Raises: as `all_runs`."""
    names = itertools.chain(_names(alone(root)), *map(_names, upstreams_of(root)))
    return iter(dict.fromkeys(f"{training}/replicate_{number}/{name}" for (training, number, name), _ in names))


def _names(root: Path) -> Iterator[tuple[tuple[str, int, str], bool]]:
    """Yield the parts of each run's location, and whether its folder is closed to this user."""
    if os.path.lexists(root) and not os.access(root, os.R_OK | os.X_OK):
        closed = PermissionError(EACCES, os.strerror(EACCES))
        why = reason(closed, root) if root.is_dir() else "it is not a folder"
        raise EnvironmentFailure(f"Cannot read {root}: {why}.")
    check_format(root)
    packed = [each for each in map(Location.parse, packed_runs(root)) if each is not None]
    found = _names_of_folders(root)
    if packed:
        known = dict.fromkeys(((each.training, each.replicate, each.name) for each in packed), False) | dict(found)
        ordered = sorted(known, key=lambda name: (name[0], f"replicate_{name[1]}", name[2] != MAIN, name[2]))
        yield from ((name, known[name]) for name in ordered)
    else:
        yield from found


def _names_of_folders(root: Path) -> Iterator[tuple[tuple[str, int, str], bool]]:
    for training in sorted([*root.glob("train_*"), *root.glob("import_*")]):
        folder = training.name
        if not os.access(training, os.R_OK | os.X_OK) and training.is_dir():  # a colleague's: reading a run reports it
            yield (folder, 1, MAIN), True
            continue
        for replicate in sorted(training.glob("replicate_*")):
            digits = replicate.name.removeprefix("replicate_")
            if digits.isdecimal():
                number = int(digits)
                try:
                    names = os.listdir(replicate)  # noqa: PTH208 (thousands of branches: names are enough)
                except OSError:  # a colleague's, say: reading the run reports it
                    yield (folder, number, MAIN), True
                    continue
                branches = {name.removeprefix(".") for name in names if name.startswith(("branch_", ".branch_"))}
                for name in (MAIN, *sorted(branches)):
                    yield (folder, number, name), False


def short_address(run: Run) -> str:
    """Return the first 8 digits of a run's digest, and its replicate: enough to name it to `show`."""
    return f"{run.location.digest[:8]}/{run.location.replicate}"


def of_upstream(upstream: Path | None) -> str:
    """Return a mark for a run that is in an upstream, as text that follows its address; empty without one."""
    return "" if upstream is None else f" (in the upstream {upstream})"


def find_run(root: Path, address: str, prefer: int | None = None) -> Run:
    """Return the run of an address: any unique prefix of its digest or directory's name, with `/N` for a replicate.

    prefer: the replicate to return where the address fits several replicates of one run and names none.
    Raises: UsageError where the address fits no run, or more than one.
    """
    check_format(root)
    whole = address.rstrip("/")
    exact = Location.parse(whole)
    if exact is not None and (run := _run_at(root, exact)):
        return run
    begins = "" if whole.count("/") > 1 else whole.partition("/")[0]
    roots = (alone(root), *upstreams_of(root))
    names = itertools.chain.from_iterable(map(_names, roots))
    likely = ((name, is_closed) for name, is_closed in names if begins in name[0] or begins in name[2])
    named: dict[Location, bool] = {}
    for name, is_closed in likely:
        named[Location(*name)] = is_closed or named.get(Location(*name), False)
    meant = [each for each in named if "/" in whole and whole in (str(each), *(str(each.under(at)) for at in roots))]
    if not meant:
        meant = [each for each in named if is_meant(each, whole)]
    found = [run for location in meant if (run := _run_at(root, location, is_closed=named[location]))]
    preferred = [run for run in found if run.location.replicate == prefer]
    if len({run.location.digest for run in found}) == len(preferred) == 1:
        found = preferred
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"No run under {root} is named '{address}'. `{PROGRAM} ls` lists the runs.")
    some = ", ".join(short_address(run) for run in found[:6]) + (", ..." if len(found) > 6 else "")
    raise UsageError(f"'{address}' may mean {len(found)} runs: {some}. Give more digits, or the replicate.")


def find_run_here(root: Path, address: str) -> Run:
    """Return the run of an address in a root itself. Raises: as `find_run`; UsageError for a run of an upstream."""
    try:
        return find_run(alone(root), address)
    except UsageError:
        found = find_run(root, address) if upstreams_of(root) else None
        if found is None or found.upstream is None:
            raise
        raise UsageError(
            f"{short_address(found)} is in the upstream {found.upstream}, which is never written. Nothing was changed."
        ) from None


def source_runs(run: Run) -> list[Run]:
    """Return the runs whose states or masks a run depends on, in the order of its description, each once.

    Raises: DamagedError where the description cannot be read.
    """
    return [Run(run.root, location) for location in dict.fromkeys(source_locations(run, run.record()).values())]


def source_locations(run: Run, record: Mapping[str, Any]) -> dict[str, Location]:
    """Return the locations of the runs whose states or masks a run depends on, by the names in its description.

    record: the run's stored description.
    """
    return {
        name: Location.of(source["training"], source.get("replicate", run.location.replicate), source["name"])
        for name, source in record.get("sources", {}).items()
    }


SOURCE_FLAGS = {"scored": "prune", "state": "state", "mask": "mask", "statistics": "statistics"}
"""Prefixes of the flags for the run (_experiment) and the step (_step) of a source, by the source's name."""


def source_steps(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the steps of the states that a run depends on, by the names of the flags, such as state_step."""
    steps = {SOURCE_FLAGS.get(name, name): source.get("step") for name, source in record.get("sources", {}).items()}
    return {f"{name}_step": str(step) for name, step in steps.items() if step is not None}


def users_by_location(root: Path) -> dict[Location, list[Run]]:
    """Return, by location, the runs that depend on the run there, except runs that cannot be read."""
    users: dict[Location, list[Run]] = {}
    for run in all_runs(root):
        try:
            for source in source_runs(run):
                users.setdefault(source.location, []).append(run)
        except OpenPruneError:
            continue  # `verify` reports the damage
    return users


def with_users(runs: Sequence[Run]) -> list[Run]:
    """Return some runs of a root, and all that depend on them or are branches beside them, in an order for removal.

    Each comes before the runs that it depends on.
    """
    if not runs:
        return []
    users = users_by_location(runs[0].root)
    for other in all_runs(runs[0].root):
        if other.location.name != MAIN:
            main = Location(other.location.training, other.location.replicate, MAIN)
            users.setdefault(main, []).append(other)
    found: dict[Location, Run] = {}
    waiting, seen = [(run, False) for run in reversed(runs)], set()
    while waiting:
        run, are_users_found = waiting.pop()
        if are_users_found:
            found[run.location] = run
        elif run.location not in seen:
            seen.add(run.location)
            waiting += [(run, True), *((user, False) for user in users.get(run.location, []))]
    return list(found.values())


def _run_at(root: Path, location: Location, *, is_closed: bool = False) -> Run | None:
    """Return the run at a location under a root, or complete in an upstream; None if there is none."""
    run = Run(root, location)
    return run if is_closed or _holds_run(root, str(location)) or run.upstream is not None else None


def _holds_run(root: Path, location: str) -> bool:
    # A run that lost its description can still be named, to be mended or removed.
    return holds(f"{root}/{location}", DESCRIPTION, MANIFEST) or location in packed_runs(root)


def is_meant(location: Location, address: str) -> bool:
    """Return whether an address fits: a prefix of the digest or directory's name, with /N for a replicate."""
    stem, _, replicate = address.partition("/")
    name = location.training if location.name == MAIN else location.name
    is_named = bool(stem) and (location.digest.startswith(stem) or name.startswith(stem))
    return is_named and (not replicate or str(location.replicate) == replicate)
