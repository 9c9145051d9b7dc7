"""Tickets: a run's weights and mask as one portable file, which can be imported as a parent of branches.

A ticket is a safetensors file: `weights.<name>` (the state), `mask.<name>` (bits, if the run has a mask), and the
lineage as facts: the main run's training, the records of the run and of its parents, its step, its results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from branches.imported.imported_run import Computed, check_weights, import_run
from foundations.description.step import Step
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from foundations.files import write_atomically
from foundations.plugins.plugins import check_loaded
from foundations.registry import plugins_of
from foundations.storage import tensor_files
from foundations.storage.run import Run
from foundations.storage.store import source_runs
from training.context import Context
from training.desc import TrainDesc
from training.hparams import TechniquesHparams

if TYPE_CHECKING:
    from torch import Tensor

_WEIGHTS, _MASK = "weights.", "mask."
_HOW_TO_MEND = "Export it again from the run that it came from."
_NOT_OURS = f"{_HOW_TO_MEND} If another program wrote it, import it with --weights."


def export_ticket(run: Run, step: Step | None, path: Path, *, dense: bool = False) -> None:
    """Write the state of a run at a step (by default its last) and its mask as one file.

    dense: write the state alone under its own names, with zeros for pruned weights: a plain state dict.
    Raises: EnvironmentFailure if the run does not hold the state; UsageError if its weights are not finite, or if
    pruned ones are not 0, as before the last step of a training whose mask changes.
    """
    step = step or last_kept_state(run)
    state = run.load_state(step)
    if dense:
        write_atomically(path, tensor_files.to_bytes(state))
        return
    tensors = {_WEIGHTS + name: tensor for name, tensor in state.items()}
    manifest = run.manifest()
    results = dict(manifest.results) if manifest else {}
    facts: dict[str, Any] = {"lineage": _lineage(run), "step": str(step), "results": results}
    if run.has_mask():
        check_within(run, step, state)
        bits, facts["mask"] = run.load_mask()
        tensors |= {_MASK + name: tensor for name, tensor in bits.items()}
    write_atomically(path, tensor_files.to_bytes(tensors, facts))


def check_within(run: Run, step: Step, state: Mapping[str, Tensor]) -> None:
    """Check that a state is not from before a technique reached the run's final mask. Raises: UsageError."""
    from pruning.masks.mask import Mask

    try:
        check_weights(Computed(states={step: state}, mask=Mask.of_run(run), source=str(run)))
    except DamagedError as error:
        raise UsageError(f"{error} Choose another step, or write the state alone with --dense.", "step") from error


def import_ticket(path: Path, context: Context) -> Run:
    """Create a run from a ticket; it holds the ticket's state at step 0.

    Raises: EnvironmentFailure, DamagedError; UsageError about `plugin` if a plug-in that it needs is not loaded.
    """
    from pruning.masks.mask import Mask

    tensors, facts = tensor_files.read(path, _NOT_OURS)
    weights, bits = (
        {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}
        for part in (_WEIGHTS, _MASK)
    )
    try:
        check_loaded(plugins_of(facts["lineage"]), str(path))
        main = _main_of(facts["lineage"]["main"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, UsageError) as error:
        if isinstance(error, UsageError) and "plugin" in error.hparams:
            raise
        raise DamagedError(f"{path} is not a ticket: its lineage cannot be read ({error}). {_HOW_TO_MEND}") from error
    try:
        mask = Mask.from_tensors(bits, facts["mask"]) if "mask" in facts else None
    except DamagedError as error:
        raise DamagedError(f"{path}: {error} {_HOW_TO_MEND}") from error
    computed = Computed(states={main.start: weights}, mask=mask, source=str(path))
    check_weights(computed)
    return import_run(main, computed, context)


def is_ticket(path: Path) -> bool:
    """Return whether a file is a whole ticket. Raises: OSError."""
    try:
        return "lineage" in tensor_files.read(path, "")[1]
    except EnvironmentFailure:
        return False


def _main_of(groups: Mapping[str, Any]) -> TrainDesc:
    """Return the training of a ticket's branches, with the techniques of its run that changed the network."""
    techniques = TechniquesHparams.of(groups.get("techniques") or {}).structural
    kept = {"hyperparameters": {name: values for name, values in groups.items() if name != "techniques"}}
    return replace(TrainDesc.from_record(kept, None, {}), techniques=techniques)


def last_kept_state(run: Run) -> Step:
    """Return the step of the last state that a run keeps, even if `gc` has removed it since.

    Raises: EnvironmentFailure if it has kept none.
    """
    per_epoch = run.record()["iterations_per_epoch"]
    kept = [*run.kept_states(per_epoch), *run.evicted_states(per_epoch)]
    if not kept:
        raise EnvironmentFailure(run.why_no_state())
    return max(kept)


def _lineage(run: Run) -> dict[str, Any]:
    """Return the main run's training, and the records of the run and of each of its parents."""
    record = run.record()
    main = record.get("main", record)
    own = {"techniques": record["hyperparameters"].get("techniques")}  # a branch's own determine its network
    groups = {**main["hyperparameters"], **own}
    trained = {field.name: groups[field.name] for field in fields(TrainDesc) if groups.get(field.name) is not None}
    seen: dict[str, Any] = {}
    waiting = [run]
    while waiting:
        next_run = waiting.pop()
        if str(next_run) not in seen and next_run.exists():
            seen[str(next_run)] = next_run.record()
            waiting += source_runs(next_run)
    return {"main": trained, "runs": seen, **({"plugins": main["plugins"]} if "plugins" in main else {})}
