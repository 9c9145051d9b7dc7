"""Powerpropagation: train v, and compute with w = v |v|^(alpha - 1) (Schwarz et al. 2021).

The gradient of v is alpha |v|^(alpha - 1) dL/dw (equation 1 and what follows from it), so that large weights learn
faster and small ones stay near zero, which magnitude can then prune. At the start v = sign(w) |w|^(1 / alpha), so that
the network is the one that was initialized; at the end w takes the place of v. Weights that are exactly zero get no
gradient: they stay zero. Masks and scores are those of w.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from pruning.hparams import DEFAULT_LAYERS
from training.technique import Hooks, Technique, TechniqueHparams, Training
from training.techniques.own_layers import weights_of_layers

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PowerpropagationHparams(TechniqueHparams):
    """The power of powerpropagation."""

    powerprop_alpha: float = hparam(2.0, at_least=1)
    """alpha: 1 is plain training; the paper compares values from 1 to 5."""
    powerprop_layers: str = hparam(DEFAULT_LAYERS, unordered=True)
    """The layers whose weights are powers, as --prunable_layers names them. Biases never are."""

    @property
    def leaves_zeros(self) -> bool:
        """Whether the power is above 1, so that its derivative at 0 is 0."""
        return self.powerprop_alpha > 1


class Powerpropagation(Hooks[PowerpropagationHparams]):
    """Train roots of the weights."""

    def __init__(self, training: Training, hparams: PowerpropagationHparams) -> None:
        super().__init__(training, hparams)
        self.names = self.kept("names")

    def prepare(self) -> None:
        """Replace the weights by their roots."""
        weights = weights_of_layers(self.training.model, self.hparams.powerprop_layers, "powerprop_layers")
        for name, weight in weights.items():
            weight.copy_(weight.sgn() * weight.abs() ** (1 / self.hparams.powerprop_alpha))
            self.names[name] = weight.new_zeros(0)

    def effective(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the powers. As v |v|^(alpha - 1), weights of zero had the gradient 0 * infinity below alpha = 2."""
        return {name: weights[name].sgn() * weights[name].abs() ** self.hparams.powerprop_alpha for name in self.names}


POWERPROPAGATION = Technique(
    spelling="powerpropagation",
    known_as=("powerprop",),
    summary="train roots of the weights, so that large weights learn faster than small ones",
    paper="Schwarz et al. 2021, Powerpropagation: A sparsity inducing weight reparameterisation",
    differences="Tested against the equations of the paper. Pruning is another technique, or a branch: gmp, oneshot.",
    hparams=PowerpropagationHparams,
    hooks=Powerpropagation,
)
