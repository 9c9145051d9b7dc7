"""Interpolated normalization: train with scales and shifts on the way to those of an initialization (Oh et al. 2025).

Each batch draws one alpha ~ U(0, 1), for all layers: gamma' = alpha + (1 - alpha) gamma, beta' = (1 - alpha) beta.
Evaluation and kept states have alpha = 0. So the weights also work with gamma = 1 and beta = 0, those of a new
initialization, which matters where only their signs are transferred (the branch `sign_transfer`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from foundations.description.step import Step
from foundations.errors import UsageError
from training.technique import Hooks, Technique, TechniqueHparams, Training

if TYPE_CHECKING:
    from torch import Tensor, nn


class InterpolatedNormHparams(TechniqueHparams):
    """It has no options."""

    @property
    def uses_seed(self) -> bool:
        """Each batch draws a number."""
        return True


class InterpolatedNorm(Hooks[InterpolatedNormHparams]):
    """Interpolate the scales and shifts of all normalization layers in the forward passes of training."""

    def __init__(self, training: Training, hparams: InterpolatedNormHparams) -> None:
        super().__init__(training, hparams)
        self.alpha = 0.0
        self.scales, self.shifts = _scales_and_shifts(training.model)

    def before_step(self, step: Step) -> None:
        """Draw alpha for the batch of a step."""
        import torch

        generator = self.training.generator("interpolated_norm", step.iteration)
        self.alpha = float(torch.rand((), generator=generator, dtype=torch.float64))

    def effective(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the interpolated scales and shifts of a batch of training."""
        if not self.training.model.training:
            return {}
        scales = {name: self.alpha + (1 - self.alpha) * weights[name] for name in self.scales}
        return scales | {name: (1 - self.alpha) * weights[name] for name in self.shifts}


def _scales_and_shifts(model: nn.Module) -> tuple[list[str], list[str]]:
    """Return the names of the scales and of the shifts of normalization layers. Raises: UsageError if it has none."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scales: list[str] = []
    shifts: list[str] = []
    for module in _normalizations(model):
        for part, found in ((getattr(module, "weight", None), scales), (getattr(module, "bias", None), shifts)):
            if id(part) in names:
                found.append(names[id(part)])
    if not scales and not shifts:
        raise UsageError("this network has no normalization with scales and shifts to interpolate.", "technique")
    return scales, shifts


def _normalizations(model: nn.Module) -> Iterator[nn.Module]:
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    for module in model.modules():
        if isinstance(module, _NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
            yield module


INTERPOLATED_NORM = Technique(
    spelling="interpolated_norm",
    known_as=("aws", "find_a_winning_sign"),
    summary="train with scales and shifts of normalization between theirs and those of an initialization",
    paper="Oh et al. 2025, Find A Winning Sign: Sign Is All We Need to Win the Lottery",
    differences=(
        "Group and instance normalization and RMSNorm are interpolated too; the paper has batch and layer "
        "normalization. The published code of layer normalization returns nothing."
    ),
    hparams=InterpolatedNormHparams,
    hooks=InterpolatedNorm,
)
