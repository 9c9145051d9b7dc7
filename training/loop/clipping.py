"""Gradient clipping by norm (Pascanu et al. 2013)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from pruning.masks.attached_mask import AttachedMask


@torch.no_grad()
def clip_gradients(
    parameters: Iterable[torch.Tensor], max_norm: float | None, attached: AttachedMask | None = None
) -> torch.Tensor:
    """Scale the gradients of parameters, in place, by min(1, max_norm / (norm + 1e-6)); return the norm, float ().

    The norm is the L2 norm of all gradients, as in `torch.nn.utils.clip_grad_norm_`. Pruned weights have a gradient but
    do not train, so those of `attached` are not part of it: the norm is that of the sparse network. Without a max_norm,
    gradients stay as they are.
    """
    gradients = {parameter: parameter.grad for parameter in parameters if parameter.grad is not None}
    kept = gradients if attached is None else gradients | attached.kept_gradients()
    norm = torch.nn.utils.get_total_norm(list(kept.values()))
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(gradients, max_norm, norm)
    return norm
