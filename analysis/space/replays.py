"""Replays: the states that they give back with the same bytes, and their duration. It imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from branches.kinds import KINDS
from datasets.prepared import fingerprint
from foundations.description.address import Location
from foundations.description.step import Step
from foundations.errors import OpenPruneError
from foundations.packs import exists
from foundations.plugins.kept import kept_source
from foundations.registry import plugins_of
from foundations.storage.manifest import Manifest
from foundations.storage.run import LOG, STATE, Run
from foundations.storage.store import source_locations


class Replays:
    """The complete runs under a root, asked for the states that a replay gives back."""

    def __init__(self, root: Path, datasets: Path) -> None:
        self._root, self._datasets = root, datasets
        self._obstacles: dict[Location, str] = {}
        self._fingerprints: dict[str, str | None] = {}

    def obstacle(self, location: Location) -> str:
        """Return why a replay would not give back a run's states with the same bytes; empty if it would."""
        if location not in self._obstacles:
            self._obstacles[location] = "it depends on itself"  # replaced below, unless it does
            run = Run(self._root, location)
            try:
                record, manifest = run.record(), run.manifest()
                self._obstacles[location] = self._of_run(run, record, manifest) if manifest else "it is not complete"
            except OpenPruneError as error:
                self._obstacles[location] = f"it cannot be read ({str(error).splitlines()[0]})"
            except (KeyError, TypeError, ValueError, AttributeError):
                self._obstacles[location] = "its description is of another form"
        return self._obstacles[location]

    def _of_run(self, run: Run, record: Mapping[str, Any], manifest: Manifest) -> str:
        kind, torch = record["kind"], manifest.versions.get("torch")
        if kind not in KINDS or not KINDS.find(kind).desc.is_computed:
            return (
                "it was imported, so nothing computes it" if kind in KINDS else f"its kind '{kind}' is not known here"
            )
        if "stacked with" in manifest.device or "processes" in manifest.device:
            return "it was stacked with others" if "stacked" in manifest.device else "several processes computed it"
        if not exists(run.path(LOG)):  # logs do not travel; a job that has replayed a state here begins one
            return "it was pulled or imported, and this machine may compute other bytes"
        if torch != metadata.version("torch"):
            return f"torch {torch} computed it, and torch {metadata.version('torch')} is installed"
        plugins = [*plugins_of(record), *plugins_of(record.get("main", {}))]
        lost = [plugin.name for plugin in plugins if kept_source(plugin, run.root) is None]
        if lost:
            return f"its plug-in {lost[0]} is not kept"
        return self._of_data(manifest) or self._of_sources(run, record)

    def _of_data(self, manifest: Manifest) -> str:
        for name, recorded in manifest.dataset.items():
            if name not in self._fingerprints:
                self._fingerprints[name] = fingerprint(name, self._datasets)
            found = self._fingerprints[name]
            if found != recorded:
                return f"{name} is not prepared here" if found is None else f"{name} has other data here"
        return ""

    def _of_sources(self, run: Run, record: Mapping[str, Any]) -> str:
        for name, location in source_locations(run, record).items():
            why = self.obstacle(location)
            if why and not self._is_kept(location, record["sources"][name]):
                return f"its source {location} cannot be replayed: {why}"
        return ""

    def _is_kept(self, location: Location, source: Mapping[str, Any]) -> bool:
        """Return whether a source that cannot be replayed is there: then `gc` does not evict it."""
        run, step = Run(self._root, location), step_read(self._root, location, source)
        return run.has_mask() if step is None else run.has_state(step)


def states_read(run: Run, roots: Sequence[Path]) -> set[str]:
    """Return the states of other runs that a run's description names, as `<location>/<file>`.

    roots: where these runs may be. Raises: DamagedError, and others for a description of another form.
    """
    record = run.record()
    steps = {
        (location, step_read(root, location, record["sources"][name]))
        for name, location in source_locations(run, record).items()
        for root in roots
        if Run(root, location).exists()
    }
    return {f"{location}/{Run.state_name(step)}" for location, step in steps if step is not None}


def step_read(root: Path, location: Location, source: Mapping[str, Any]) -> Step | None:
    """Return the step of the state that an entry of `sources` in a description names; None if it names a mask.

    location: of the run that has it.
    """
    if "iteration" not in source:
        return None
    return Step(source["iteration"], int(Run(root, location).record()["iterations_per_epoch"]))


def replay_seconds(run: Run, manifest: Manifest) -> dict[str, float]:
    """Return the seconds of a replay to each of a run's states, as a share of the time that the run took."""
    per_epoch = int(run.record()["iterations_per_epoch"])
    found = filter(None, map(STATE.fullmatch, [*manifest.files, *manifest.evicted]))
    iterations = {state[0]: int(state[1]) * per_epoch + int(state[2]) for state in found}
    first, last = min(iterations.values(), default=0), max(iterations.values(), default=0)
    return {
        name: manifest.wall_seconds * (iteration - first) / max(1, last - first)
        for name, iteration in iterations.items()
    }
