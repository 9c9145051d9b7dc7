"""Descriptions for comparison: of stored runs, and of runs that a command asks for. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from foundations.description.address import MAIN, Location
from foundations.description.desc import Desc, flat_hyperparameters
from foundations.errors import OpenPruneError
from foundations.storage.run import Run

_NO_GROUPS = ("main", "versions", "plugins")
_VERSION = "_version"


@dataclass(frozen=True)
class DescribedSource:
    """A run that another run depends on."""

    location: Location
    step: str | None
    """The step of the state that is taken from it; None for a mask."""
    is_own_main: bool
    """Whether it is the training whose directory contains the run, with the same replicate."""
    described: Described | None
    """None if it was deleted or cannot be read."""
    replicate: int | None
    """None for the replicate of the dependent run."""

    @property
    def iterations_per_epoch(self) -> int:
        """Iterations per epoch of the run; 1 if unknown."""
        return self.described.iterations_per_epoch if self.described else 1

    @property
    def identity(self) -> str:
        """A key that equal sources share. Each run's own training counts as equal."""
        return MAIN if self.is_own_main else f"{self.location.digest}/{self.replicate or ''}"

    @property
    def address(self) -> str:
        """Its name in flags: main, or the beginning of its address."""
        return MAIN if self.is_own_main else f"{self.location.digest[:8]}/{self.location.replicate}"


class Described:
    """The content of a run's description, by name."""

    def __init__(
        self, record: Mapping[str, Any], location: Location, record_of: Callable[[Location], Mapping[str, Any]]
    ) -> None:
        """Take a stored description, the location of its run, and a reader of the descriptions of its sources.

        record_of: (location of a run) -> its description; raises OpenPruneError if there is none.
        """
        self._record, self.location, self._record_of = record, location, record_of

    @classmethod
    def stored(cls, run: Run) -> Described:
        """Read the description in the directory of a run. Raises: EnvironmentFailure, DamagedError."""
        return cls(run.record(), run.location, lambda location: Run(run.root, location).record())

    @classmethod
    def asked(cls, desc: Desc, replicate: int) -> Described:
        """Take the description of a run that need not exist."""
        drawn_on = _drawn_on(desc)
        return cls(desc.record(), desc.location(replicate), lambda location: drawn_on[location.digest].record())

    @property
    def digest(self) -> str:
        """The digest of the description."""
        return str(self._record["digest"])

    @property
    def identity(self) -> str:
        """A key that identifies the run."""
        return f"{self.digest}/{self.replicate}"

    @property
    def replicate(self) -> int:
        """The number of its replicate."""
        return self.location.replicate

    @property
    def kind(self) -> str:
        """The kind of run: train, import, or the name of a branch."""
        return str(self._record["kind"])

    @property
    def iterations_per_epoch(self) -> int:
        """Iterations per epoch of the run."""
        return int(self._record["iterations_per_epoch"])

    @cached_property
    def hyperparameters(self) -> Mapping[str, Any]:
        """Every hyperparameter, as in listings: a branch inherits those of its training that it does not set itself."""
        return flat_hyperparameters(self._record)

    @cached_property
    def _written(self) -> Mapping[str, Any]:
        """The hyperparameters with values in the address, and the versions other than 1."""
        records = [self._record["main"]] if "main" in self._record else []
        found: dict[str, Any] = {}
        inherited = {
            name: group for part in records for name, group in part["canonical"].items() if name != "techniques"
        }
        for name, group in {**inherited, **self._record["canonical"]}.items():
            is_group = name not in (*_NO_GROUPS, *self._record.get("sources", {})) and isinstance(group, dict)
            if is_group:
                found |= group
        return found

    def is_written(self, name: str) -> bool:
        """Return whether a hyperparameter has a value that is part of the address."""
        return name in self._written

    @cached_property
    def versions(self) -> Mapping[str, int]:
        """The versions other than 1, of the job, scoring, methods and techniques."""
        found = {
            f"{name}{_VERSION}": version for name, version in self._record["canonical"].get("versions", {}).items()
        }
        for name, value in self._written.items():
            if name not in self.hyperparameters:
                found |= (
                    {f"{part}{_VERSION}": version for part, version in value.items()}
                    if isinstance(value, dict)
                    else {name: value}
                )
        return found

    @property
    def plugins(self) -> Mapping[str, str]:
        """The SHA-256 of the plug-ins whose code computes the run, by name."""
        return {name: plugin["sha256"] for name, plugin in self._record.get("plugins", {}).items()}

    @cached_property
    def main(self) -> Described:
        """The training whose directory contains the run; a training is its own."""
        if "main" not in self._record:
            return self
        location = Location(self.location.training, self.replicate, MAIN)
        return Described(self._record["main"], location, self._record_of)

    @cached_property
    def sources(self) -> Mapping[str, DescribedSource]:
        """The runs that it depends on, by their names in its description."""
        found = {}
        for name, source in self._record.get("sources", {}).items():
            replicate = source.get("replicate")
            location = Location.of(source["training"], replicate or self.replicate, source["name"])
            is_main = location == Location(self.location.training, self.replicate, MAIN)
            described = self.main if is_main else self._described(location)
            found[name] = DescribedSource(location, source.get("step"), is_main, described, replicate)
        return found

    @cached_property
    def generations(self) -> int:
        """The number of runs in the chain of masks that leads to it, itself included."""
        count, current = 1, self.sources.get("mask")
        while current is not None:
            count += 1
            current = current.described.sources.get("mask") if current.described else None
        return count

    def _described(self, location: Location) -> Described | None:
        try:
            return Described(self._record_of(location), location, self._record_of)
        except OpenPruneError:
            return None


def _drawn_on(desc: Desc) -> dict[str, Desc]:
    """Return the descriptions that a description depends on, directly or indirectly, by digest."""
    found: dict[str, Desc] = {}
    waiting = [desc]
    while waiting:
        for source in waiting.pop().sources().values():
            if source.run.desc.digest not in found:
                found[source.run.desc.digest] = source.run.desc
                waiting.append(source.run.desc)
    return found
