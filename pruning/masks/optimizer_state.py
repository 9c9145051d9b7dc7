"""Elementwise state of optimizers: the tensors with an entry for each weight.

Only such a tensor can be set to zero where weights are pruned. An equal shape does not prove it: the left
preconditioner of a square weight in Shampoo has the weight's shape too, but its rows and columns stand for units.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping

import torch
from torch.optim import Optimizer

_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
ELEMENTWISE: dict[str, tuple[str, ...]] = {
    "ASGD": ("ax",),
    "Adadelta": ("acc_delta", "square_avg"),
    "Adafactor": ("variance",),
    "Adagrad": ("sum",),
    "Adam": _MOMENTS,
    "AdamW": _MOMENTS,
    "Adamax": ("exp_avg", "exp_inf"),
    "LBFGS": (),
    "Muon": ("momentum_buffer",),
    "NAdam": _MOMENTS,
    "RAdam": _MOMENTS,
    "RMSprop": ("grad_avg", "momentum_buffer", "square_avg"),
    "Rprop": ("prev", "step_size"),
    "SGD": ("momentum_buffer",),
    "SparseAdam": _MOMENTS,
}
"""The elementwise state of the optimizers of torch.optim, by the name of the class."""
OTHERS = frozenset(
    {"H_diag", "col_var", "d", "eta", "mu", "mu_product", "prev_flat_grad", "prev_loss", "row_var", "step", "t"}
)
"""The other tensors in the state of these optimizers: counters, one value per row, all weights in one vector."""


class OptimizerStateWarning(UserWarning):
    """An optimizer's state for pruned weights is not zeroed, or a name in `state` matches no tensor."""


def elementwise_state(optimizer: Optimizer, state: Collection[str] | str | None = None) -> tuple[str, ...]:
    """Return the keys of the optimizer's elementwise state: those of the classes it derives from, and `state`.

    Only classes of torch.optim are known: for an optimizer that derives from `Optimizer` alone, `state` is all.
    """
    named = (state,) if isinstance(state, str) else state or ()
    known = (keys for kind in _known_classes(optimizer) for keys in ELEMENTWISE[kind])
    return tuple(sorted({*known, *named}))


def warn_of_left_state(
    optimizer: Optimizer, weights: Iterable[torch.Tensor], state: Collection[str] | str | None
) -> bool:
    """Warn of state tensors of a weight's shape that are not named, or of names in `state` that no tensor has.

    Returns whether there was a warning (OptimizerStateWarning).
    """
    kind = type(optimizer).__name__
    if state is not None:
        entries = [entry for weight in weights if (entry := entry_of(optimizer, weight))]
        named = (state,) if isinstance(state, str) else state
        wrong = sorted({name for name in named if entries and not any(name in entry for entry in entries)})
        present = sorted({str(key) for entry in entries for key in entry})
        message = f"state: {kind} has no state named {', '.join(wrong)}; it has {', '.join(present)}."
    else:
        wrong = _left(optimizer, weights)
        message = (
            f"{kind} has state of a weight's shape that stays as it is where weights are pruned: {', '.join(wrong)}. "
            f"If it has an entry per weight, name it, as in attach(optimizer, state={tuple(wrong)}) or "
            f"sparse(..., state={tuple(wrong)}); if not, pass state=()."
        )
    if wrong:
        warnings.warn(message, OptimizerStateWarning, stacklevel=2)
    return bool(wrong)


def _known_classes(optimizer: Optimizer) -> list[str]:
    kinds = [kind for kind in type(optimizer).__mro__ if f"{kind.__module__}.".startswith("torch.optim.")]
    return [kind.__name__ for kind in kinds if kind.__name__ in ELEMENTWISE]


def _left(optimizer: Optimizer, weights: Iterable[torch.Tensor]) -> list[str]:
    """Return the keys of the state tensors of a weight's own shape that are not known."""
    ignored = {*elementwise_state(optimizer), *(OTHERS if _known_classes(optimizer) else {"step"})}
    held = ((weight, key, value) for weight in weights for key, value in entry_of(optimizer, weight).items())
    return sorted(
        {
            str(key)
            for weight, key, value in held
            if key not in ignored and isinstance(value, torch.Tensor) and value.shape == weight.shape
        }
    )


def entry_of(optimizer: Optimizer, weight: torch.Tensor) -> Mapping[object, object]:
    """Return the optimizer's state of a parameter; empty if there is none, or it is of another kind."""
    entry = optimizer.state.get(weight, {})
    return entry if isinstance(entry, Mapping) else {}
