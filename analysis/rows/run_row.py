"""Rows: the data of a run without its tensors, as in `ls`, the head of `show`, and `runs`. Imports no torch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from branches.kinds import KINDS
from foundations.access import is_denied, reason
from foundations.description.address import MAIN, Location
from foundations.description.desc import flattened, hyperparameter_groups
from foundations.errors import ClosedError, OpenPruneError, choose_from
from foundations.metrics import Metric, has_diverged, headline_of, metric_of
from foundations.storage.locks import is_held
from foundations.storage.manifest import Manifest
from foundations.storage.run import Run
from foundations.storage.store import short_address, source_locations, source_steps
from training.registry import TECHNIQUES
from training.technique import Technique

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
    "origin",
    "problem",
    "upstream",
)
"""The columns of every row, in the order of tables."""
STATUSES = ("complete", "incomplete", "running", "damaged", "closed", "missing")
ACHIEVED = ("density", "compression")
"""Further keys of every row: the share of prunable weights that is left, from achieved counts."""
REQUESTED = "requested_density"
"""A further key of every row: the share of prunable weights that was asked for."""
_START_DENSITY = "start_density"
"""The hyperparameter of techniques that move a mask; others may prune it further."""
HPARAM, RESULT = "hparam.", "result."
"""Prefixes for names of hyperparameters and results that mean something else without them."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The data of a run, without its tensors."""

    run: Run
    status: str
    """complete, running (a process works on it now), incomplete, damaged, or missing (nothing is there)."""
    damage: str = ""
    """A message on why it cannot be read; empty if it can."""
    kinds: tuple[str, ...] = ()
    """The kinds of the run and of its training."""
    sources: tuple[Location, ...] = ()
    """Locations of the runs whose states or masks it depends on: the mask's first, then scored, then trained weights.
    A run may be listed more than once."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """By name. A branch inherits those of its training that it does not set itself."""
    results: Mapping[str, float | None] = field(default_factory=dict)
    """By name; empty if the run is not complete, None for a value that was not a finite number."""
    age: float | None = None
    """Seconds since its completion, or since the last write if it is not complete."""
    fingerprint: str | None = None
    """SHA-256 of the prepared dataset that it used; None until it is complete."""
    iterations_per_epoch: int = 1
    """Iterations per epoch of its training."""
    steps: Mapping[str, str] = field(default_factory=dict)
    """The steps of the states that it depends on, by the names of the flags: prune_step, state_step."""
    groups: tuple[Mapping[str, Any], ...] = ()
    """The groups of its hyperparameters; many runs share each. Empty if unknown."""
    headline_entry: Mapping[str, Any] | None = None
    """The headline metric in the description of its training; None for accuracy."""
    origin: str | None = None
    """The shared file that it came in; None for a run of one's own."""

    @property
    def problem(self) -> str:
        """A message on why it cannot be read or opened; empty if it can."""
        unknown = next((kind for kind in self.kinds if kind not in KINDS), None)
        what = "" if unknown is None else f"'{unknown}' is not a kind of run{choose_from(unknown, KINDS.spellings())}"
        return self.damage or what

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
        """The kind of branch; empty for a training or an imported run."""
        name = self.run.location.name
        return "" if name == MAIN else name.removeprefix("branch_").rpartition("_")[0]

    @property
    def digest(self) -> str:
        """The digest of its description, the same for all replicates."""
        return self.run.location.digest

    @property
    def replicate(self) -> int:
        """The number of its replicate."""
        return self.run.location.replicate

    @property
    def upstream(self) -> str | None:
        """The upstream whose run it is; None for a run in the root itself."""
        return None if self.run.upstream is None else str(self.run.upstream)

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
        """The pruning strategy, or None if it does not prune."""
        return self.hyperparameters.get("strategy")

    @property
    def sparsity(self) -> float | None:
        """The fraction of the prunable weights that is pruned."""
        return self.results.get("sparsity")

    @property
    def learned_mask(self) -> tuple[str, float | None] | None:
        """The technique that learns its mask, so that its sparsity is an outcome, and the requested one; else None.

        The requested sparsity is None where nothing asks for one.
        """
        for technique in [] if self.sparsity is None else self.techniques:
            if technique.mask_is_outcome:
                density = self.hyperparameters.get(technique.density)
                return technique.spelling, None if density is None else 1 - float(density)
        return None

    @property
    def techniques(self) -> list[Technique]:
        """Its techniques, without those of plug-ins that are not loaded."""
        names = str(self.hyperparameters.get("technique") or "").split(",")
        return [TECHNIQUES.find(name) for name in names if name in TECHNIQUES]

    @property
    def makes_its_mask(self) -> bool:
        """Whether its training makes or changes its mask, so that it is not a dense reference."""
        return any(technique.changes_mask or technique.mask_is_outcome for technique in self.techniques)

    @property
    def requested_density(self) -> float | None:
        """The density asked for; None where there is none, and where the density is an outcome that nothing asks for.

        It is that of the techniques that end with one, else of those that start with one, else of the run's pruning.
        """
        if any(technique.mask_is_outcome and not technique.density for technique in self.techniques):
            return None
        names = [technique.density for technique in reversed(self.techniques) if technique.density]
        names.sort(key=lambda name: name == _START_DENSITY)
        for name in names:
            pruned = self.hyperparameters.get(name.replace("density", "prune_fraction"))
            density = self.hyperparameters.get(name) if pruned is None else 1 - float(pruned)
            if density is not None:
                return float(f"{float(density):.12g}")
        pruned = self.hyperparameters.get("prune_fraction") if self.branch else None
        return None if pruned is None else float(f"{1 - float(pruned):.12g}")

    @property
    def accuracy(self) -> float | None:
        """The test accuracy at the last step, from 0 to 1."""
        return self.results.get("test_accuracy")

    @property
    def has_diverged(self) -> bool:
        """Whether a loss at its end is not a finite number."""
        return has_diverged(self.results)

    @property
    def headline(self) -> Metric:
        """The metric by which runs of its task are compared."""
        return headline_of({"headline": self.headline_entry})

    def value(self, key: str) -> Any:
        """Return a column, else a result, else a hyperparameter, else a step of that name; None if there is none.

        `result.density` and `hparam.density` are always the result and the hyperparameter.
        `compression` is the achieved one, `requested_density` what was asked for.
        A metric without a prefix, such as perplexity, is that of the test set.
        """
        if key in COLUMNS:
            return getattr(self, key)
        if key == REQUESTED:
            return self.requested_density
        if key == "compression" and self.sparsity is not None:
            return 1 / (1 - self.sparsity) if self.sparsity < 1 else math.inf
        if key.startswith(HPARAM):
            return self.hyperparameters.get(key.removeprefix(HPARAM))
        if key.startswith(RESULT):
            return self.results.get(key.removeprefix(RESULT))
        if key in self.results:
            return self.results[key]
        if f"test_{key}" in self.results and (metric_of(key) or key == self.headline.spelling):
            return self.results[f"test_{key}"]
        return self.hyperparameters[key] if key in self.hyperparameters else self.steps.get(key)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data, ready for JSON. Omits unknown values of a damaged run."""
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
        if self.upstream is not None:
            entry["upstream"] = self.upstream
        if problem := self.problem:
            entry["problem"] = problem
        if self.origin is not None:
            entry["origin"] = self.origin
        if self.is_readable:
            headline = ("model", "data", "strategy", "sparsity", "accuracy")
            entry |= {**{name: getattr(self, name) for name in headline}, "seconds_old": self.age}
        return entry

    @property
    def is_readable(self) -> bool:
        """Whether its description and its results could be read."""
        return self.status not in ("damaged", "closed", "missing")


@dataclass(slots=True)  # not frozen, which takes several times as long to make
class Facts:
    """The cacheable part of a row, from the run's description and, once it is complete, its manifest."""

    kinds: tuple[str, ...]
    """The kinds of the run and of its training."""
    sources: tuple[Location, ...]
    groups: tuple[Mapping[str, Any], ...]
    """Groups of hyperparameters; later groups override earlier ones."""
    iterations_per_epoch: int
    results: Mapping[str, float | None] = field(default_factory=dict)
    fingerprint: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Sizes of the files in the manifest, in bytes."""
    steps: Mapping[str, str] = field(default_factory=dict)
    """Steps of the states that it depends on, as in a row."""
    headline: Mapping[str, Any] | None = None
    """The headline metric in the description of its training; None for accuracy."""

    @classmethod
    def of(cls, run: Run, record: Mapping[str, Any], manifest: Manifest | None) -> Facts:
        """Read a description and a manifest. Raises: AttributeError, KeyError, TypeError or ValueError."""
        facts = cls(
            kinds=(str(record["kind"]), str(record.get("main", record)["kind"])),
            sources=tuple(location for _, location in sorted(source_locations(run, record).items())),
            groups=hyperparameter_groups(record),
            iterations_per_epoch=int(record["iterations_per_epoch"]),
            steps=source_steps(record),
            headline=record.get("main", record).get("headline"),
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
        """Return the row of a run. age: seconds since its completion or last write."""
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
            headline_entry=self.headline,
            groups=self.groups,
        )


def row_of(run: Run) -> Row:
    """Return the row of a run. The row of an unreadable run has the reason."""
    return row_and_facts(run, time.time())[0]


def row_and_facts(run: Run, now: float) -> tuple[Row, Facts | None]:
    """Return the row of a run, and the facts in its files; None for facts that cannot be read.

    now: the present time, for the age, in seconds since 1970.
    """
    try:
        record, manifest = run.record(), run.manifest()
        status = "complete" if manifest else "running" if is_held(run.lock_path) else "incomplete"
        facts = Facts.of(run, record, manifest)
        return facts.row(run, status, now - run.changed()), facts
    except ClosedError as error:
        return Row(run=run, status="closed", damage=str(error)), None
    except OpenPruneError as error:
        damage = str(error)
    except OSError as error:
        damage = f"Cannot read {run.folder}: {reason(error, run.folder)}."
        if is_denied(error):
            return Row(run=run, status="closed", damage=damage), None
    except (AttributeError, KeyError, TypeError, ValueError):
        damage = f"{run.folder} holds a description or a manifest of another form.\n{run.how_to_mend()}"
    return Row(run=run, status="damaged" if _is_there(run) else "missing", damage=damage), None


def _is_there(run: Run) -> bool:
    try:
        return run.is_published or run.folder.exists()
    except OSError:  # in a folder without read permission
        return True
