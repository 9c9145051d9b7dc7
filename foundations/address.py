"""The address of a run: a digest of what its description says, and of nothing else.

`digest` is the whole of identity: canonical JSON in, 32 hex digits out. A description (`Desc`) is a tree of
hyperparameter groups and of other descriptions; a description inside another counts by its digest, so addresses form a
Merkle tree.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from foundations.errors import DamagedError
from foundations.hparams import ALWAYS_WRITTEN, Hparams, elided_values

SCHEMA_VERSION = 1
MAIN = "main"


def canonical_json(tree: Any) -> str:
    """Return the one JSON text of a tree: sorted keys, no spaces. Raises: ValueError for NaN and infinities."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(kind: str, canonical: Mapping[str, Any]) -> str:
    """Return the digest of a description: SHA-256 of kind, schema version and canonical form, first 32 hex digits."""
    named = {"kind": kind, "schema": SCHEMA_VERSION, "description": canonical}
    return hashlib.sha256(canonical_json(named).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Location:
    """Where a run lies under the root: `train_<digest>/replicate_<n>/<main or branch_...>`."""

    trunk: str
    replicate: int
    part: str

    def under(self, root: Path) -> Path:
        """Return the run's folder."""
        return root / self.trunk / f"replicate_{self.replicate}" / self.part

    def __str__(self) -> str:
        return f"{self.trunk}/replicate_{self.replicate}/{self.part}"


@dataclass(frozen=True, kw_only=True)
class Desc:
    """Base of descriptions. Its fields are groups of hyperparameters and other descriptions; all are normalized."""

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        for name, group in self._fields().items():
            if isinstance(group, Hparams):
                object.__setattr__(self, name, group.normalized(self.iterations_per_epoch))
        self.validate()

    def validate(self) -> None:
        """Check what depends on several groups. Raises: UsageError that names the flags and what is possible."""

    @property
    def iterations_per_epoch(self) -> int:
        """Iterations in an epoch of the training that this description belongs to."""
        raise NotImplementedError

    def versions(self) -> dict[str, int]:
        """Return the versions of what computes the result, raised by hand when results change."""
        return {}

    def full(self) -> dict[str, Any]:
        """Return every hyperparameter, defaults too, as plain data; a description inside this one by its digest."""
        return {
            name: group.digest if isinstance(group, Desc) else group.to_dict() for name, group in self._fields().items()
        }

    def canonical(self) -> dict[str, Any]:
        """Return what the address is made of: what differs from its elided value, and the versions that are not 1."""
        tree: dict[str, Any] = {
            name: group.digest if isinstance(group, Desc) else group.canonical()
            for name, group in self._fields().items()
        }
        tree["versions"] = {name: version for name, version in self.versions().items() if version != 1}
        return {name: part for name, part in tree.items() if part != {}}

    @cached_property
    def digest(self) -> str:
        """The description's digest."""
        return digest(self.kind, self.canonical())

    def location(self, replicate: int) -> Location:
        """Return where the run of this description lies."""
        raise NotImplementedError

    def _fields(self) -> dict[str, Any]:
        """Return the parts by name; a part that is None does not count, so that one may be added later."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def record(self) -> dict[str, Any]:
        """Return the content of `description.json`: a directory that carries it can prove its own name."""
        return {
            "kind": self.kind,
            "schema": SCHEMA_VERSION,
            "digest": self.digest,
            "canonical": self.canonical(),
            "hyperparameters": self.full(),
            "iterations_per_epoch": self.iterations_per_epoch,
        }

    @classmethod
    def from_full(cls, full: Mapping[str, Any], parent: Desc | None = None) -> Self:
        """Return the description that `full` was called on; `parent` is the description inside it, if there is one.

        Raises: UsageError where a value is not possible any more; KeyError or TypeError where it is not of this kind.
        """
        hints = typing.get_type_hints(cls)
        parts: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            kind = next(k for k in (typing.get_args(hints[field.name]) or (hints[field.name],)) if k is not type(None))
            if issubclass(kind, Desc):
                parts[field.name] = parent
            elif field.name in full:
                parts[field.name] = kind.group_for(full[field.name])(**full[field.name])
        return cls(**parts)

    def refuse_mismatch(self, record: Mapping[str, Any], where: Path) -> None:
        """Compare a stored record with this description, hyperparameter by hyperparameter.

        A hyperparameter that the record lacks was added later and stands at its elided value.
        Raises: DamagedError that names the first one that differs.
        """
        stored = record["hyperparameters"]
        for name, group in self._fields().items():
            if isinstance(group, Desc):
                pairs = {name: (stored.get(name), group.digest)}
            else:
                known = {**elided_values(type(group)), **stored.get(name, {})}
                pairs = {flag: (known.pop(flag), value) for flag, value in group.to_dict().items()}
                pairs |= {flag: (value, "nothing: it is not known any more") for flag, value in known.items()}
            for flag, (was, wanted) in pairs.items():
                if was is ALWAYS_WRITTEN or was != wanted:
                    raise DamagedError(
                        f"{where} holds the result of --{flag}={was}; {wanted} was asked for under the same address.\n"
                        f"A declared default has changed without keeping its elided value; see foundations/hparams.py."
                    )


def check_record(record: Any, folder: Path) -> None:
    """Check that a stored record hashes to the digest in its directory's name. Raises: DamagedError."""
    named = folder.parent.parent.name if folder.name == MAIN else folder.name
    try:
        found = digest(record["kind"], record["canonical"])
        groups = record["hyperparameters"].values()
        is_whole = all(isinstance(group, dict | str) for group in groups)
        if is_whole and record["digest"] == found and named.rpartition("_")[2] == found:
            return
    except (KeyError, TypeError, ValueError, AttributeError):
        found = "nothing"
    raise DamagedError(
        f"{folder / 'description.json'} does not describe the directory that it is in (it hashes to {found}).\n"
        f"Move the directory away, or remove it: python open_prune.py rm {named} --force"
    )
