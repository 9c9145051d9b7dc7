"""Techniques and masks in `transformers.Trainer`: `Trainer(..., callbacks=[transformers_callback("rigl", ...)])`.

Each checkpoint of the Trainer also holds the mask, as `Mask.load` reads it, and the state of the techniques.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from foundations.errors import DamagedError, UsageError
from foundations.storage.run import MASK
from pruning.masks.mask import Mask
from pruning.weights.named_weights import unwrapped
from pruning.weights.shards import local, part_of
from training.other_loops.planned_training import PlannedTraining
from training.sparse import SparseTraining

if TYPE_CHECKING:
    from torch import nn

STATE = "sparse_training.pt"
"""The file in a checkpoint that holds the state of the techniques; it is loaded with weights_only=True."""


def transformers_callback(
    technique: str | None = None, *, resume_from: str | Path | None = None, **arguments: Any
) -> TransformersHooks:
    """Return a callback of `transformers.Trainer` that applies techniques, or keeps a mask: a TrainerCallback.

        callback = transformers_callback("rigl", density=0.1, mask_update_frequency=100)
        Trainer(model, args, train_dataset=data, callbacks=[callback]).train()

    technique: names of techniques, as `sparse` takes them; None keeps the mask of `mask=` alone. arguments: those of
    `sparse`; `end` is the Trainer's last step, unless given. `callback.mask` is the present mask, and
    `callback.training` the SparseTraining.
    resume_from: the checkpoint of `train(resume_from_checkpoint=...)`, if it is not in the Trainer's output folder.

    Raises: UsageError, here for names that are not valid and where transformers is missing or its Trainer fails, and
    as training begins, as `sparse`.
    """
    _check_datasets()
    return _callback_class()(technique, resume_from, arguments)


class TransformersHooks:
    """The events of the Trainer at which the callback acts."""

    def __init__(self, technique: str | None, resume_from: str | Path | None, arguments: Mapping[str, Any]) -> None:
        self._planned = PlannedTraining(technique, arguments)
        self._resume_from = resume_from
        self.training: SparseTraining | None = None
        """The training; None before it begins."""

    @property
    def mask(self) -> Mask | None:
        """The present mask; None before training, and if nothing is pruned."""
        return None if self.training is None else self.training.mask

    def __reduce__(self) -> tuple[Any, ...]:
        planned = self._planned
        arguments = functools.partial(transformers_callback, planned.technique, **planned.arguments)
        return functools.partial(arguments, resume_from=self._resume_from), ()

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: nn.Module, optimizer: torch.optim.Optimizer, **_: Any
    ) -> None:
        """Begin, or continue from the checkpoint whose model and optimizer the Trainer has loaded."""
        saved = _saved_state(self._folders(args, state), model, state.global_step) if state.global_step else None
        if self.training is not None:
            self.training.detach()
        self.training = self._planned.start(optimizer, model, state.max_steps, saved)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the mask and the state of the techniques into a checkpoint."""
        if self.training is None or not args.should_save:
            return
        folder = _checkpoint(args, state)
        if not folder.is_dir():
            warnings.warn(
                f"{folder} is not there: the mask and the techniques are not saved.", UserWarning, stacklevel=2
            )
            return
        if self.training.mask is not None:
            self.training.mask.save(folder / MASK)
        state = {**self.training.state_dict(), "mask": None, "has_mask": self.training.mask is not None}
        torch.save(state, folder / STATE)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the mask of the best checkpoint, if the Trainer has loaded that."""
        best = args.load_best_model_at_end and state.best_model_checkpoint
        if best and self.training is not None and (Path(best) / MASK).is_file():
            self.training.set_mask(Mask.load(Path(best) / MASK))

    def _folders(self, args: Any, state: Any) -> list[Path]:
        """Return the folders that may be the checkpoint from which the Trainer resumes."""
        if self._resume_from is not None:
            return [Path(self._resume_from)]
        given = args.resume_from_checkpoint
        named = [Path(given)] if isinstance(given, str) and Path(given).is_dir() else []
        return [*named, _checkpoint(args, state)]


@functools.cache
def _callback_class() -> type[TransformersHooks]:
    """Return the hooks as a TrainerCallback. Raises: UsageError where transformers is not installed."""
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise UsageError(f"transformers cannot be imported ({error}); pip install transformers accelerate.") from error
    return type("SparseCallback", (TransformersHooks, TrainerCallback), {})


def _check_datasets() -> None:
    """Check that a package `datasets` is not the folder of the checkout. Raises: UsageError."""
    try:
        found = importlib.util.find_spec("datasets")
    except ValueError:  # a module without a specification, which is not that folder
        return
    folder = Path(found.origin).parent if found is not None and found.origin is not None else None
    if folder is not None and (folder.parent / "open_prune.py").is_file():
        raise UsageError(
            f"transformers.Trainer fails here, since {folder} hides Hugging Face's package `datasets`; "
            "install open_prune by `pip install .`, and start Python outside its checkout."
        )


def _checkpoint(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _saved_state(folders: list[Path], model: nn.Module, step: int) -> dict[str, Any]:
    """Return the state in the first of some folders that has one.

    Raises: UsageError if none has, or if its step or its mask is not that of the training; DamagedError for a file that
    is damaged, EnvironmentFailure for a mask that is missing.
    """
    folder = next((each for each in folders if (each / STATE).is_file()), None)
    if folder is None:
        reason = f"training resumes at step {step}, and {folders[0]} has no {STATE}; pass the checkpoint's folder."
        raise UsageError(reason, "resume_from")
    state = _read(folder / STATE)
    if state["has_mask"]:
        state["mask"] = Mask.load(folder / MASK)
    kept, weights = (state["mask"] or Mask({})).on_parameters(unwrapped(model))
    is_other = any(bool((local(weight) != 0)[~part_of(kept[name], weight)].any()) for name, weight in weights.items())
    if state["step"] != step or is_other:
        reason = f"{folder} is not the checkpoint that the Trainer resumes from; pass that checkpoint's folder."
        raise UsageError(reason, "resume_from")
    return state


def _read(path: Path) -> dict[str, Any]:
    """Read the state of techniques. Raises: DamagedError."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises errors of many kinds about the content of a file
        raise DamagedError(f"{path}: it is damaged, or not the state of a training.") from error
    if not isinstance(state, dict) or not {"step", "has_mask"} <= state.keys():
        raise DamagedError(f"{path}: it is not the state of a training.")
    return state
