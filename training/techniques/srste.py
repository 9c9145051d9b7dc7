"""SR-STE: train N:M sparse weights from scratch (Zhou et al. 2021), and STE.

Of every M consecutive inputs of a neuron, the N weights of largest magnitude are in the forward pass, in training and
evaluation: it uses w m, with m = 1 for these, computed at each pass. The dense w trains, with

    dw = dL/d(w m) + lambda (1 - m) w

The first term is the straight-through gradient, of all weights; the second draws those that are off towards 0
(equation 9 of the paper). lambda = 0 is STE. The weight decay of the optimizer is that of all weights. At the end w m
is written into the network, and m is the mask.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from foundations.errors import UsageError
from pruning.hparams import DEFAULT_LAYERS, PruningHparams
from pruning.registry import STRUCTURES
from pruning.structure.structure import SKIP, UNEVEN, CountedStructure, counted
from training.technique import Hooks, Technique, TechniqueHparams, Training

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.masks.mask import Mask
    from pruning.structure.groups import Groups
    from pruning.weights.grouped import Grouped


@dataclass(frozen=True, kw_only=True)
class SrSteHparams(TechniqueHparams):
    """The structure of the weights, and the decay of those that are off."""

    srste_structure: str = hparam("2:4", choices=STRUCTURES)
    """The structure: N:M keeps N of every M consecutive inputs, such as 2:4."""
    srste_lambda: float = hparam(2e-4, at_least=0)
    """The decay of weights that are off, in addition to the optimizer's; 0 is STE."""
    srste_uneven: str = hparam(SKIP, choices=UNEVEN)
    """First convolutions, convolutions in groups, depthwise ones, and layers whose inputs M does not divide: they stay
    dense (skip), have a shorter group at the end of the inputs (pad), or have groups that cross the places of a kernel,
    and neurons (flatten), as in the published code."""
    srste_layers: str = hparam(DEFAULT_LAYERS, unordered=True)
    """The layers with the structure, as --prunable_layers names them; all others stay dense."""
    srste_last_linear: bool = hparam(False)
    """Give the last linear layer the structure too; in the paper it is dense."""

    @property
    def least_outcome(self) -> float:
        """The share of the weights that a group keeps: layers without the structure are dense."""
        return self.structure.kept / self.structure.size

    def validate(self) -> None:
        """Refuse structures other than N:M."""
        _ = self.structure

    @property
    def structure(self) -> CountedStructure:
        """The structure of the weights."""
        return counted(STRUCTURES, self.srste_structure, "srste_structure")


class SrSte(Hooks[SrSteHparams]):
    """Train dense weights, and compute with the largest of each group."""

    def __init__(self, training: Training, hparams: SrSteHparams) -> None:
        super().__init__(training, hparams)
        self._in_forward: dict[str, Tensor] = {}
        """The masks of the last forward pass: that of the gradients, whose step has not been taken yet."""

    @functools.cached_property
    def kept_in_group(self) -> int:
        """N."""
        return self.hparams.structure.kept

    @functools.cached_property
    def ones(self) -> Mask:
        """The mask of all weights that may have the structure."""
        from pruning.masks.mask import Mask as MaskClass

        layers = PruningHparams(prune_fraction=0.0, prunable_layers=self.hparams.srste_layers)
        try:
            return MaskClass.to_prune(self.training.model, layers)
        except UsageError as error:
            raise UsageError(error.reason, "srste_layers") from error

    @functools.cached_property
    def _covered(self) -> Grouped:
        """The groups of the weights that have the structure, by name; and why others stay dense."""
        from pruning.weights.grouped import grouped
        from pruning.weights.layouts import last_linear

        model, hparams = self.training.model, self.hparams
        dense = None if hparams.srste_last_linear else last_linear(model)
        names = [name for name in self.ones if name != dense]
        return grouped(model, names, hparams.structure, hparams.srste_uneven)

    @functools.cached_property
    def groups(self) -> dict[str, Groups]:
        """The groups of the weights that have the structure, by the first name of each in the network."""
        model = self.training.model
        every = dict(model.named_parameters(remove_duplicate=False))
        first = {id(parameter): name for name, parameter in model.named_parameters()}
        covered = self._covered.groups
        if computed := [name for name in covered if name not in every]:
            reason = f"{computed[0]} is computed from other parameters; weights with a structure must be parameters."
            raise UsageError(reason, "technique")
        return {first[id(every[name])]: groups for name, groups in covered.items()}

    def prepare(self) -> None:
        """Name the layers that stay dense. Raises: UsageError if all do."""
        _ = self.groups
        self._covered.check("srste_structure", "srste_uneven")

    def effective(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return w m, whose gradient is taken for that of w."""
        found = {}
        self._in_forward.clear()
        own = dict(self.training.model.named_parameters()) if self.hparams.srste_lambda else {}
        for name, stays in self._largest(weights).items():
            weight = weights[name]
            found[name] = weight - weight.detach() * ~stays
            if own.get(name) is weight:
                self._in_forward[name] = stays
        return found

    def after_backward(self, step: object) -> bool:
        """Add the decay of the weights that are off."""
        import torch

        if self.hparams.srste_lambda:
            parameters = dict(self.training.model.named_parameters())
            known, self._in_forward = self._in_forward, {}
            missing = {name: parameters[name] for name in self.groups if name not in known}
            for name, stays in (known | self._largest(missing)).items():
                gradient = parameters[name].grad
                if gradient is not None:
                    decay = parameters[name].detach() * ~stays * self.hparams.srste_lambda
                    parameters[name].grad = torch.add(gradient, decay)
        return False

    def outcome(self) -> Mask:
        """Return the mask of the weights of the forward pass, and of the layers that stay dense."""
        every = dict(self.training.model.named_parameters(remove_duplicate=False))
        covered = self._covered.groups.items()
        kept = {name: groups.largest(every[name].abs(), self.kept_in_group) for name, groups in covered}
        return self.ones.with_tensors({**self.ones, **{name: mask.cpu() for name, mask in kept.items()}})

    def metrics(self) -> Mapping[str, float]:
        """Return the density of the forward pass."""
        return {"density": self.outcome().density}

    def _largest(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: groups.largest(weights[name].detach().abs(), self.kept_in_group)
            for name, groups in self.groups.items()
            if name in weights
        }


SRSTE = Technique(
    spelling="srste",
    known_as=("ste", "straight_through_estimator", "straight_through", "n_m_sparsity", "nm"),
    summary="compute with the largest N of every M weights, and train all (SR-STE, STE)",
    paper="Zhou et al. 2021, Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch",
    tested_against="NM-sparsity/NM-sparsity",
    differences=(
        "The published code gives first convolutions groups too (--srste_uneven=flatten), and drops the bias of linear "
        "layers. Of equal weights the first go; its sort leaves that open."
    ),
    hparams=SrSteHparams,
    hooks=SrSte,
    mask_is_outcome=True,
    stays_within_mask=True,
)
