"""Shared code of dynamic sparse training (SET, RigL): drop some of the kept weights, grow as many elsewhere.

    when     at iteration t with begin <= t <= end, every `frequency` iterations from the first at begin
    drop     in each layer, of n kept weights, the int(n f) of smallest magnitude
    grow     as many, of the highest growth score among all that are not kept, those just dropped included
    f        drop_fraction, constant or annealed

So the density of every layer does not change. The semantics follow google-research/rigl, with two exceptions: ties
between magnitudes are broken in a fixed order, where its code adds noise of 1e-5, and the clock may count iterations,
where its code counts optimizer steps (mask_update_clock).
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from foundations.description.hparams import ALWAYS_WRITTEN, hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from training.techniques.cadence import Cadence
from training.techniques.moving_mask import MovingMask, StartHparams, dropped, grown
from training.techniques.raw_weights import RawWeights
from training.without_effect import warn

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruning.masks.mask import Mask
    from training.technique import Training

PREFIX = "mask_update_"
BATCHES, BATCHES_FROM_1, OPTIMIZER_STEPS = CLOCKS = ("batches", "batches_from_1", "optimizer_steps")
_DRAWN_BY_WEIGHTS = ("random_normal", "random_uniform")
_OF_START = ("initial_dist", *_DRAWN_BY_WEIGHTS)


@dataclass(frozen=True, kw_only=True)
class DropAndGrowHparams(StartHparams):
    """The mask's updates: their steps and sizes, and the mask at the start of a training that has none."""

    drop_fraction: float = hparam(0.3, above=0, at_most=1)
    """The fraction of each layer's kept weights that an update drops, and grows elsewhere, before annealing."""
    drop_fraction_anneal: str = hparam("cosine", choices=("constant", "cosine", "exponential"))
    """Schedule of the fraction: constant, cosine, or exponential: (1 - (t - begin) / (end - begin))^k."""
    drop_fraction_exponent: float = hparam(3.0, above=0)
    """k of an exponential anneal."""
    mask_update_begin: str = hparam("0it", step=True)
    """The step of the first update."""
    mask_update_end: str | None = hparam(None, step=True, elided=ALWAYS_WRITTEN)
    """The last step at which an update may be; by default after three quarters of the training."""
    mask_update_frequency: str = hparam("100it", step=True)
    """The time between updates."""
    mask_update_clock: str = hparam(BATCHES, choices=CLOCKS)
    """Unit in which the updates, and the fraction's schedule, count steps.

    'batches': iterations from 0, of which an update of RigL takes one.
    'batches_from_1': the same, counted from 1, and the last update is before `mask_update_end`, as in rigl-torch.
    'optimizer_steps': steps that the optimizer has taken, as in google-research/rigl. There, `frequency` of them lie
    between two updates of RigL, and the learning rate follows them too; SET counts the step before its update.
    """
    grow_init: str = hparam(
        "zeros", choices=("zeros", "initial_dist", "random_normal", "random_uniform", "grad_scale", "grad_sign")
    )
    """The values of new weights: zeros; initial_dist (those with which the layer's training started, shuffled);
    random_normal (with the deviation of the layer's raw weights, pruned ones included) or random_uniform (up to their
    mean magnitude); grad_scale (the gradient) or grad_sign (its sign)."""
    grow_init_divisor: float = hparam(1.0, above=0)
    """By what these values are divided."""

    @property
    def uses_seed(self) -> bool:
        """Whether the start or the values of new weights are random. SET's growth always is."""
        return self.start_density is not None or self.grow_init in _OF_START

    @property
    def grows_zeros(self) -> bool:
        """Whether new weights are 0. The gradients of weights that get none are 0, too."""
        return self.grow_init not in _OF_START

    def versions(self) -> dict[str, int]:
        """Return the version of values of new weights that depend on other weights."""
        return {"grow_init": 2} if self.grow_init in _OF_START else {}

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Write the last update out. Raises: UsageError without a mask, or if updates are not within the training."""
        super().for_training(end, has_mask=has_mask)
        last = self.mask_update_end or f"{end.iteration * 3 // 4}it"
        resolved = self.replaced({"mask_update_end": last})
        resolved.updates(end).check_within(end, PREFIX)
        return resolved

    def simplified(self) -> Self:
        """Reset fields that cannot change the result."""
        changes: dict[str, float | str] = {}
        if self.drop_fraction_anneal != "exponential":
            changes["drop_fraction_exponent"] = 3.0
        if self.grow_init == "zeros":
            changes["grow_init_divisor"] = 1.0
        return super().simplified().replaced(changes)

    def updates(self, any_step: Step) -> Cadence:
        """Return the steps at which the mask is updated. any_step: a step of the training."""
        return Cadence.of(self, PREFIX, any_step)

    def number_of_updates(self, end: Step) -> int:
        """Return the number of updates in a training that ends at `end`. The optimizer's clock may have fewer."""
        updates, from_1 = self.updates(end), self.mask_update_clock == BATCHES_FROM_1
        every = updates.frequency.iteration
        first = updates.begin.iteration or (every if from_1 else 0)
        last = min(updates.end.iteration - from_1, end.iteration - (not from_1))
        return max(0, (last - first) // every + 1)

    def fraction_at(self, step: Step) -> float:
        """Return the fraction f that is dropped at a step t.

        cosine: f0 / 2 (1 + cos(pi min(1, t / (end - begin)))). As published, t counts from the start of the training;
        the paper's formula is this one for begin = 0.
        """
        updates = self.updates(step)
        if updates.length == 0:
            return self.drop_fraction
        if self.drop_fraction_anneal == "cosine":
            return self.drop_fraction / 2 * (1 + math.cos(math.pi * min(1.0, step.iteration / updates.length)))
        if self.drop_fraction_anneal == "exponential":
            share = updates.since_begin(step) / updates.length
            return float(self.drop_fraction * (1 - share) ** self.drop_fraction_exponent)
        return self.drop_fraction


D = TypeVar("D", bound=DropAndGrowHparams)


def drop_and_grow(mask: Mask, weights: Mapping[str, Tensor], growth: Mapping[str, Tensor], fraction: float) -> Mask:
    """Return the mask after an update: int(kept * fraction) weights of each layer are dropped, and as many grown.

    weights, growth: by name, of the mask's shapes; a layer without weights stays as it is. The weights with the
    smallest magnitude are dropped; of all weights that are then not kept, those with the highest growth score are
    grown. Ties are broken by flat index.
    """
    kept = mask.kept_per_layer()
    counts = {name: int(kept[name] * fraction) for name in weights}
    return grown(dropped(mask, weights, counts), growth, counts)


class DropAndGrow(MovingMask[D]):
    """A training whose mask moves as in google-research/rigl. Subclasses define growth score and clock."""

    def __init__(self, training: Training, hparams: D) -> None:
        super().__init__(training, hparams)
        self._start = self.kept("start")
        self._raw = RawWeights(self.kept("raw.value"), self.kept("raw.momentum"))

    @functools.cached_property
    def updates(self) -> Cadence:
        """Steps at which the mask is updated."""
        return self.hparams.updates(self.training.end)

    def clock(self, step: Step) -> Step | None:
        """Return the clock's step at the update of an iteration; None if the mask is not updated."""
        if self.hparams.mask_update_clock == BATCHES:
            return step if self.updates.has(step) else None
        if self.hparams.mask_update_clock == BATCHES_FROM_1:
            shown = step.at(step.iteration + 1)
            return shown if self.updates.has(shown) and shown < self.updates.end else None
        return self.clock_of_optimizer(step)

    @abstractmethod
    def clock_of_optimizer(self, step: Step) -> Step | None:
        """Return the same where the clock counts the optimizer's steps."""

    def before_mask(self) -> None:
        """Save the initial values of the training, if new weights depend on them."""
        if self.hparams.grow_init in _OF_START:
            from pruning.weights.shards import is_sharded, whole

            parameters = dict(self.training.model.named_parameters(remove_duplicate=False))
            if self.hparams.grow_init in _DRAWN_BY_WEIGHTS and any(map(is_sharded, parameters.values())):
                kind = self.hparams.grow_init
                raise UsageError(
                    f"{kind} needs whole weights, and these are sharded over processes (FSDP2).", "grow_init"
                )
            self._start |= {name: whole(parameter.detach()).clone() for name, parameter in parameters.items()}

    def prepare(self) -> None:
        """Draw the random mask to start from, if there is no other; keep the initial values of its weights."""
        super().prepare()
        self._warn_of_few_updates()
        values = {name: self._start[name] for name in self._weights if name in self._start}
        self._start.clear()
        kept = self._start if self.hparams.grow_init == "initial_dist" else self._raw.values
        kept |= values

    def _warn_of_few_updates(self) -> None:
        """Warn if the mask never moves, or once although a later end is given."""
        number, span = self.hparams.number_of_updates(self.training.end), f"{self.updates.begin} to {self.updates.end}"
        if number == 0:
            warn(f"the mask is never updated: {PREFIX}begin and {PREFIX}end leave no step for it from {span}.")
        elif number == 1 and self.updates.length:
            warn(f"the mask is updated once: {PREFIX}frequency is longer than the time from {span}.")

    def move_raw_weights(self) -> None:
        """Move the raw values of pruned weights as the optimizer's step moved them."""
        if self.hparams.grow_init in _DRAWN_BY_WEIGHTS:
            self._raw.step(self._weights, self.training.optimizer)

    def drop(self, mask: Mask, weights: Mapping[str, nn.Parameter], clock: Step) -> Mask:
        """Return the mask without the smallest weights: int(n f) of the n of each layer."""
        kept, fraction = mask.kept_per_layer(), self.hparams.fraction_at(clock)
        return dropped(mask, weights, {name: int(kept[name] * fraction) for name in weights})

    def update(self, step: Step, clock: Step) -> None:
        """Drop and grow, and set the new weights. Weights dropped and grown in one update keep their values.

        clock: the step by which the fraction is annealed.
        """
        before = self.training.mask
        assert before is not None
        if self.hparams.grow_init in _DRAWN_BY_WEIGHTS:
            self._raw.take(before, self._weights, self.training.optimizer)
        super().update(step, clock)
        if self.hparams.grow_init != "zeros":
            self._set_new(step, before)

    def _set_new(self, step: Step, before: Mask) -> None:
        import torch

        from pruning.weights.shards import local, part_of

        after = self.training.mask
        assert after is not None
        changed = {name: weight for name, weight in self._weights.items() if not torch.equal(before[name], after[name])}
        values = self._new_values(step, changed)
        with torch.no_grad():
            for name, weight in changed.items():
                is_new, part = part_of(after[name] & ~before[name], weight), local(weight)
                value = part_of(values[name], weight).to(part) / self.hparams.grow_init_divisor
                part.copy_(torch.where(is_new, value, part))

    def _new_values(self, step: Step, weights: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        import torch

        from pruning.weights.shards import whole

        kind, values = self.hparams.grow_init, {}
        for name, weight in weights.items():
            if kind.startswith("grad"):
                gradient = whole(torch.zeros_like(weight) if weight.grad is None else weight.grad)
                values[name] = gradient.sign() if kind == "grad_sign" else gradient.clone()
                continue
            drawn = self.training.generator("grow_init", step.iteration, name)
            if kind == "initial_dist":
                order = torch.randperm(weight.numel(), generator=drawn)
                values[name] = self._start[name].cpu().flatten()[order].view(weight.shape)
            elif kind == "random_normal":
                scale = self._raw.values[name].std(correction=0).cpu()
                values[name] = torch.randn(weight.shape, generator=drawn) * scale
            else:
                bound = self._raw.values[name].abs().mean().cpu()
                values[name] = (2 * torch.rand(weight.shape, generator=drawn) - 1) * bound
        return values
