"""Descriptions of runs: groups of hyperparameters, and edges to the runs that they depend on.

Everything about ancestry follows from `Desc.sources()`: the order of a plan, the fingerprints in a manifest,
the runs that `rm` protects, the content of a ticket, the tree that `show` prints.
"""

from __future__ import annotations

import dataclasses
import functools
import marshal
import sys
import typing
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from foundations.access import for_owner
from foundations.description.address import MAIN, SCHEMA_VERSION, Location, digest, is_number
from foundations.description.hparams import ALWAYS_WRITTEN, Hparams, elided_values
from foundations.description.step import Step
from foundations.errors import DamagedError, UsageError
from foundations.metrics import METRICS, Metric, headline_record
from foundations.program import PROGRAM
from foundations.registry import Plugin, Registered, loaded_plugins, plugin_that_declares, records_of

# A branch inherits the hyperparameters of its training, except those of these groups.
_NOT_INHERITED = ("techniques",)
_TEXT_OR_SWITCH = (str, bool)
_PLAIN = 2  # the last version of marshal whose bytes depend on the value alone


@dataclass(frozen=True, eq=False)
class RunRef:
    """A reference to a run in another run's description; references are equal if they lead to the same address.

    replicate: None for the replicate of the referring run, so that all replicates of that run have one address.
    """

    desc: Desc
    replicate: int | None = None

    def __post_init__(self) -> None:
        _ = self.desc.digest  # computed run by run, so that a long chain takes no deep recursion

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunRef) and type(self) is type(other) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        # Not the description: a level refers to the one before twice, so comparing n levels would take 2^n steps.
        return self.desc.digest, self.replicate

    def canonical(self) -> dict[str, Any]:
        """Return the entry for this run in the address of the referring description."""
        return {"run": self.desc.digest} | ({} if self.replicate is None else {"replicate": self.replicate})

    def location(self, replicate: int) -> Location:
        """Return the run's location. replicate: that of the referring run."""
        return self.desc.location(replicate if self.replicate is None else self.replicate)


@dataclass(frozen=True)
class StateOf:
    """An edge: weights and buffers of a run at a step."""

    run: RunRef
    step: Step

    @classmethod
    def at(cls, run: RunRef, text: str, hparam: str) -> StateOf:
        """Return the state at a step that is written as text. Raises: UsageError where the run has no such step."""
        step, desc = Step.parse(text, run.desc.iterations_per_epoch, hparam), run.desc
        if not desc.start <= step <= desc.end:
            where = "after the last step" if step > desc.end else "before the first step"
            raise UsageError(f"{step} is {where} of the run; choose {desc.start} to {desc.end}.", hparam)
        return cls(run, step)

    def canonical(self) -> dict[str, Any]:
        """Return the entry for this edge in an address."""
        return {**self.run.canonical(), "step": str(self.step)}


@dataclass(frozen=True)
class MaskOf:
    """An edge: the mask of a run."""

    run: RunRef

    def canonical(self) -> dict[str, Any]:
        """Return the entry for this edge in an address."""
        return self.run.canonical()


Source = StateOf | MaskOf


@dataclass(frozen=True, kw_only=True)
class Desc(ABC):
    """Base of descriptions: a frozen dataclass of hyperparameter groups and sources.

    A branch has a field `main` as well, the training in whose directory it is. A field that is None is absent from
    the address, so that one may be added later.
    """

    kind: ClassVar[str]
    job: ClassVar[str]
    """`module:class` of the job that computes it (see `training.job`), imported only when there is work to do."""
    is_computed: ClassVar[bool] = True
    """Whether a replay gives back its states; those of imported files are nowhere else."""

    def __post_init__(self) -> None:
        for name, value in self.fields().items():
            if isinstance(value, Hparams):
                object.__setattr__(self, name, value.normalized(self.iterations_per_epoch))

    if TYPE_CHECKING:  # a property of trainings, a field of branches

        @property
        def main(self) -> Desc:
            """The training in whose directory the run is; the description itself, if it is one."""

    @property
    @abstractmethod
    def iterations_per_epoch(self) -> int:
        """Iterations in an epoch of the run."""

    @property
    @abstractmethod
    def start(self) -> Step:
        """The run's first step."""

    @property
    @abstractmethod
    def end(self) -> Step:
        """The run's last step."""

    @property
    def mask_step(self) -> Step | None:
        """The step by which the run's mask is known, or None where it has none."""
        return None

    @property
    @abstractmethod
    def dataset_name(self) -> str:
        """The dataset that the run is trained on."""

    @property
    def headline(self) -> Metric:
        """The metric by which runs of this kind are compared, and which determines the best state."""
        return METRICS.find("accuracy") if self.main is self else self.main.headline

    @property
    def together_key(self) -> Hashable:
        """A key that is equal for runs that one process can train together; None for a run that trains alone."""
        return None

    @abstractmethod
    def location(self, replicate: int) -> Location:
        """Return the location of this description's run."""

    def check(self) -> None:
        """Check what can be told before anything is computed, and not of a part of the description.

        Called when the run is planned. Raises: UsageError where it cannot be computed.
        """

    def versions(self) -> dict[str, int]:
        """Return the versions of the code that computes the result, raised by hand when results change."""
        return {}

    def fields(self) -> dict[str, Any]:
        """Return the parts of the description by name, without absent ones."""
        values = {name: getattr(self, name) for name, _ in _field_types(type(self))}
        return {name: value for name, value in values.items() if value is not None}

    def sources(self) -> dict[str, Source]:
        """Return the states and masks of other runs that this run depends on, by the names of their fields."""
        return {name: value for name, value in self.fields().items() if isinstance(value, Source)}

    def hyperparameters(self) -> dict[str, dict[str, Any]]:
        """Return every hyperparameter by group, defaults too."""
        return {name: value.values() for name, value in self.fields().items() if isinstance(value, Hparams)}

    def plugins(self) -> list[Plugin]:
        """Return the plug-ins whose code computes the run, sorted by name: of its own class and of its values.

        The digests of the runs that it depends on, its main run included, cover the plug-ins of those runs.
        """
        if not loaded_plugins():
            return []
        groups = [value for value in self.fields().values() if isinstance(value, Hparams)]
        found = {plugin_that_declares(type(self)), *(plugin for group in groups for plugin in group.plugins())}
        return sorted(filter(None, found), key=lambda plugin: plugin.name)

    @cached_property
    def canonical(self) -> dict[str, Any]:
        """Content of the address: values that differ from their omitted default, versions other than 1, plug-ins."""
        tree: dict[str, Any] = {
            name: value.digest if isinstance(value, Desc) else value.canonical()
            for name, value in self.fields().items()
        }
        tree["versions"] = {name: version for name, version in self.versions().items() if version != 1}
        tree["plugins"] = {plugin.name: plugin.sha256 for plugin in self.plugins()}
        return {name: part for name, part in tree.items() if part != {}}

    @cached_property
    def digest(self) -> str:
        """The description's digest."""
        return digest(self.kind, self.canonical)

    def record(self) -> dict[str, Any]:
        """Return the content of `description.json`, from which the description can be read back.

        With it, the name of a directory can be checked. The record of a branch contains the record of its main run, and
        the locations of its sources.
        """
        record: dict[str, Any] = {
            "kind": self.kind,
            "schema": SCHEMA_VERSION,
            "digest": self.digest,
            "canonical": self.canonical,
            "hyperparameters": self.hyperparameters(),
            "iterations_per_epoch": self.iterations_per_epoch,
        }
        plugins = self.plugins()
        if plugins:
            record["plugins"] = records_of(plugins)
        if self.main is self:
            record |= headline_record(self.headline)
        if self.main is not self:
            record["main"] = self.main.record()
            record["sources"] = {name: _source_record(source) for name, source in self.sources().items()}
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any], main: Desc | None, runs: Mapping[str, Desc]) -> Self:
        """Return the description that wrote `record`. runs: the descriptions of its sources, by digest.

        Raises: UsageError where a value is no longer valid; KeyError or TypeError where it is not of this kind.
        """
        parts: dict[str, Any] = {}
        for name, kind in _field_types(cls):
            if issubclass(kind, Hparams):
                if name in record["hyperparameters"]:
                    parts[name] = _group_from(kind, record["hyperparameters"][name])
            elif issubclass(kind, StateOf | MaskOf):
                if name in record["sources"]:
                    parts[name] = _source_from(record["sources"][name], runs)
            else:
                parts[name] = main
        return cls(**parts)

    def check_record(self, record: Mapping[str, Any], folder: Path) -> None:
        """Compare a stored record with this description, hyperparameter by hyperparameter.

        A hyperparameter that the record lacks was added later and has its omitted default.
        Raises: DamagedError that names the first one that differs.
        """
        stored, own = record["hyperparameters"], self.hyperparameters()
        if stored == own:
            return
        for name, group in own.items():
            known = {**elided_values(type(getattr(self, name))), **stored.get(name, {})}
            for hparam in {**group, **known}:
                was, wanted = known.get(hparam), group.get(hparam, "nothing (it is not known any more)")
                if was is ALWAYS_WRITTEN or was != wanted:
                    raise DamagedError(
                        f"{folder} holds the result of {hparam}={was}; {wanted} was asked for under the same address.\n"
                        "A declared default has changed without keeping its `elided` value; "
                        "see foundations/description/hparams.py."
                    )


@dataclass(frozen=True, kw_only=True, eq=False)
class RunKind(Registered):
    """A kind of run, by the word in its description and in its directory's name."""

    desc: type[Desc]


def check_record(record: Any, folder: Path) -> None:
    """Check that a stored record hashes to the digest in its directory's name. Raises: DamagedError."""
    named = folder.parent.parent.name if folder.name == MAIN else folder.name
    try:
        found = digest(record["kind"], record["canonical"])
        is_whole = _is_plain(record)
        plugins = {name: plugin["sha256"] for name, plugin in record.get("plugins", {}).items()}
        is_whole &= plugins == record["canonical"].get("plugins", {})
        if "main" in record:
            main = record["main"]
            # Many branches carry the description of one training; marshal keeps apart what == does not (1 and 1.0).
            main_digest = _digest_of(main["kind"], marshal.dumps(main["canonical"], _PLAIN))
            is_whole &= record["canonical"]["main"] == main["digest"] == main_digest and _is_plain(main)
            for source in record["sources"].values():
                Location.of(source["training"], source.get("replicate", 1), source["name"])
        if is_whole and record["digest"] == found and named.rpartition("_")[2] == found:
            return
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        found = "nothing"
    raise DamagedError(
        f"{folder / 'description.json'} does not describe the directory that it is in (it hashes to {found}).\n"
        + for_owner(folder, f"Move the directory away, or remove it: {PROGRAM} rm {named} --force")
    )


def flat_hyperparameters(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of a stored description by name.

    A branch has the hyperparameters of its training, overridden by its own. It does not inherit techniques.
    """
    return flattened(hyperparameter_groups(record))


def hyperparameter_groups(record: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the groups of hyperparameters of a stored description, in the order for `flattened`."""
    inherited = record["main"]["hyperparameters"] if "main" in record else {}
    groups = {name: group for name, group in inherited.items() if name not in _NOT_INHERITED}
    return tuple(interned(group) for group in (groups | record["hyperparameters"]).values())


def interned(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group with interned names: thousands of runs compare them by identity and store them once."""
    return {sys.intern(name): value for name, value in group.items()}


def flattened(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the hyperparameters of groups by name; a later group overrides earlier ones."""
    return {name: value for group in groups for name, value in group.items()}


def _is_plain(record: Mapping[str, Any]) -> bool:
    """Return whether the kind, hyperparameters and epoch length of a stored record have valid types and ranges."""
    epoch = record["iterations_per_epoch"]
    if type(record["kind"]) is not str or type(epoch) is not int or not is_number(epoch) or epoch < 1:
        return False
    values = [value for group in record["hyperparameters"].values() for value in group.values()]
    return all(type(value) in _TEXT_OR_SWITCH or value is None or is_number(value) for value in values)


@functools.lru_cache(maxsize=256)
def _digest_of(kind: str, canonical: bytes) -> str:
    return digest(kind, marshal.loads(canonical))


@functools.cache
def _field_types(kind: type[Desc]) -> tuple[tuple[str, type], ...]:
    hints = typing.get_type_hints(kind)
    found = []
    for field in dataclasses.fields(kind):
        types = typing.get_args(hints[field.name]) or (hints[field.name],)
        found.append((field.name, next(part for part in types if part is not type(None))))
    return tuple(found)


def _group_from(kind: type[Hparams], stored: Mapping[str, Any]) -> Hparams:
    group = kind.group_for(stored)
    elided = {name: value for name, value in elided_values(group).items() if value is not ALWAYS_WRITTEN}
    return group(**{**elided, **stored})


def _source_record(source: Source) -> dict[str, Any]:
    location = source.run.desc.location(1)
    step = {"iteration": source.step.iteration} if isinstance(source, StateOf) else {}
    return {**source.canonical(), **step, "training": location.training, "name": location.name}


def _source_from(stored: Mapping[str, Any], runs: Mapping[str, Desc]) -> Source:
    run = RunRef(runs[stored["run"]], stored.get("replicate"))
    if "iteration" not in stored:
        return MaskOf(run)
    return StateOf(run, Step(stored["iteration"], run.desc.iterations_per_epoch))
