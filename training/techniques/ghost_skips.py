"""Ghost skips (Jaiswal et al. 2022, ToST): skips around the convolutions of basic blocks while a sparse network trains.

Each is a 1 x 1 convolution without bias, all of whose weights start at 1e-4, and batch normalization; its output is
added after the convolution that it skips (`models.networks.ghost_skips`). ToST keeps the skips to the end; here they
may also fade.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from foundations.description.hparams import hparam
from foundations.errors import UsageError
from training.technique import Technique
from training.techniques.fading import FadingHooks, FadingHparams

if TYPE_CHECKING:
    from torch import nn

    from models.networks.fading import Fading

_CONSTANT = 1e-4


@dataclass(frozen=True, kw_only=True)
class GhostSkipsHparams(FadingHparams):
    """The initial strength of the skips, and the steps of their fading."""

    fade_prefix: ClassVar[str] = "skip_"

    skip_init: str = hparam("constant", choices=("constant", "kaiming_normal"))
    """The initializer of the convolutions of the skips: constant (1e-4, as in ToST) or kaiming_normal."""
    skip_scale: float = hparam(1.0)
    """The initial scale of the batch normalization of the skips; with 0 they add nothing at first."""
    skip_fade_begin: str | None = hparam(None, step=True)
    """The step at which the skips begin to fade; by default the first, if they fade at all."""
    skip_fade_end: str | None = hparam(None, step=True)
    """The step from which nothing is left of the skips; by default the last, if they fade at all."""

    @property
    def uses_seed(self) -> bool:
        """Whether initial weights are drawn."""
        return self.skip_init != "constant"


def transform(model: nn.Module, hparams: GhostSkipsHparams) -> None:
    """Add skips to every basic block of the network. Raises: UsageError for a network that has none."""
    from torch.nn import init

    from models.networks.ghost_skips import add_ghost_skips

    constant = functools.partial(init.constant_, val=_CONSTANT)
    fill = constant if hparams.skip_init == "constant" else init.kaiming_normal_
    if not add_ghost_skips(model, fill, scale=hparams.skip_scale, fading=hparams.fades):
        raise UsageError(
            "ghost_skips needs residual blocks of two convolutions, without skips of this kind; this network has none.",
            "technique",
        )


class GhostSkips(FadingHooks[GhostSkipsHparams]):
    """Let the skips fade."""

    @staticmethod
    def part() -> type[Fading]:
        """Return the class of the parts that fade."""
        from models.networks.ghost_skips import FadingBatchNorm

        return FadingBatchNorm


GHOST_SKIPS = Technique(
    spelling="ghost_skips",
    summary="add 1x1 skips around the convolutions of basic blocks",
    paper="Jaiswal et al. 2022, Training Your Sparse Neural Network Better with Any Mask",
    differences="ToST keeps the skips to the end; here they can also fade.",
    hparams=GhostSkipsHparams,
    hooks=GhostSkips,
    transform=transform,
)
