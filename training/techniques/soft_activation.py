"""Soft activations (Jaiswal et al. 2022, ToST): a smooth function in place of ReLU while a sparse network trains.

ToST keeps the function to the end. Here it may also fade to ReLU: with a strength s that falls from 1 to 0, each
activation is s f(x) + (1 - s) relu(x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from foundations.description.hparams import ALWAYS_WRITTEN, hparam
from foundations.errors import UsageError
from models.activations import ACTIVATIONS, PSWISH_BETA
from training.technique import Technique
from training.techniques.fading import FadingHooks, FadingHparams

if TYPE_CHECKING:
    from torch import nn

    from models.networks.fading import Fading

_BETAS = {"swish": 1.0, "pswish": PSWISH_BETA}


@dataclass(frozen=True, kw_only=True)
class SoftActivationHparams(FadingHparams):
    """The activation function, and when it fades to ReLU."""

    fade_prefix: ClassVar[str] = "soft_"

    soft_activation: str = hparam("swish", choices=ACTIVATIONS, elided=ALWAYS_WRITTEN)
    """The function in place of every activation of the network."""
    soft_beta: float | None = hparam(None, above=0)
    """The beta of swish and pswish, x sigmoid(beta x); by default 1 and 2."""
    soft_fade_begin: str | None = hparam(None, step=True)
    """The step at which the function begins to fade to ReLU; by default the first, if it fades at all."""
    soft_fade_end: str | None = hparam(None, step=True)
    """The step from which the activation is ReLU; by default the last, if the function fades at all."""

    def validate(self) -> None:
        """Check that the function has a beta, where one is given."""
        if self.soft_beta is not None and self.soft_activation not in _BETAS:
            raise UsageError(f"{self.soft_activation} has none; swish and pswish have.", "soft_beta")

    def simplified(self) -> Self:
        """Omit a beta that equals the default."""
        is_default = self.soft_beta == _BETAS.get(self.soft_activation)
        return self.replaced({"soft_beta": None}) if is_default else self


def transform(model: nn.Module, hparams: SoftActivationHparams) -> None:
    """Replace every activation of the network. Raises: UsageError for a network that has none that can be replaced."""
    from models.activations import activation
    from models.networks.act import Act
    from models.networks.soft_activation import FadingAct, replace_activations, scaled_swish

    function = activation(hparams.soft_activation) if hparams.soft_beta is None else scaled_swish(hparams.soft_beta)
    if not replace_activations(model, lambda: (FadingAct if hparams.fades else Act)(function)):
        raise UsageError("this network has no activations that soft_activation could replace.", "technique")


class SoftActivation(FadingHooks[SoftActivationHparams]):
    """Let the function fade to ReLU."""

    @staticmethod
    def part() -> type[Fading]:
        """Return the class of the parts that fade."""
        from models.networks.soft_activation import FadingAct

        return FadingAct


SOFT_ACTIVATION = Technique(
    spelling="soft_activation",
    known_as=("swish", "mish", "soft_relu"),
    summary="train with a smooth activation function",
    paper="Jaiswal et al. 2022, Training Your Sparse Neural Network Better with Any Mask",
    differences="ToST keeps the function to the end; here it can also fade to ReLU.",
    hparams=SoftActivationHparams,
    hooks=SoftActivation,
    transform=transform,
)
