"""Shared code of techniques that drop kept weights and grow others while the network trains.

A technique is a subclass of `MovingMask` that says when the mask is updated (`clock`), which weights go (`drop`), which
come in their place (`growth`, `grow`), and in its hyperparameters at which rate. Defaults are the most common: weights
of the smallest magnitude go, each layer grows as many as it lost, and those of the highest growth score come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

from foundations.description.hparams import hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.level import prune_fraction_of
from pruning.registry import ALLOCATIONS
from training.technique import Hooks, TechniqueHparams

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruning.masks.mask import Mask
    from pruning.rounding import Ties


@dataclass(frozen=True, kw_only=True)
class StartHparams(TechniqueHparams):
    """The mask that a training starts from."""

    moves_mask: ClassVar[bool] = True

    start_density: float | None = hparam(None, above=0, at_most=1)
    """The density of the random mask that training starts from, where it has no mask yet."""
    start_allocation: str = hparam("erk", choices=ALLOCATIONS)
    """Allocation of that density to the layers."""

    @property
    def uses_seed(self) -> bool:
        """Whether the start is random."""
        return self.start_density is not None

    @property
    def final_level(self) -> float | None:
        """The prune fraction of the random mask; None where another one is there already."""
        return None if self.start_density is None else prune_fraction_of(density=self.start_density)

    @property
    def grows_zeros(self) -> bool:
        """True: new weights are 0."""
        return True

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Return these. Raises: UsageError if there are two masks to start from, or none."""
        if has_mask and self.start_density is not None:
            raise UsageError("the training starts from a mask already; leave it out.", "start_density")
        if not has_mask and self.start_density is None:
            raise UsageError(
                "without a mask to start from, give the density of a random one; or branch a run with a strategy, "
                "such as random with the allocation erk.",
                "start_density",
            )
        return self

    def within_mask(self) -> Self:
        """Return these without a mask to start from."""
        return self.replaced({name: getattr(StartHparams, name) for name in StartHparams.names()})

    def simplified(self) -> Self:
        """Reset fields that cannot change the result."""
        used = type(self).start_allocation if self.start_density is None else self.start_allocation
        return self.replaced({"start_allocation": ALLOCATIONS.find(used).spelling})


S = TypeVar("S", bound=StartHparams)


def dropped(mask: Mask, weights: Mapping[str, Tensor], counts: Mapping[str, int], ties: Ties = "in_order") -> Mask:
    """Return a mask without the smallest of its weights: `counts` of each layer, by name; other layers stay.

    weights: by name, of the mask's shapes; compared by magnitude. ties: as in `pruning.masks.selection.select`; with
    'pruned', all that are equal to the largest dropped one go as well, zeros that are kept among them.
    """
    from pruning.masks.mask import Mask as MaskClass
    from pruning.masks.selection import select
    from pruning.weights.shards import whole

    left = dict(mask)
    for name, count in counts.items():
        layer = MaskClass({name: mask[name]})
        left[name] = select({name: whole(weights[name].detach()).abs()}, layer, layer.kept - count, ties=ties)[name]
    return mask.with_tensors(left)


def grown(mask: Mask, growth: Mapping[str, Tensor], counts: Mapping[str, int]) -> Mask:
    """Return a mask with more weights: of those that it prunes, `counts` of each layer with the highest growth score.

    Ties are broken by flat index. No layer gets more weights than it has.
    """
    from pruning.masks.mask import Mask as MaskClass
    from pruning.masks.selection import select

    more = dict(mask)
    for name, count in counts.items():
        room = MaskClass({name: ~mask[name]})
        more[name] = mask[name] | select({name: growth[name]}, room, min(count, room.kept))[name]
    return mask.with_tensors(more)


class MovingMask(Hooks[S], ABC):
    """A training whose mask moves.

    Subclasses call `update` from the hook in which the mask changes: from `after_backward`, in place of the optimizer's
    step, or from `after_step`.
    """

    @abstractmethod
    def clock(self, step: Step) -> Step | None:
        """Return the clock's step at the update of an iteration; None if the mask is not updated."""

    @abstractmethod
    def drop(self, mask: Mask, weights: Mapping[str, nn.Parameter], clock: Step) -> Mask:
        """Return the mask without the weights that go at an update. weights: those that may change, by name."""

    @abstractmethod
    def growth(self, step: Step, weights: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        """Return the growth score of some weights, by name; layers without a score stay as they are."""

    def grow(self, step: Step, stays: Mask, growth: Mapping[str, Tensor], counts: Mapping[str, int]) -> Mask:
        """Return the mask with new weights. counts: the number that went, by layer."""
        return grown(stays, growth, counts)

    def prepare(self) -> None:
        """Draw the random mask to start from, if there is no other."""
        if self.hparams.start_density is not None:
            mask = self.start_mask()
            mask.apply_(self.training.model)
            self.training.set_mask(mask)

    def start_mask(self) -> Mask:
        """Return the random mask to start from."""
        start = {"density": self.hparams.start_density, "allocation": self.hparams.start_allocation}
        return self.training.prune(PruningHparams.of({"strategy": "random", **start}))

    @property
    def _weights(self) -> dict[str, nn.Parameter]:
        """The weights of the mask that are trained, by name."""
        assert self.training.mask is not None, "prepare made a mask, or the training started from one"
        parameters = dict(self.training.model.named_parameters(remove_duplicate=False))
        computed = [name for name in self.training.mask if name not in parameters]
        if computed:
            reason = f"{computed[0]} is computed from other parameters; weights that move must be parameters."
            raise UsageError(reason, "technique")
        held = {id(weight) for group in self.training.optimizer.param_groups for weight in group["params"]}
        return {name: parameters[name] for name in self.training.mask if id(parameters[name]) in held}

    def update(self, step: Step, clock: Step) -> None:
        """Drop and grow. New weights are 0; weights dropped and grown in one update keep their values.

        clock: the step on which the rate depends.
        """
        before, weights = self.training.mask, self._weights
        assert before is not None
        growth = self.growth(step, weights)
        weights = {name: weights[name] for name in growth}
        stays = self.drop(before, weights, clock)
        left, had = stays.kept_per_layer(), before.kept_per_layer()
        self.training.set_mask(self.grow(step, stays, growth, {name: had[name] - left[name] for name in weights}))

    def gradients(self, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """Return |dL/dw| of every weight, pruned ones included, where L is the loss without weight decay.

        Weights without a gradient are absent. 0 in place of NaN: it must not end a training that would go on without
        the technique.
        """
        from pruning.weights.shards import whole

        return {name: whole(w.grad).abs().nan_to_num(nan=0.0) for name, w in weights.items() if w.grad is not None}

    def uniforms(self, step: Step, weights: Mapping[str, Tensor], what: str = "growth") -> dict[str, Tensor]:
        """Return U(0, 1) for every weight, float64, from a random stream for each step and tensor."""
        import torch

        return {
            name: torch.rand(
                weight.shape, generator=self.training.generator(what, step.iteration, name), dtype=torch.float64
            )
            for name, weight in weights.items()
        }
