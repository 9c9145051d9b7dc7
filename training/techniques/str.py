"""STR, soft threshold reparameterization: learn a threshold for each layer (Kusupati et al. 2020).

The forward pass uses W = sign(w) relu(|w| - sigmoid(s)), with a trained scalar s for each layer, whose weight decay
lets the threshold rise. So weights below the threshold get no gradient, and dL/ds = -sigmoid'(s) sum sign(w) dL/dW over
those above it. The density is an outcome, of the first s, weight decay, and the learning rate with its schedule.

With the published starts of s, such as -3200, sigmoid(s) and its derivative are 0 in float32 until s is above about
-100 (in float64, above about -740). Until then s moves by weight decay alone, s <- s (1 - lr wd), with momentum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from pruning.hparams import DEFAULT_LAYERS
from training.technique import Hooks, ParameterGroup, Technique, TechniqueHparams, Training
from training.techniques.own_layers import density_of, outcome_of, weight_decay_of, weights_of_layers

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.masks.mask import Mask


@dataclass(frozen=True, kw_only=True)
class StrHparams(TechniqueHparams):
    """The thresholds of STR."""

    str_s_init: float = hparam(-3200.0)
    """The first s of each layer, whose threshold is sigmoid(s); -3200 is that of ResNet-50 on ImageNet at 90%."""
    str_weight_decay: float | None = hparam(None, at_least=0)
    """The weight decay of s (the published st_decay); by default that of the layer's weights."""
    str_layers: str = hparam(DEFAULT_LAYERS, unordered=True)
    """The layers with a threshold, as --prunable_layers names them."""


class Str(Hooks[StrHparams]):
    """Let each layer compute with its weights beyond its threshold."""

    def __init__(self, training: Training, hparams: StrHparams) -> None:
        super().__init__(training, hparams)
        self.s = self.kept("s")
        self.ended = self.kept("ended")

    def prepare(self) -> None:
        """Give each layer its s."""
        import torch

        weights = weights_of_layers(self.training.model, self.hparams.str_layers, "str_layers")
        for name, weight in weights.items():
            real = weight.abs()  # thresholds of complex weights are real
            self.s[name] = torch.full((), self.hparams.str_s_init, dtype=real.dtype, device=real.device)

    def effective(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the weights beyond the thresholds."""
        return {name: weights[name].sgn() * (weights[name].abs() - s.sigmoid()).relu() for name, s in self.s.items()}

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return s, in groups of the same weight decay."""
        by_decay: dict[float | None, dict[str, Tensor]] = {}
        for name, s in self.s.items():
            by_decay.setdefault(self._decay(name), {})[name] = s
        return [
            ParameterGroup(parameters=own, options={} if decay is None else {"weight_decay": decay})
            for decay, own in by_decay.items()
        ]

    def _decay(self, name: str) -> float | None:
        """Return the weight decay of a layer's s; None if the optimizer has none."""
        if self.hparams.str_weight_decay is not None:
            return self.hparams.str_weight_decay
        return weight_decay_of(self.training, name)

    def outcome(self) -> Mask:
        """Return the mask of the weights beyond the thresholds, which the network then has without these."""
        self.ended |= self._kept_weights()
        return outcome_of(self.training.model, self.ended)

    def metrics(self) -> Mapping[str, float]:
        """Return the density of the weights beyond the thresholds, and the mean threshold."""
        thresholds = [float(self.s[name].detach().sigmoid()) for name in sorted(self.s)]
        return {"density": density_of(self._kept_weights()), "threshold": sum(thresholds) / len(thresholds)}

    def _kept_weights(self) -> dict[str, Tensor]:
        import torch

        if self.ended:
            return self.ended
        parameters = dict(self.training.model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            return {name: weight != 0 for name, weight in self.effective(parameters).items()}


STR = Technique(
    spelling="str",
    known_as=("soft_threshold", "soft_thresholding", "learned_thresholds"),
    summary="learn a threshold for each layer, below which weights are zero",
    paper="Kusupati et al. 2020, Soft Threshold Weight Reparameterization for Learnable Sparsity",
    tested_against="RAIVNLab/STR",
    differences=(
        "Every convolutional and linear layer has a threshold; the published networks have no linear layers but the "
        "last, as a 1x1 convolution. Weight decay is left out by kind (--no_decay), there by names with bn."
    ),
    hparams=StrHparams,
    hooks=Str,
    mask_is_outcome=True,
)
