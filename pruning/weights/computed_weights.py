"""Weights that a layer computes from other parameters: by torch.nn.utils.prune, weight_norm and parametrizations.

Masks name the computed weight (`fc.weight`), since the layer multiplies with it. Weights that `torch.nn.utils.prune`
and `weight_norm` (the parametrization and the older hook) compute can be pruned; for others, the error gives the line
of code that removes the parametrization.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

PARAMETRIZATIONS = "parametrizations"
"""The child in which torch keeps the parametrizations of a layer."""


@dataclass(frozen=True, eq=False)
class Computed:
    """A tensor of a layer that is computed from parameters."""

    layer: nn.Module
    tensor: str
    parameters: Mapping[str, nn.Parameter]
    """The parameters that it is computed from, by their names below the layer."""
    kind: str
    """The kind of computation, for errors."""
    removal: str | None = None
    """The call that makes it a parameter, for a layer `LAYER`, if it cannot be pruned; else None."""
    hook: Any = None
    """The hook that computes it before each forward pass, or None."""

    @property
    def shape(self) -> torch.Size:
        """The shape of the tensor, which the last of its parameters has."""
        return [parameter.shape for parameter in self.parameters.values()][-1]

    @torch.no_grad()
    def value(self) -> Tensor:
        """Return the tensor as the layer computes it at present, without gradients."""
        hook: Any = self.hook
        if isinstance(hook, BasePruningMethod):
            return cast("Tensor", hook.apply_mask(self.layer))  # type: ignore[no-untyped-call]
        return cast(
            "Tensor",
            hook.compute_weight(self.layer) if isinstance(hook, WeightNorm) else getattr(self.layer, self.tensor),
        )

    def kept(self) -> Tensor | None:
        """Return the mask of torch.nn.utils.prune (bool, True where kept), or None if there is none."""
        is_pruned = isinstance(self.hook, BasePruningMethod)
        return cast("Tensor", getattr(self.layer, f"{self.tensor}_mask") != 0) if is_pruned else None

    def masks(self, kept: Tensor) -> dict[str, Tensor]:
        """Return the mask of each of its parameters (bool) that follows from the mask of the tensor itself.

        For weight_norm, w = g v / ||v||: pruned entries of v are 0, and g is 0 where no entry of its part of v is kept.
        Then v keeps its values, since its norm divides.
        """
        if not self.is_weight_norm:
            return dict.fromkeys(self.parameters, kept)
        (g_name, g), (v_name, _) = self.parameters.items()
        parts = _any_by_part(kept, g)
        return {g_name: parts.view(g.shape), v_name: kept | ~parts}

    @property
    def is_weight_norm(self) -> bool:
        """Whether it is g v / ||v||; its parameters are g and v, in this order."""
        return self.kind == "weight_norm"

    @torch.no_grad()
    def apply_(self, kept: Tensor) -> None:
        """Set the pruned entries to zero, in place, and leave the others as they are."""
        before = self.value().clone() if self.is_weight_norm else None
        for name, mask in self.masks(kept).items():
            parameter = self.parameters[name]
            parameter.masked_fill_(~mask.to(parameter.device), 0)
        if before is not None:
            # Without the pruned entries the norm of v is smaller, so g must be, too. Where nothing was left to prune, g
            # stays as it is, to the bit: a mask can be applied again and again.
            (_, g), (_, v) = self.parameters.items()
            axes = [axis for axis, size in enumerate(g.shape) if size == 1 and v.shape[axis] != 1]
            wanted = before.masked_fill(~kept.to(before.device), 0)
            norm = wanted.norm() if g.dim() == 0 else torch.linalg.vector_norm(wanted, dim=axes, keepdim=True)
            changed = _any_by_part(wanted != before, g).view(g.shape)
            g.copy_(torch.where(changed, norm.view(g.shape) * g.sign(), g))
        if self.hook is not None:
            self.hook(self.layer, ())  # updates the layer's tensor before its next forward pass


def _any_by_part(entries: Tensor, g: Tensor) -> Tensor:
    """Return whether any entry (bool) is true, for each part of a weight that has a length of its own in g."""
    parts = entries.any() if g.dim() == 0 else entries
    for axis, size in enumerate(g.shape if g.dim() else ()):
        if size == 1 and parts.shape[axis] != 1:
            parts = parts.any(axis, keepdim=True)
    return parts


def computed_tensors(layer: nn.Module) -> Iterator[Computed]:
    """Yield the tensors of a layer that torch.nn.utils computes from parameters."""
    if is_parametrized(layer):
        for tensor, parametrization in getattr(layer, PARAMETRIZATIONS).items():
            prefix = f"{PARAMETRIZATIONS}.{tensor}"
            names = ["original"] if parametrization.is_tensor else ["original0", "original1"]
            found = {f"{prefix}.{name}": getattr(parametrization, name, None) for name in names}
            parameters = {name: value for name, value in found.items() if isinstance(value, nn.Parameter)}
            if [type(step) for step in parametrization] == [_WeightNorm] and len(parameters) == 2:
                yield Computed(layer, tensor, parameters, "weight_norm")
            else:
                kind = " and ".join(type(step).__name__.strip("_") for step in parametrization)
                removal = f"torch.nn.utils.parametrize.remove_parametrizations(LAYER, '{tensor}')"
                yield Computed(layer, tensor, parameters, f"the parametrization {kind}", removal)
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod):
            yield _of_hook(layer, hook, hook._tensor_name, ("orig",), "torch.nn.utils.prune", "prune.remove")
        elif isinstance(hook, WeightNorm):
            yield _of_hook(layer, hook, hook.name, ("g", "v"), "weight_norm", "remove_weight_norm")
        elif isinstance(hook, SpectralNorm):
            parameters = {f"{hook.name}_orig": getattr(layer, f"{hook.name}_orig")}
            removal = f"torch.nn.utils.remove_spectral_norm(LAYER, '{hook.name}')"
            yield Computed(layer, hook.name, parameters, "spectral_norm", removal, hook)


def _of_hook(layer: nn.Module, hook: Any, tensor: str, suffixes: tuple[str, ...], kind: str, remover: str) -> Computed:
    parameters = {f"{tensor}_{suffix}": layer._parameters.get(f"{tensor}_{suffix}") for suffix in suffixes}
    whole = {name: value for name, value in parameters.items() if value is not None}
    # Where one of the parameters is itself computed, as by pruning the v of weight_norm, both must be undone.
    removal = None if len(whole) == len(suffixes) else f"torch.nn.utils.{remover}(LAYER, '{tensor}')"
    return Computed(layer, tensor, whole, kind, removal, hook)


@torch.no_grad()
def make_plain_(model: nn.Module) -> None:
    """Make every computed tensor of a network a parameter with its present value, in place.

    Tensors that are equal and computed from the same parameters become one parameter: tied layers stay tied.
    """
    made: dict[tuple[nn.Parameter, ...], list[nn.Parameter]] = {}
    for layer in list(model.modules()):
        computed = list(computed_tensors(layer))
        if is_parametrized(layer):
            getattr(layer, PARAMETRIZATIONS).eval()  # in train mode, spectral_norm would estimate the norm again
        values = {item.tensor: item.value().detach().clone() for item in computed}
        if is_parametrized(layer):
            del layer._modules[PARAMETRIZATIONS]
            layer.__class__ = type(layer).__mro__[1]  # torch gives each parametrized layer its own class
        for item in computed:
            for key, hook in list(layer._forward_pre_hooks.items()):
                if hook is item.hook:
                    del layer._forward_pre_hooks[key]
            for name in item.parameters:
                layer._parameters.pop(name, None)
            layer._buffers.pop(f"{item.tensor}_mask", None)
            vars(layer).pop(item.tensor, None)
            value = values[item.tensor]
            known = made.setdefault(tuple(item.parameters.values()), [])
            same = next((parameter for parameter in known if torch.equal(parameter, value)), None)
            if same is None:
                same = nn.Parameter(value)
                known.append(same)
            setattr(layer, item.tensor, same)  # not _parameters: recurrent layers keep a list of their weights
