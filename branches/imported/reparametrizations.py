"""Weights that a state dict holds in parts: with separate masks, or as the parts of torch's weight_norm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from branches.imported.state_names import count
from foundations.errors import DamagedError

if TYPE_CHECKING:
    from torch import Tensor

_ORIGINAL, _MASK = "_orig", "_mask"
_NORM, _DIRECTION = "_g", "_v"
_PARAMETRIZED = re.compile(r"(?P<module>(?:.*\.)?)parametrizations\.(?P<tensor>\w+)\.original(?P<number>\d*)")


@dataclass(frozen=True)
class Whole:
    """Tensors as the network uses them."""

    tensors: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    """Masks, by the name of the tensor that they prune."""
    is_by_torch: bool
    """Whether torch.nn.utils.prune made the masks, and not layers that multiply their weights by a buffer."""
    notes: tuple[str, ...] = ()
    """Sentences about what reading changed."""


def whole(tensors: Mapping[str, Tensor], source: str) -> Whole:
    """Return the tensors of a state dict, with their parts combined.

    `X_orig` and `X_mask`, or X and `X_mask` as in Synaptic-Flow, become X, their product, and the mask of X. `X_g` and
    `X_v`, or `original0` and `original1` of torch.nn.utils.parametrizations, become X = g v / ||v||, in float32 where
    they have less precision. All other tensors stay. source: the file, for errors.

    Raises: DamagedError for a mask of another shape or with values other than 0 and 1, and for other parametrizations.
    """
    masks: dict[str, Tensor] = {}
    is_by_torch = True
    found = _plain_names(tensors, source)
    for name in [name for name in found if name.endswith(_MASK)]:
        own = name.removesuffix(_MASK)
        stored = own if own in found else own + _ORIGINAL
        if stored in found:
            masks[own] = _kept(own, found.pop(name), found[stored], source)
            found[own] = found.pop(stored).masked_fill(~masks[own], 0)
            is_by_torch = is_by_torch and stored != own
    _refuse_spectral_norm(found, source)
    computed = 0
    for name in [name for name in found if name.endswith(_NORM)]:
        own = name.removesuffix(_NORM)
        direction = found.get(own + _DIRECTION)
        if direction is not None and own not in found and _is_norm(found[name], direction):
            found[own] = _normalized(found.pop(name), found.pop(own + _DIRECTION))
            computed += 1
            pruned = [masks.pop(part) for part in (own + _DIRECTION, name) if part in masks]
            if pruned:
                masks[own] = pruned[0].expand(direction.shape) & pruned[-1]
    notes = (f"computed {count(computed, 'weight')} from the two parts of weight_norm",) if computed else ()
    return Whole(found, masks, is_by_torch, notes)


def _plain_names(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the tensors, with a parametrized weight_norm's parts under the names of the former weight_norm."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _PARAMETRIZED.fullmatch(name)
        if match is None:
            renamed[name] = tensor
            continue
        own, stem = match["module"] + match["tensor"], name.removesuffix(match["number"])
        parts = [tensors.get(stem + number) for number in ("0", "1")]
        if match["number"] not in ("0", "1") or stem + "2" in tensors or None in parts or not _is_norm(*parts):  # type: ignore[arg-type]
            raise DamagedError(
                f"{source}: '{own}' has a parametrization other than weight_norm, so its weights are not in the file.\n"
                f"Before saving, call torch.nn.utils.parametrize.remove_parametrizations(module, '{match['tensor']}')."
            )
        renamed[own + (_NORM if match["number"] == "0" else _DIRECTION)] = tensor
    return renamed


def _refuse_spectral_norm(tensors: Mapping[str, Tensor], source: str) -> None:
    for name in tensors:
        own = name.removesuffix(_ORIGINAL)
        if own != name and own not in tensors and own + "_u" in tensors:
            raise DamagedError(
                f"{source}: '{own}' has a spectral_norm, so its weights are not in the file.\n"
                "Before saving, call torch.nn.utils.remove_spectral_norm(module)."
            )


def _kept(name: str, mask: Tensor, weights: Tensor, source: str) -> Tensor:
    """Return a mask as bool. Raises: DamagedError."""
    if mask.shape != weights.shape:
        shapes = f"of shape {tuple(mask.shape)}, its weights of shape {tuple(weights.shape)}"
        raise DamagedError(f"{source}: the mask of '{name}' is {shapes}.")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise DamagedError(f"{source}: the mask of '{name}' has entries other than 0 and 1.")
    return mask.bool()


def _is_norm(norm: Tensor, direction: Tensor) -> bool:
    """Return whether one tensor can be weight_norm's g and the other its v: norms over some of v's dimensions."""
    sizes = zip(norm.shape, direction.shape, strict=False)
    return not norm.dim() or (norm.dim() == direction.dim() and all(one in (1, other) for one, other in sizes))


def _normalized(norm: Tensor, direction: Tensor) -> Tensor:
    """Return g v / ||v||, with the norm over the dimensions in which g has size 1, or over all if g is a scalar."""
    import torch

    dtype = torch.promote_types(direction.dtype, torch.float32)
    direction = direction.to(dtype)
    over = [dim for dim in range(direction.dim()) if not norm.dim() or norm.shape[dim] == 1]
    length = torch.linalg.vector_norm(direction, dim=over, keepdim=True) if over else direction.abs()
    return direction * (norm.to(dtype) / length)
