"""SNFS, sparse momentum (Dettmers & Zettlemoyer 2019): weights move to the layers whose momentum is largest.

After some steps of the optimizer, with m its momentum and f the rate of `training.techniques.after_step`:

    share    v_l = mean |m| over the weights that layer l keeps, divided by the sum over the layers
    drop     in layer l, of n kept weights, the ceil(f n) of smallest magnitude; f is at most the layer's sparsity, if
             that is below 0.2 and v_l is above the mean
    grow     in layer l, v_l R weights of the largest |m| among those not kept; R is the number of dropped weights. A
             layer fills to 99% at most; what is over goes to the others

The momentum of pruned weights is not zero: it follows their gradients. So a new weight starts from 0 with a momentum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.registry import ALLOCATIONS
from training.technique import Technique, Training
from training.techniques.after_step import AfterStep, AfterStepHparams
from training.techniques.moving_mask import dropped

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruning.masks.mask import Mask

_DENSE_ENOUGH = 0.2
"""Sparsity below which a layer of much momentum drops fewer weights."""
_FULL = 0.99
_ROUNDS = 1000


@dataclass(frozen=True, kw_only=True)
class SnfsHparams(AfterStepHparams):
    """The mask's updates after steps of the optimizer, and the mask at the start of a training that has none."""

    start_allocation: str = hparam("uniform", choices=ALLOCATIONS)
    """Allocation of that density to the layers."""
    mask_update_frequency: str = hparam("1ep", step=True)
    """The number of the optimizer's steps between updates of the mask."""
    snfs_adjusted_growth: bool = hparam(False)
    """Round the growth of each layer as the published code does, grow fewer where momentum is 0, and correct for both
    at later updates: the density then drifts by some weights. By default, as many weights grow as were dropped."""


class Snfs(AfterStep[SnfsHparams]):
    """Drop by magnitude; grow by momentum, in the layers that have most of it."""

    needs_gradients = False
    keeps_state = True

    def __init__(self, training: Training, hparams: SnfsHparams) -> None:
        super().__init__(training, hparams)
        self._growth = self.kept("growth")
        self._shares: dict[str, float] = {}

    def prepare(self) -> None:
        """Draw the mask to start from, if there is no other. Raises: UsageError for an optimizer without momentum."""
        import torch

        groups = self.training.optimizer.param_groups
        if not any(group.get("momentum") or "betas" in group for group in groups):
            raise UsageError("snfs grows weights by momentum, and the optimizer has none.", "technique")
        super().prepare()
        assert self.training.mask is not None
        zero = torch.zeros((), dtype=torch.float64)
        start = torch.tensor(self.training.mask.kept, dtype=torch.float64)
        self._growth |= {"start": start, "adjusted": zero, "errors": zero.clone(), "updates": zero.clone()}

    def growth(self, step: Step, weights: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        """Return the magnitude of the momentum, in the order of the network; of Adam's, divided by its deviation."""
        from pruning.weights.shards import whole

        found = {}
        for name, weight in self.training.model.named_parameters(remove_duplicate=False):
            state = self.training.optimizer.state.get(weight, {})
            momentum = state.get("momentum_buffer", state.get("exp_avg"))
            if name in weights and momentum is not None:
                scale = state["exp_avg_sq"].sqrt() + 1e-8 if "exp_avg_sq" in state else 1.0
                found[name] = whole(momentum / scale).abs().nan_to_num(nan=0.0)
        return found

    def drop(self, mask: Mask, weights: Mapping[str, nn.Parameter], clock: Step) -> Mask:
        """Return the mask without the smallest weights; note each layer's share of the momentum."""
        momentum, kept = self.growth(clock, weights), mask.kept_per_layer()
        means = {name: float(m[mask[name].to(m.device)].mean()) if kept[name] else 0.0 for name, m in momentum.items()}
        total = sum(means.values())
        self._shares = {name: mean / total if total else 1 / len(means) for name, mean in means.items()}
        fraction, counts = self.hparams.fraction_at(clock, self.training.end), {}
        for name, share in self._shares.items():
            sparsity = 1 - kept[name] / mask[name].numel()
            is_full = sparsity < _DENSE_ENOUGH and share > 1 / len(means)
            counts[name] = math.ceil((min(sparsity, fraction) if is_full else fraction) * kept[name])
        return dropped(mask, weights, counts)

    def grow(self, step: Step, stays: Mask, growth: Mapping[str, Tensor], counts: Mapping[str, int]) -> Mask:
        """Return the mask with new weights, in each layer by its share."""
        room = {name: int((~stays[name]).sum()) for name in counts}
        if self.hparams.snfs_adjusted_growth:
            spread = _spread(self._shares, room, sum(counts.values()) + float(self._growth["adjusted"]))
            grown = _grown_or_kept(stays, growth, spread)
            self._adjust(grown.kept)
            return grown
        return super().grow(step, stays, growth, _exactly(self._shares, room, sum(counts.values())))

    def _adjust(self, kept: int) -> None:
        """Note by how much the next update grows more: 0.25 a + 0.75 e + the mean of all e, of the error e."""
        error, own = float(self._growth["start"]) - kept, self._growth
        own["errors"] += error
        own["updates"] += 1
        own["adjusted"] = 0.25 * own["adjusted"] + 0.75 * error + own["errors"] / own["updates"]

    def metrics(self) -> Mapping[str, float]:
        """Return the density of the mask, which may drift."""
        return {} if self.training.mask is None else {"mask_density": self.training.mask.density}


def _spread(shares: Mapping[str, float], room: Mapping[str, int], total: float) -> dict[str, int]:
    """Return the number of weights that each layer grows, as the published code spreads and rounds them."""
    wanted: dict[str, float] = {name: math.ceil(share * total) for name, share in shares.items()}
    for _ in range(_ROUNDS):
        grown = {name: min(value, _FULL * room[name]) for name, value in wanted.items()}
        over = sum(wanted[name] - value for name, value in grown.items())
        if over <= 0:
            break
        wanted = {name: value + over / len(grown) for name, value in grown.items()}
    return {name: max(0, math.floor(value)) for name, value in grown.items()}


def _grown_or_kept(stays: Mask, growth: Mapping[str, Tensor], counts: Mapping[str, int]) -> Mask:
    """Return a mask with more weights, as the published code grows them: fewer where momentum is 0.

    It ranks kept weights with a score of 0, so that they take the place of others that have no momentum either.
    """
    import torch

    more = {}
    for name, count in counts.items():
        score = torch.where(stays[name], 0.0, growth[name].cpu()).flatten()
        kept = stays[name].flatten().clone()
        kept[score.sort(descending=True, stable=True).indices[:count]] = True
        more[name] = kept.view(stays[name].shape)
    return stays.with_tensors({**stays, **more})


def _exactly(shares: Mapping[str, float], room: Mapping[str, int], total: int) -> dict[str, int]:
    """Return the number of weights that each layer grows, in proportion to its share as far as there is room."""
    from pruning.allocations.allocation import apportion

    most = {name: math.floor(_FULL * count) for name, count in room.items()}
    if sum(most.values()) < total:
        most = dict(room)
    # Layers without momentum grow only where the others are full.
    proportions = {name: max(1, int(Fraction(share) * 2**40)) for name, share in shares.items()}
    return apportion(proportions, most, total)


SNFS = Technique(
    spelling="snfs",
    known_as=("sparse_momentum", "momentum_growth", "sparse_learning"),
    summary="sparse momentum: drop the smallest weights, grow where the momentum is largest, across layers",
    paper="Dettmers & Zettlemoyer 2019, Sparse Networks from Scratch: Faster Training without Losing Performance",
    tested_against="TimDettmers/sparse_learning",
    differences="The number of weights stays exact; in the code it drifts by some weights (snfs_adjusted_growth). The "
    "start mask has the exact density, where the code draws each weight by itself.",
    hparams=SnfsHparams,
    hooks=Snfs,
    density="start_density",
    changes_mask=True,
    takes_shards=True,
)
