"""edge-popup: learn which weights of a network that stays as it is initialized to keep (Ramanujan et al. 2020).

Each weight has a score s. In every tensor (or in all together), the int((1 - k) n) weights of smallest |s| are off; the
forward pass uses w m, and the backward pass takes m for |s|: ds = sign(s) w dL/d(w m). SGD trains s, with momentum and
weight decay on the scores. Equal scores are off in the order of their index; the published sort leaves it open.

k is the fraction that is KEPT: the published code calls it prune_rate, or sparsity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from training.technique import Technique
from training.techniques.learned_masks import LearnedMask, LearnedMaskHparams, fan_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class EdgePopupHparams(LearnedMaskHparams):
    """The density of the mask, and the decay of the scores."""

    edge_popup_density: float = hparam(0.5, above=0, at_most=1)
    """The fraction of weights that is kept, k. The published code calls it prune_rate, or sparsity."""
    edge_popup_scope: str = hparam("layer", choices=("layer", "global"))
    """Whether each layer has this density (layer), or all together (global)."""
    edge_popup_weight_decay: float = hparam(1e-4, at_least=0)
    """The weight decay of the scores; 5e-4 in the published example of MNIST."""

    @property
    def density(self) -> float:
        """The density of the mask."""
        return self.edge_popup_density


class EdgePopup(LearnedMask[EdgePopupHparams]):
    """Keep the weights of largest scores."""

    @property
    def decay(self) -> float:
        """The weight decay of the scores."""
        return self.hparams.edge_popup_weight_decay

    def drawn(self, name: str, weight: Tensor) -> Tensor:
        """Draw uniformly from -1 / sqrt(fan_in) to 1 / sqrt(fan_in), as Kaiming's initializer with a = sqrt 5 does."""
        import torch

        bound = 1 / math.sqrt(fan_in(weight))
        generator = self.training.generator("edge_popup", name)
        return (2 * torch.rand(weight.shape, generator=generator) - 1) * bound

    def differentiable(self, name: str) -> Tensor:
        """Return the magnitudes of the scores."""
        return self.scores[name].abs()

    def masks(self) -> dict[str, Tensor]:
        """Return the masks of the largest magnitudes."""
        sizes = {name: self.scores[name].detach().abs() for name in sorted(self.scores)}
        if self.hparams.edge_popup_scope == "layer":
            return {name: _largest([size], self.hparams.density)[0] for name, size in sizes.items()}
        return dict(zip(sizes, _largest(list(sizes.values()), self.hparams.density), strict=True))


def _largest(values: Sequence[Tensor], density: float) -> list[Tensor]:
    """Return masks of all values but the int((1 - density) n) smallest; of equal ones the first are left out."""
    import torch

    flat = torch.cat([each.reshape(-1) for each in values])
    count = int((1 - density) * len(flat))
    if count == 0:
        return [torch.ones_like(each, dtype=torch.bool) for each in values]
    threshold = flat.kthvalue(count).values
    is_off, is_equal = flat < threshold, flat == threshold
    is_off |= is_equal & (is_equal.cumsum(0) <= count - is_off.sum())  # without waiting for a GPU
    parts = torch.split(~is_off, [each.numel() for each in values])
    return [part.view(each.shape) for part, each in zip(parts, values, strict=True)]


EDGE_POPUP = Technique(
    spelling="edge_popup",
    known_as=("ep", "hidden_networks", "supermask", "supermasks", "strong_lottery_ticket"),
    summary="learn a mask of weights that do not train, by a score for each",
    paper="Ramanujan et al. 2020, What's Hidden in a Randomly Weighted Neural Network?",
    tested_against="allenai/hidden-networks",
    differences="Equal scores are ordered by index, where the published sort is not stable.",
    hparams=EdgePopupHparams,
    hooks=EdgePopup,
    density="edge_popup_density",
    mask_is_outcome=True,
)
