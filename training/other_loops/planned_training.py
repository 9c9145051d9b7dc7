"""`sparse` for a training whose optimizer does not exist yet: the loop of another library makes it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from training.sparse import SparseTraining, sparse
from training.sparse_arguments import arguments_of

_OWN = {name for name, each in inspect.signature(sparse).parameters.items() if each.kind is each.KEYWORD_ONLY}


_FOREVER = 10**9
"""The last step of a training that keeps a mask alone, for which it does not matter."""


class PlannedTraining:
    """The arguments of `sparse` without the network and the optimizer."""

    def __init__(self, technique: str | None, arguments: Mapping[str, Any]) -> None:
        """Check the names of the techniques and of their options.

        arguments: keyword arguments of `sparse`. Raises: UsageError, also without a technique and a mask.
        """
        mask = arguments.get("mask")
        if technique is None and not isinstance(mask, Mask):
            reason = "name one, such as rigl, or pass mask= to keep that mask alone."
            raise UsageError(reason, "technique") if mask is None else _no_mask(mask)
        for name in ("optimizer", "model", "resume_from"):
            if name in arguments:
                raise UsageError("the loop sets it; leave it out.", name)
        self.technique = technique
        self.arguments = {name: value for name, value in arguments.items() if value is not None}
        options = {name: value for name, value in self.arguments.items() if name not in _OWN}
        arguments_of(technique, options, has_mask=mask is not None)

    def start(
        self, optimizer: Optimizer, model: nn.Module, end: int | None, state: Mapping[str, Any] | None = None
    ) -> SparseTraining:
        """Begin the training, or continue it from a state of `SparseTraining.state_dict()`.

        optimizer: may be wrapped. end: the number of steps of the loop, unless the arguments have another; None where
        the loop does not know it. Raises: UsageError as `sparse`.
        """
        arguments = {"end": _FOREVER if self.technique is None else end, **self.arguments}
        if arguments["end"] is None:
            raise UsageError("the loop has no last step; pass end=, the number of steps of the optimizer.", "end")
        return sparse(inner(optimizer), model, self.technique, resume_from=state, **arguments)


def inner(optimizer: Any) -> Any:
    """Return the optimizer of torch inside the wrappers of other libraries."""
    # Wrappers derive from Optimizer, but do not initialize it.
    while not hasattr(optimizer, "_optimizer_step_post_hooks") and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def _no_mask(mask: Any) -> UsageError:
    return UsageError(f"it must be a Mask, and not a {type(mask).__name__}; Mask(tensors) makes one.", "mask")
