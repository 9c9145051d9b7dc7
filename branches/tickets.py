"""Tickets: a run's weights and mask as one file that travels, and imported runs as parents of branches.

A ticket is a safetensors file: `weights.<name>` (the state), `mask.<name>` (bits, where the run has a mask), and as
facts the lineage: how the trunk trains, which runs the ticket came through, its step and its results. OpenLTH's own
files (`model_ep<E>_it<I>.pth`, `mask.pth`) are written and read too: pickles, of which only tensors are read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from branches.lineage import job_of, load_desc, source_runs, trunk_of
from foundations import tensor_files
from foundations.address import MAIN, Location
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from foundations.files import explain_os_errors, write_atomically
from foundations.hparams import ALWAYS_WRITTEN, Hparams, hparam
from foundations.run import Manifest, Run
from foundations.step import Step
from platforms.base import Platform
from training.context import Context
from training.desc import TrainDesc
from training.job import Beginning, Job

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.mask import Mask

_OPENLTH_STATE = re.compile(r"model_ep(\d+)_it(\d+)\.pth")
_HOW_TO_MEND = "Export it again from the run that it came from."


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

    origin: OriginHparams

    @property
    def has_mask(self) -> bool:
        """Tell whether a mask came with the states."""
        return self.origin.is_pruned

    def location(self, replicate: int) -> Location:
        """Return `import_<digest>/replicate_<n>/main`."""
        return Location(f"import_{self.digest}", replicate, MAIN)


@dataclass(frozen=True)
class ImportJob(Job):
    """An imported run: its states can be had, but not computed."""

    desc: ImportDesc

    @property
    def training(self) -> TrainDesc:  # type: ignore[override]
        """How branches of it train."""
        return self.desc

    @property
    def start(self) -> Step:  # type: ignore[override]
        """The step at which a ticket's state stands."""
        return self.desc.start

    def resolve(self, context: Context) -> None:
        """Refuse: this is only called where a state is missing."""
        run = self.run(context)
        kept = ", ".join(map(str, run.kept_states(self.desc.iterations_per_epoch))) or "none"
        raise EnvironmentFailure(f"{run} was imported, so states that it does not hold cannot be made. Held: {kept}.")

    def begin(self, run: Run, context: Context, platform: Platform) -> Beginning:
        """Refuse, as `resolve` does."""
        raise EnvironmentFailure(f"{run} was imported: it cannot be computed.")


def export_ticket(run: Run, step: Step | None, path: Path, *, dense: bool = False) -> None:
    """Write the state of a run at a step (by default its last) and its mask as one file.

    dense: write the state alone under its own names, with zeros where it is pruned: a plain state dict.
    Raises: EnvironmentFailure where the run does not hold the state.
    """
    step = step or _last_state(run)
    state = run.load_state(step)
    if dense:
        write_atomically(path, tensor_files.to_bytes(state))
        return
    tensors = {f"weights.{name}": tensor for name, tensor in state.items()}
    facts: dict[str, Any] = {"lineage": _lineage(run), "step": str(step)}
    manifest = run.manifest()
    facts["results"] = dict(manifest.results) if manifest else {}
    if run.has_mask():
        bits, facts["mask"] = run.load_mask()
        tensors |= {f"mask.{name}": tensor for name, tensor in bits.items()}
    write_atomically(path, tensor_files.to_bytes(tensors, facts))


def export_openlth(run: Run, step: Step | None, folder: Path) -> None:
    """Write a state as OpenLTH does: `model_ep<E>_it<I>.pth` and, of a pruned run, `mask.pth` (name -> int tensor)."""
    import torch

    from pruning.mask import Mask

    step = step or _last_state(run)
    with explain_os_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(run.load_state(step), folder / f"model_{step.file_name_part}.pth")
        if run.has_mask():
            mask = Mask.from_tensors(*run.load_mask())
            torch.save({name: tensor.int() for name, tensor in mask.items()}, folder / "mask.pth")


def import_ticket(path: Path, context: Context) -> Run:
    """Make a ticket a run, whose state stands at step 0. Raises: EnvironmentFailure, DamagedError."""
    tensors, facts = tensor_files.read(path, _HOW_TO_MEND)
    parts: dict[str, dict[str, Tensor]] = {"weights": {}, "mask": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts.get(part, {})[rest] = tensor
    try:
        trunk = TrainDesc.from_full(facts["lineage"]["trunk"])
    except (KeyError, TypeError, UsageError) as error:
        raise DamagedError(f"{path} is not a ticket: its lineage cannot be read ({error}). {_HOW_TO_MEND}") from error
    mask = _mask_of(parts["mask"], facts["mask"]) if "mask" in facts else None
    return _import(trunk, {trunk.start: parts["weights"]}, mask, str(path), context)


def import_openlth(folder: Path, trunk: TrainDesc, context: Context) -> Run:
    """Make a directory of OpenLTH's (with `model_ep*_it*.pth`, and `mask.pth` where it is pruned) a run.

    trunk: how branches of it train, which OpenLTH's files do not say. Raises: EnvironmentFailure, DamagedError.
    """
    from pruning.mask import Mask

    found = [_OPENLTH_STATE.fullmatch(path.name) for path in sorted(folder.glob("model_*.pth"))]
    matches = [match for match in found if match is not None]
    if not matches:
        raise EnvironmentFailure(
            f"There is no model_ep<E>_it<I>.pth in {folder}; name OpenLTH's .../replicate_1/main itself."
        )
    states = {
        trunk.start.at(int(match[1]) * trunk.iterations_per_epoch + int(match[2])): _load_pickle(folder / match[0])
        for match in matches
    }
    mask_path = folder / "mask.pth"
    mask = Mask(_load_pickle(mask_path)) if mask_path.exists() else None
    return _import(trunk, states, mask, str(folder), context)


def _import(
    trunk: TrainDesc, states: Mapping[Step, Mapping[str, Tensor]], mask: Mask | None, source: str, context: Context
) -> Run:
    from pruning.report import sparsity_report
    from training.provenance import versions
    from training.session import blank_model, load_state

    model = blank_model(trunk, context.replicate)
    for state in states.values():
        load_state(model, state)
    if mask is not None:
        mask = mask.for_model(model)
    origin = OriginHparams(content=_content(states, mask), is_pruned=mask is not None)
    parts = {field.name: getattr(trunk, field.name) for field in dataclasses.fields(TrainDesc)}
    desc = ImportDesc(**parts, origin=origin)
    run = ImportJob(desc).run(context)
    with run.locked(context.reporter.say):
        run.begin(desc)
        if run.manifest() is None:
            for step, state in states.items():
                run.save_state(step, state)
            if mask is not None:
                run.save_sparsity(sparsity_report(mask))
                run.save_mask(*mask.to_tensors())
            results = {} if mask is None else {"density": mask.density, "sparsity": mask.sparsity}
            facts = {"parents": {source: origin.content}, "versions": versions(), "finished": _now()}
            run.finish(Manifest(files={}, results=results, **facts))  # type: ignore[arg-type]
    return run


def _content(states: Mapping[Step, Mapping[str, Tensor]], mask: Mask | None) -> str:
    parts = [[str(step), hashlib.sha256(tensor_files.to_bytes(state)).hexdigest()] for step, state in states.items()]
    if mask is not None:
        parts.append(["mask", hashlib.sha256(mask.to_bytes()).hexdigest()])
    return hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()


def _last_state(run: Run) -> Step:
    kept = run.kept_states(job_of(load_desc(run)).training.iterations_per_epoch)
    if not kept:
        raise EnvironmentFailure(f"{run} holds no state yet.")
    return kept[-1]


def _lineage(run: Run) -> dict[str, Any]:
    """Return how the trunk trains, and the record of the run and of each run that it came through."""
    trunk = load_desc(trunk_of(run))
    seen: dict[str, Any] = {}
    waiting = [run]
    while waiting:
        next_run = waiting.pop()
        if str(next_run.location) not in seen:
            seen[str(next_run.location)] = next_run.record()
            waiting += source_runs(next_run)
    parts = {field.name for field in dataclasses.fields(TrainDesc)}
    return {"trunk": {name: part for name, part in trunk.full().items() if name in parts}, "runs": seen}


def _mask_of(bits: Mapping[str, Tensor], header: Mapping[str, str]) -> Mask:
    from pruning.mask import Mask

    return Mask.from_tensors(bits, header)


def _load_pickle(path: Path) -> dict[str, Tensor]:
    """Return a dictionary of tensors from a pickle, executing nothing in it. Raises: DamagedError for anything else."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DamagedError(f"{path} cannot be read as OpenLTH's tensors: {reason}") from error
    if not isinstance(content, dict) or not all(torch.is_tensor(value) for value in content.values()):
        raise DamagedError(f"{path} holds something other than named tensors.")
    return content


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
