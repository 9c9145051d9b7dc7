"""The kinds of runs, and reading a run's description back from its directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from foundations.access import for_owner
from foundations.description.address import MAIN, Location
from foundations.description.desc import Desc, RunKind, RunRef
from foundations.errors import DamagedError, UsageError
from foundations.plugins.kept import how_to_load, load_kept
from foundations.plugins.plugins import check_loaded
from foundations.program import PROGRAM
from foundations.registry import Registry, plugins_of
from foundations.storage.run import Run
from foundations.storage.store import source_locations

KINDS = Registry(RunKind, "kind", ("training.desc", "branches.desc", "branches.imported.imported_run"))


def load_desc(run: Run, record_of: Callable[[Run], Mapping[str, Any]] = Run.record) -> Desc:
    """Return the description in a run's directory, with the descriptions of the runs that it depends on.

    record_of: gives the stored description of a run; by default reads it from the run's directory.
    Raises: EnvironmentFailure if there is no such run; DamagedError if the description does not hash to the directory's
    name; UsageError about `plugin` if a plug-in that one of them needs is not loaded, or in another version.
    """
    known: dict[Location, Desc] = {}
    waiting = [run]
    while waiting:
        current = waiting[-1]
        record = record_of(current)
        locations = dict.fromkeys(source_locations(current, record).values())
        drawn_on = [Run(run.root, location) for location in locations]
        main = _main(current, record)
        if main is not None:
            known.setdefault(Location(current.location.training, current.location.replicate, MAIN), main)
        missing = [source for source in drawn_on if source.location not in known]
        if any(source.location == other.location for source in missing for other in waiting):
            advice = for_owner(current.folder, f"Remove it: {PROGRAM} rm {current}")
            raise DamagedError(f"{current.folder} depends on itself. {advice}")
        if missing:
            waiting += missing
            continue
        runs = {known[source.location].digest: known[source.location] for source in drawn_on}
        known[current.location] = _read(current, record, main, runs)
        waiting.pop()
    return known[run.location]


def load_ref(run: Run, replicate: int) -> RunRef:
    """Return the reference that runs of a replicate use for a run. Raises: as `load_desc`."""
    own = run.location.replicate
    return RunRef(load_desc(run), None if own == replicate else own)


def _main(run: Run, record: Mapping[str, Any]) -> Desc | None:
    return _read(run, record["main"], None, {}) if "main" in record else None


def _read(run: Run, record: Mapping[str, Any], main: Desc | None, runs: Mapping[str, Desc]) -> Desc:
    needed = plugins_of(record)
    load_kept(needed, run)
    check_loaded(needed, str(run), lambda plugin: how_to_load(plugin, run))
    try:
        desc = KINDS.find(record["kind"]).desc.from_record(record, main, runs)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise DamagedError(f"{run.folder} holds a description that cannot be read: {error}") from error
    if desc.digest != record["digest"]:
        raise DamagedError(
            f"{run.folder} holds a description that this version of open_prune reads differently,\n"
            f"as {desc.digest}. Use the version that its manifest names."
        )
    return desc
