"""Imported runs: states that were computed elsewhere, as parents of branches."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from foundations import tensor_files
from foundations.desc import RunKind
from foundations.hparams import ALWAYS_WRITTEN, Hparams, hparam
from foundations.manifest import Manifest
from foundations.run import Run
from foundations.step import Step
from training.context import Context
from training.desc import TrainDesc

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.mask import Mask


@dataclass(frozen=True, kw_only=True)
class OriginHparams(Hparams):
    """What was imported."""

    content: str = hparam("", elided=ALWAYS_WRITTEN)
    """SHA-256 over the imported states and mask."""
    is_pruned: bool = hparam(False)
    """Whether a mask came with them."""


@dataclass(frozen=True, kw_only=True)
class ImportDesc(TrainDesc):
    """States that were computed elsewhere, and how their branches train."""

    kind: ClassVar[str] = "import"
    job: ClassVar[str] = "branches.import_job:ImportJob"

    origin: OriginHparams

    @property
    def mask_step(self) -> Step | None:
        """The first step, where a mask came with the states."""
        return self.start if self.origin.is_pruned else None


IMPORT = RunKind(spelling="import", desc=ImportDesc)


def import_run(
    main: TrainDesc, states: Mapping[Step, Mapping[str, Tensor]], mask: Mask | None, source: str, context: Context
) -> Run:
    """Make states and a mask a run. main: how branches of it train. source: where they come from, for the manifest.

    Of the techniques of `main`, the run has those that change the structure of the network: its states are of that.

    Raises: DamagedError where a state is not one of the model of `main`.
    """
    from pruning.report import sparsity_report
    from training.job import initialized_model
    from training.provenance import versions
    from training.session import load_state

    techniques = main.techniques and main.techniques.structural
    model = initialized_model(main, context.replicate, techniques=techniques)
    for state in states.values():
        load_state(model, state)
    if mask is not None:
        mask = mask.for_model(model)
    origin = OriginHparams(content=_content(states, mask), is_pruned=mask is not None)
    desc = ImportDesc(
        dataset=main.dataset, model=main.model, training=main.training, techniques=techniques, origin=origin
    )
    run = Run(context.root, desc.location(context.replicate))
    with run.locked(context.reporter.say):
        run.create(desc)
        if run.manifest() is None:
            for step, state in states.items():
                run.save_state(step, state)
            if mask is not None:
                run.save_sparsity(sparsity_report(mask))
                run.save_mask(*mask.to_tensors())
            run.finish(
                Manifest(
                    files={},
                    results={} if mask is None else {"density": mask.density, "sparsity": mask.sparsity},
                    parents={source: origin.content},
                    versions=versions(),
                    finished=time.strftime("%Y-%m-%d %H:%M:%S"),
                )
            )
    return run


def _content(states: Mapping[Step, Mapping[str, Tensor]], mask: Mask | None) -> str:
    parts = [[str(step), hashlib.sha256(tensor_files.to_bytes(state)).hexdigest()] for step, state in states.items()]
    if mask is not None:
        parts.append(["mask", hashlib.sha256(mask.to_bytes()).hexdigest()])
    return hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()
