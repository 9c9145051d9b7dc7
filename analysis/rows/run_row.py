"""What is known of a run without its tensors: a line of `ls`, the head of `show`, a row of `runs`. Imports no torch."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from branches.kinds import KINDS
from foundations.description.address import MAIN, Location
from foundations.description.desc import flattened, hyperparameter_groups
from foundations.errors import OpenPruneError, choose_from
from foundations.storage.locks import is_held
from foundations.storage.manifest import Manifest
from foundations.storage.run import MANIFEST, Run
from foundations.storage.store import short_address, source_locations, source_steps

COLUMNS = (
    "address",
    "location",
    "branch",
    "status",
    "model",
    "data",
    "strategy",
    "sparsity",
    "accuracy",
    "age",
    "digest",
    "replicate",
    "fingerprint",
    "problem",
)
"""What every row has, in the order of tables."""
STATUSES = ("complete", "incomplete", "running", "damaged", "missing")
ACHIEVED = ("density", "compression")
"""What can be asked of every row, too: what is left of the prunable weights, from achieved counts."""
HPARAM, RESULT = "hparam.", "result."
"""What the name of a hyperparameter or a result may begin with, where it means something else without."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is known of a run."""

    run: Run
    status: str
    """complete, running (a process works on it now), incomplete, damaged, or missing (nothing is there)."""
    damage: str = ""
    """Why it cannot be read, for people; empty where it can be."""
    kinds: tuple[str, ...] = ()
    """Of the run and of its training."""
    sources: tuple[Location, ...] = ()
    """Where the runs are whose states or masks it draws on: that of the mask first, then scored, then trained weights.
    A run may stand there more than once."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """By name; those of a branch's training too, unless the branch has its own."""
    results: Mapping[str, float | None] = field(default_factory=dict)
    """By name; empty where the run is not complete, None where the value was not a finite number."""
    age: float | None = None
    """Seconds since it was complete or, until it is, since something was written."""
    fingerprint: str | None = None
    """SHA-256 of the prepared dataset that it was computed from; None until it is complete."""
    iterations_per_epoch: int = 1
    """Of its training."""
    steps: Mapping[str, str] = field(default_factory=dict)
    """At which steps it takes the states that it draws on, by the names of the flags: prune_step, state_step."""
    groups: tuple[Mapping[str, Any], ...] = ()
    """The groups that its hyperparameters are from; many runs share each. Empty where that is not known."""

    @property
    def problem(self) -> str:
        """Why it cannot be read or opened, for people; empty where it can be."""
        return self.damage or _unknown_kind(self.kinds)

    @property
    def address(self) -> str:
        """The first digits of its digest, and its replicate."""
        return short_address(self.run)

    @property
    def location(self) -> str:
        """Its folder under the root, which is its whole address."""
        return str(self.run.location)

    @property
    def branch(self) -> str:
        """The kind of branch, or nothing for a training and an imported run."""
        name = self.run.location.name
        return "" if name == MAIN else name.removeprefix("branch_").rpartition("_")[0]

    @property
    def digest(self) -> str:
        """The digest of its description, the same for all replicates."""
        return self.run.location.digest

    @property
    def replicate(self) -> int:
        """Which repetition of the experiment it is."""
        return self.run.location.replicate

    @property
    def model(self) -> str | None:
        """The name of its network."""
        return self.hyperparameters.get("model_name")

    @property
    def data(self) -> str | None:
        """The name of the dataset that it is trained on."""
        return self.hyperparameters.get("dataset_name")

    @property
    def strategy(self) -> str | None:
        """The pruning strategy, or None where it does not prune."""
        return self.hyperparameters.get("strategy")

    @property
    def sparsity(self) -> float | None:
        """The fraction of the prunable weights that is pruned."""
        return self.results.get("sparsity")

    @property
    def accuracy(self) -> float | None:
        """The test accuracy at the last step, from 0 to 1."""
        return self.results.get("test_accuracy")

    def value(self, key: str) -> Any:
        """Return a column, else a result, else a hyperparameter, else a step of that name; None where there is none.

        `result.density` and `hparam.density` are a result and a hyperparameter, whatever else has the name.
        `compression` is the achieved one.
        """
        if key in COLUMNS:
            return getattr(self, key)
        if key == "compression" and self.sparsity is not None:
            return 1 / (1 - self.sparsity) if self.sparsity < 1 else math.inf
        if key.startswith(HPARAM):
            return self.hyperparameters.get(key.removeprefix(HPARAM))
        if key.startswith(RESULT):
            return self.results.get(key.removeprefix(RESULT))
        if key in self.results:
            return self.results[key]
        return self.hyperparameters[key] if key in self.hyperparameters else self.steps.get(key)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data, ready for JSON. What cannot be known of a damaged run is left out."""
        entry: dict[str, Any] = {
            "address": self.address,
            "digest": self.digest,
            "location": self.location,
            "replicate": self.replicate,
            "branch": self.branch,
            "sources": [str(source) for source in self.sources],
            "steps": dict(self.steps),
            "status": self.status,
            "hyperparameters": dict(self.hyperparameters),
            "results": dict(self.results),
        }
        if problem := self.problem:
            entry["problem"] = problem
        if self.is_readable:
            headline = ("model", "data", "strategy", "sparsity", "accuracy")
            entry |= {**{name: getattr(self, name) for name in headline}, "seconds_old": self.age}
        return entry

    @property
    def is_readable(self) -> bool:
        """Whether its description and its results could be read."""
        return self.status not in ("damaged", "missing")


@dataclass(slots=True)  # not frozen, which takes several times as long to make
class Facts:
    """What the description of a run says of it, and of a complete one its manifest: all of a row but what changes."""

    kinds: tuple[str, ...]
    """Of the run and of its training."""
    sources: tuple[Location, ...]
    groups: tuple[Mapping[str, Any], ...]
    """Of hyperparameters, those that count last."""
    iterations_per_epoch: int
    results: Mapping[str, float | None] = field(default_factory=dict)
    fingerprint: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Of the files that the manifest lists, in bytes."""
    steps: Mapping[str, str] = field(default_factory=dict)
    """Of the states that it draws on, as a row has them."""

    @classmethod
    def of(cls, run: Run, record: Mapping[str, Any], manifest: Manifest | None) -> Facts:
        """Take them from a description and a manifest. Raises: AttributeError, KeyError, TypeError or ValueError."""
        facts = cls(
            kinds=(str(record["kind"]), str(record.get("main", record)["kind"])),
            sources=tuple(location for _, location in sorted(source_locations(run, record).items())),
            groups=hyperparameter_groups(record),
            iterations_per_epoch=int(record["iterations_per_epoch"]),
            steps=source_steps(record),
        )
        if manifest is None:
            return facts
        return replace(
            facts,
            results=manifest.results,
            fingerprint=next(iter(manifest.dataset.values()), None),
            sizes={name: file.size for name, file in manifest.files.items()},
        )

    def row(self, run: Run, status: str, age: float) -> Row:
        """Return the row of a run. age: since it was complete or written to last, in seconds."""
        return Row(
            run=run,
            status=status,
            kinds=self.kinds,
            sources=self.sources,
            hyperparameters=flattened(self.groups),
            results=self.results,
            age=max(0.0, age),
            fingerprint=self.fingerprint,
            iterations_per_epoch=self.iterations_per_epoch,
            steps=self.steps,
            groups=self.groups,
        )


def row_of(run: Run) -> Row:
    """Return what is known of a run. A run that cannot be read has a row that says why."""
    return row_and_facts(run, time.time())[0]


def row_and_facts(run: Run, now: float) -> tuple[Row, Facts | None]:
    """Return what is known of a run, and what its files say; None where they cannot be read.

    now: the time from which its age is counted, in seconds since 1970.
    """
    try:
        record, manifest = run.record(), run.manifest()
        status = "complete" if manifest else "running" if is_held(run.lock_path) else "incomplete"
        facts = Facts.of(run, record, manifest)
        since = os.stat(run.folder / MANIFEST if manifest else run.folder).st_mtime  # noqa: PTH116 (as in FileRecord)
        return facts.row(run, status, now - since), facts
    except OpenPruneError as error:
        damage = str(error)
    except OSError as error:
        damage = f"Cannot read {run.folder}: {error.strerror or error}."
    except (AttributeError, KeyError, TypeError, ValueError):
        damage = f"{run.folder} holds a description or a manifest of another form.\n{run.how_to_mend()}"
    return Row(run=run, status="damaged" if _is_there(run) else "missing", damage=damage), None


def _is_there(run: Run) -> bool:
    try:
        return run.folder.exists()
    except OSError:  # in a folder that may not be looked into
        return True


def _unknown_kind(kinds: Sequence[str]) -> str:
    """Return why a description cannot be read back, where nothing here declares its kind or its training's."""
    for kind in kinds:
        if kind not in KINDS:
            return f"'{kind}' is not a kind of run{choose_from(kind, KINDS.spellings())}"
    return ""
