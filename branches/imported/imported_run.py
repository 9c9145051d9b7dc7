"""Imported runs: states that were computed elsewhere, as parents of branches, with their metrics."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from branches.desc import BranchDesc
from foundations.description.desc import Desc, RunKind
from foundations.description.hparams import ALWAYS_WRITTEN, Hparams, hparam
from foundations.description.step import Step
from foundations.errors import DamagedError
from foundations.metrics import Metrics
from foundations.storage import tensor_files
from foundations.storage.adopt import adopt
from foundations.storage.manifest import Manifest
from foundations.storage.run import Run
from training.context import Context
from training.desc import TrainDesc

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.masks.mask import Mask


@dataclass(frozen=True, kw_only=True)
class OriginHparams(Hparams):
    """Identity of imported states."""

    content: str = hparam("", elided=ALWAYS_WRITTEN)
    """SHA-256 over the imported states and mask."""
    is_pruned: bool = hparam(False)
    """Whether they have a mask."""
    level: int | None = hparam(None)
    """Their level of the lottery, if known."""
    name: str | None = hparam(None)
    """The name of the branch in OpenLTH or its fork, if it is one, such as lottery_branch_randomly_prune."""


@dataclass(frozen=True, kw_only=True)
class ImportDesc(TrainDesc):
    """States that were computed elsewhere, and the training of their branches."""

    kind: ClassVar[str] = "import"
    job: ClassVar[str] = "branches.imported.import_job:ImportJob"
    is_computed: ClassVar[bool] = False

    origin: OriginHparams

    @property
    def mask_step(self) -> Step | None:
        """The first step if the states have a mask, else None."""
        return self.start if self.origin.is_pruned else None


@dataclass(frozen=True, kw_only=True)
class ImportedBranchDesc(BranchDesc):
    """A branch of an imported run that was computed elsewhere too, such as a level of a lottery."""

    kind: ClassVar[str] = "imported"
    job: ClassVar[str] = "branches.imported.import_job:ImportJob"
    is_computed: ClassVar[bool] = False

    origin: OriginHparams

    @classmethod
    def of(cls, origin: OriginHparams, **parts: Any) -> Self:
        """Return the description of results that have an origin."""
        return cls(origin=origin, **parts)


IMPORT = RunKind(spelling="import", desc=ImportDesc)
IMPORTED = RunKind(spelling="imported", desc=ImportedBranchDesc)


@dataclass(frozen=True, kw_only=True)
class Computed:
    """Results that were computed elsewhere: states, mask and metrics."""

    states: Mapping[Step, Mapping[str, Tensor]]
    mask: Mask | None = None
    metrics: Metrics = field(default_factory=Metrics)
    source: str
    """Their origin, for the manifest."""
    level: int | None = None
    """Their level of the lottery, if known."""
    branch: str | None = None
    """The name of the branch there, if it is one."""

    def origin(self) -> OriginHparams:
        """Return the hyperparameters that identify these results."""
        parts = [[str(step), _sha256(tensor_files.to_bytes(state))] for step, state in self.states.items()]
        parts += [] if self.mask is None else [["mask", _sha256(self.mask.to_bytes())]]
        content = _sha256(json.dumps(sorted(parts)).encode())
        return OriginHparams(content=content, is_pruned=self.mask is not None, level=self.level, name=self.branch)


def import_run(
    main: TrainDesc,
    computed: Computed,
    context: Context,
    describe: Callable[[OriginHparams], Desc] | None = None,
) -> Run:
    """Create a run from results that were computed elsewhere. main: the training of its branches.

    The run keeps the techniques of `main` that change the network's structure, since its states have that structure.

    describe: from the origin to the description; by default that of an independent run, not of a branch.
    Raises: DamagedError if a state does not belong to the model of `main`.
    """
    from training.job import initialized_model
    from training.structure import load_state

    techniques = main.techniques and main.techniques.structural
    model = initialized_model(main, context.replicate, techniques=techniques)
    for state in computed.states.values():
        load_state(model, state)
    if computed.mask is not None:
        computed = replace(computed, mask=computed.mask.for_model(model))
    origin = computed.origin()
    own = {**main.fields(), "techniques": techniques, "origin": origin}
    desc = describe(origin) if describe else ImportDesc(**own)
    run = Run(context.root, desc.location(context.replicate))
    with run.locked(context.reporter.say):
        run.create(desc)
        has_news = computed.metrics.values and not run.metrics().values
        if has_news and run.upstream is not None:
            adopt(run, context.reporter.say)
        if run.manifest() is None or has_news:
            _write(run, computed, origin)
    return run


def check_weights(computed: Computed) -> None:
    """Check that weights are finite numbers and, if there is a mask, 0 where it prunes.

    Raises: DamagedError that names the file and the tensor.
    """
    for step, state in computed.states.items():
        for name, tensor in state.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise DamagedError(f"{computed.source}: '{name}' at {step} has values that are not finite numbers.")
        for name, kept in (computed.mask or {}).items():
            weight = state.get(name)
            if weight is not None and weight.shape == kept.shape and (outside := int(weight[~kept].count_nonzero())):
                raise DamagedError(
                    f"{computed.source}: '{name}' at {step} has {outside:,} weights other than 0 where its mask prunes."
                )


def _write(run: Run, computed: Computed, origin: OriginHparams) -> None:
    from pruning.report import sparsity_report
    from training.jobs.provenance import versions

    metrics, mask = computed.metrics, computed.mask
    measured = {name: metrics.last(name) for name in metrics.names()}
    results = {name: None if value is None or not math.isfinite(value) else value for name, value in measured.items()}
    for step, state in computed.states.items():
        run.save_state(step, state)
    if metrics.values:
        run.save_metrics(metrics)
    if mask is not None:
        run.save_sparsity(sparsity_report(mask))
        run.save_mask(*mask.to_tensors())
        results |= {"density": mask.density, "sparsity": mask.sparsity}
    parents, finished = {computed.source: origin.content}, time.strftime("%Y-%m-%d %H:%M:%S")
    run.finish(Manifest(files={}, results=results, parents=parents, versions=versions(), finished=finished))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
