"""From a network's outputs to the loss that methods differentiate: logits, losses, and checks of both."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from foundations.errors import UsageError
from pruning.scoring.arguments import function

Loss = Callable[[Any, Any], Tensor]
"""(outputs, targets) -> the mean over the batch."""
Output = Callable[[Any], Tensor]
"""(outputs of a network) -> the tensor that is scored, such as logits."""
_LOGITS = ("logits", "out")
"""The names that logits have in dictionaries and classes of outputs: Hugging Face's and torchvision's."""
_IGNORED = -100


class OutputsWarning(UserWarning):
    """A network returns several tensors, of which one is scored."""


class Objective:
    """The scalar that methods differentiate: a loss of a network's outputs and of targets.

    With cross-entropy, the logits are `output(outputs)`; without `output`, they are the outputs themselves if these are
    a tensor, their `logits` or `out`, or the first entry of a tuple or list. If the outputs have a `loss` of their own
    (a Hugging Face model that gets labels), that is used, unless another loss is given. Any other loss gets the outputs
    as they are, or `output(outputs)`. mass: (targets) -> the divisor of the mean over a batch, as `mass` returns it.
    """

    def __init__(
        self,
        loss: Loss = F.cross_entropy,
        output: Output | None = None,
        mass: Callable[[Any], float] | None = None,
    ) -> None:
        self.loss = function(loss, "loss", "outputs and targets")
        self.output = function(output, "output", "what the network returns")
        if loss is None:
            raise UsageError("it takes a function of outputs and targets.", "loss")
        self._is_cross_entropy = loss is F.cross_entropy or isinstance(loss, nn.CrossEntropyLoss)
        self._mass = mass
        self._has_warned = False

    @property
    def ignored_label(self) -> int | None:
        """The label that stands for no class, where the loss is a cross-entropy."""
        if not self._is_cross_entropy:
            return None
        return self.loss.ignore_index if isinstance(self.loss, nn.CrossEntropyLoss) else _IGNORED

    def value(self, outputs: Any, targets: Any, temperature: float = 1.0, *, checked: bool = True) -> Tensor:
        """Return the loss, of outputs divided by a temperature. checked: whether to check the arguments first.

        Raises: UsageError for targets or outputs that do not suit the loss, or if it is not one number.
        """
        own = _entry(outputs, ("loss",))
        if own is not None and self.loss is F.cross_entropy and self.output is None:
            if temperature != 1:
                raise UsageError(
                    "the method divides logits by a temperature, but this network computes its loss by itself; pass a "
                    "loss of outputs and targets.",
                    "loss",
                )
            return _scalar(own)
        found = self.scored(outputs) if self._is_cross_entropy or self.output is not None else outputs
        if self._is_cross_entropy:
            if isinstance(targets, Tensor) and not (targets.is_floating_point() or targets.is_complex()):
                targets = targets.long()  # labels of any integer or bool type
            if checked:
                self.check(found, targets)
        if temperature != 1:
            found = _divided(found, temperature)
        return _scalar(self._loss_of(found, targets) if checked else self.loss(found, targets))

    def _loss_of(self, outputs: Any, targets: Any) -> Any:
        """Return the loss. Raises: UsageError if a loss of torch refuses its arguments; other losses' own errors."""
        try:
            return self.loss(outputs, targets)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            name = getattr(self.loss, "__name__", type(self.loss).__name__)
            home = getattr(self.loss, "__module__", None) or ""
            if not home.startswith("torch.") or isinstance(error, torch.OutOfMemoryError):
                raise
            parts = (f"{part.dtype} {tuple(part.shape)}" for part in (outputs, targets) if isinstance(part, Tensor))
            reason = str(error).strip().split("\n")[0].rstrip(".")
            raise UsageError(
                f"{name} does not take these outputs and targets ({', '.join(parts)}): {reason}.".replace("torch.", ""),
                "loss",
            ) from error

    def scored(self, outputs: Any) -> Tensor:
        """Return the tensor of the outputs that is scored.

        Raises: UsageError if that tensor is ambiguous or complex.
        """
        found = self._scored(outputs)
        if found.is_complex():
            raise UsageError("the outputs are complex numbers; pass a function that makes them real.", "output")
        return found

    def _scored(self, outputs: Any) -> Tensor:
        if self.output is not None:
            found = self.output(outputs)
            if not isinstance(found, Tensor):
                raise UsageError(f"it returned a {type(found).__name__}, and not a tensor.", "output")
            return found
        if isinstance(outputs, Tensor):
            return outputs
        named = _entry(outputs, _LOGITS)
        if isinstance(named, Tensor):
            return named
        parts = _parts(outputs)
        tensors = [value for value in parts.values() if isinstance(value, Tensor) and value.is_floating_point()]
        # In a tuple, nothing but None and integers may stand before the logits: ((logits, state), loss) is not clear.
        is_first = tensors and next(filter(_may_be_logits, parts.values())) is tensors[0]
        if is_first if isinstance(outputs, tuple | list) else len(tensors) == 1:
            if len(tensors) > 1 and not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"the network returns {len(tensors)} tensors, of which the first is scored; "
                    "output=lambda outputs: ... chooses others.",
                    OutputsWarning,
                    stacklevel=2,
                )
            return tensors[0]
        names = ", ".join(str(name) for name in parts if not isinstance(name, int)) or "no names"
        raise UsageError(
            f"the network returns a {type(outputs).__name__} ({names}), in which the logits are not clear; pass "
            "output=lambda outputs: ..., which returns them, or a loss of all outputs.",
            "output",
        )

    def check(self, logits: Tensor, targets: Any) -> None:
        """Check that cross-entropy is defined for logits and targets. Raises: UsageError."""
        if not isinstance(targets, Tensor):
            raise UsageError("cross-entropy needs a tensor of targets; pass a loss for others.", "loss")
        shapes = f"outputs are {tuple(logits.shape)} and targets {tuple(targets.shape)}"
        if logits.dim() < 2 or logits.shape[1] == 1:
            raise UsageError(
                f"cross-entropy needs an output for each class, but {shapes}; "
                "pass another loss, such as one of binary_cross_entropy_with_logits or mse_loss.",
                "loss",
            )
        if targets.is_floating_point():
            is_distribution = targets.shape == logits.shape and bool((targets >= 0).all())
            if not is_distribution or not torch.allclose(targets.sum(1), torch.ones_like(targets.sum(1)), atol=1e-3):
                raise UsageError(
                    f"cross-entropy takes class labels (integers) or probabilities of classes, but targets are "
                    f"{targets.dtype} numbers ({shapes}); pass another loss, such as mse_loss.",
                    "loss",
                )
            return
        if targets.shape != (logits.shape[0], *logits.shape[2:]):
            hint = "labels are taken as (n,), such as y[:, 0]" if targets.dim() == 2 else "they must fit"
            if targets.shape == logits.shape:
                hint = "probabilities of classes are floats, such as y.float()"
            raise UsageError(f"{shapes}: {hint}, or pass a loss that takes them.", "examples")
        counted = targets[targets != self.ignored_label]
        if len(counted) and (int(counted.min()) < 0 or int(counted.max()) >= logits.shape[1]):
            raise UsageError(
                f"labels are {int(counted.min())} to {int(counted.max())}, but the network has {logits.shape[1]} "
                f"outputs (classes 0 to {logits.shape[1] - 1}); number the classes so, or pass another loss.",
                "examples",
            )

    def mass(self, targets: Any, count: int) -> float:
        """Return the divisor of the mean over a batch: its number of examples, up to a constant factor.

        Targets with the ignored label do not count, and classes count by the weights of nn.CrossEntropyLoss.
        """
        if self._mass is not None:
            return self._mass(targets)
        if not isinstance(targets, Tensor) or targets.is_floating_point() or self.ignored_label is None:
            return count
        weights = self.loss.weight if isinstance(self.loss, nn.CrossEntropyLoss) else None
        kept = targets[targets != self.ignored_label]
        if weights is not None:
            return float(weights.to(kept.device)[kept].sum())
        return count if len(kept) == targets.numel() or not targets.dim() else kept.numel() / targets[0].numel()


def _scalar(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise UsageError(
            f"it returned a {type(value).__name__}; it must return a tensor, the mean over the batch.", "loss"
        )
    if value.numel() != 1:
        raise UsageError(
            f"it returned a tensor of shape {tuple(value.shape)}; it must return one number, the mean over the batch.",
            "loss",
        )
    return value.reshape(())


def _entry(outputs: Any, names: Iterable[str]) -> Any:
    """Return the first entry or attribute of these names, None where the outputs have none."""
    if isinstance(outputs, Tensor):
        return None
    for name in names:
        found = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
        if isinstance(found, Tensor):
            return found
    return None


def _parts(outputs: Any) -> dict[Any, Any]:
    """Return the parts of outputs by name; by number in a tuple or list without names."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if dataclasses.is_dataclass(outputs) and not isinstance(outputs, type):
        return {field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs)}
    if not isinstance(outputs, tuple | list):
        return {}
    return dict(zip(getattr(outputs, "_fields", range(len(outputs))), outputs, strict=True))


def _may_be_logits(value: Any) -> bool:
    return value.is_floating_point() if isinstance(value, Tensor) else isinstance(value, tuple | list | Mapping)


def _divided(outputs: Any, by: float) -> Any:
    """Return outputs with every float tensor divided by a number, including the entries of output classes."""

    def divide(tensor: Tensor) -> Tensor:
        return tensor / by if tensor.is_floating_point() else tensor

    if dataclasses.is_dataclass(outputs) and not isinstance(outputs, type | Mapping):
        values = {name: _divided(value, by) for name, value in _parts(outputs).items()}
        return dataclasses.replace(outputs, **values)
    return tree_map_only(Tensor, divide, outputs)
