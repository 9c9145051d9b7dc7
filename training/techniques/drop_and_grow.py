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
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from foundations.description.hparams import ALWAYS_WRITTEN, hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.registry import ALLOCATIONS
from training.technique import Hooks, TechniqueHparams
from training.techniques.cadence import Cadence
from training.techniques.raw_weights import RawWeights

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pruning.masks.mask import Mask
    from training.technique import Training

PREFIX = "mask_update_"
BATCHES, OPTIMIZER_STEPS = "batches", "optimizer_steps"
_DRAWN_BY_WEIGHTS = ("random_normal", "random_uniform")
_OF_START = ("initial_dist", *_DRAWN_BY_WEIGHTS)


@dataclass(frozen=True, kw_only=True)
class DropAndGrowHparams(TechniqueHparams):
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
    mask_update_clock: str = hparam(BATCHES, choices=(BATCHES, OPTIMIZER_STEPS))
    """Unit in which the updates, and the fraction's schedule, count steps.

    'batches': iterations from 0, of which an update of RigL takes one, as in rigl-torch (which counts from 1).
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
    start_density: float | None = hparam(None, above=0, at_most=1)
    """The density of the random mask that training starts from, where it has no mask yet."""
    start_allocation: str = hparam("erk", choices=ALLOCATIONS)
    """Allocation of that density to the layers."""

    @property
    def uses_seed(self) -> bool:
        """Whether the start or the values of new weights are random. SET's growth always is."""
        return self.start_density is not None or self.grow_init in _OF_START

    def versions(self) -> dict[str, int]:
        """Return the version of values of new weights that depend on other weights."""
        return {"grow_init": 2} if self.grow_init in _OF_START else {}

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Write the last update out. Raises: UsageError without a mask, or if updates are not within the training."""
        if has_mask and self.start_density is not None:
            raise UsageError("the training starts from a mask already; leave it out.", "start_density")
        if not has_mask and self.start_density is None:
            raise UsageError(
                "without a mask to start from, give the density of a random one; or branch a run with a strategy, "
                "such as random with the allocation erk.",
                "start_density",
            )
        last = self.mask_update_end or f"{end.iteration * 3 // 4}it"
        resolved = self.replaced({"mask_update_end": last})
        resolved.updates(end).check_within(end, PREFIX)
        return resolved

    def simplified(self) -> Self:
        """Reset fields that cannot change the result."""
        changes: dict[str, float | str] = {"start_allocation": ALLOCATIONS.find(self.start_allocation).spelling}
        if self.drop_fraction_anneal != "exponential":
            changes["drop_fraction_exponent"] = 3.0
        if self.grow_init == "zeros":
            changes["grow_init_divisor"] = 1.0
        if self.start_density is None:
            changes["start_allocation"] = "erk"
        return self.replaced(changes)

    def updates(self, any_step: Step) -> Cadence:
        """Return the steps at which the mask is updated. any_step: a step of the training."""
        return Cadence.of(self, PREFIX, any_step)

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


def drop_and_grow(mask: Mask, weights: Mapping[str, Tensor], growth: Mapping[str, Tensor], fraction: float) -> Mask:
    """Return the mask after an update: int(kept * fraction) weights of each layer are dropped, and as many grown.

    weights, growth: by name, of the mask's shapes; a layer without weights stays as it is. The weights with the
    smallest magnitude are dropped; of all weights that are then not kept, those with the highest growth score are
    grown. Ties are broken by flat index.
    """
    from pruning.masks.mask import Mask as MaskClass
    from pruning.masks.selection import select
    from pruning.weights.shards import whole

    updated, kept = dict(mask), mask.kept_per_layer()
    for name in weights:
        dropped = int(kept[name] * fraction)
        layer = MaskClass({name: mask[name]})
        stays = select({name: whole(weights[name].detach()).abs()}, layer, kept[name] - dropped)
        grown = select({name: growth[name]}, stays.invert(), dropped)
        updated[name] = stays.union(grown)[name]
    return mask.with_tensors(updated)


class DropAndGrow(Hooks[DropAndGrowHparams], ABC):
    """A training whose mask moves. Subclasses define the growth score, and whether updates replace optimizer steps."""

    def __init__(self, training: Training, hparams: DropAndGrowHparams) -> None:
        super().__init__(training, hparams)
        self._start = self.kept("start")
        self._raw = RawWeights(self.kept("raw.value"), self.kept("raw.momentum"))

    @functools.cached_property
    def updates(self) -> Cadence:
        """Steps at which the mask is updated."""
        return self.hparams.updates(self.training.end)

    @abstractmethod
    def clock(self, step: Step) -> Step | None:
        """Return the clock's step at the update of an iteration; None if the mask is not updated."""

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
        """Draw the random mask to start from, if there is no other."""
        if self.hparams.start_density is not None:
            start = {"density": self.hparams.start_density, "allocation": self.hparams.start_allocation}
            mask = self.training.prune(PruningHparams.of({"strategy": "random", **start}))
            mask.apply_(self.training.model)
            self.training.set_mask(mask)
        values = {name: self._start[name] for name in self._weights if name in self._start}
        self._start.clear()
        kept = self._start if self.hparams.grow_init == "initial_dist" else self._raw.values
        kept |= values

    def move_raw_weights(self) -> None:
        """Move the raw values of pruned weights as the optimizer's step moved them."""
        if self.hparams.grow_init in _DRAWN_BY_WEIGHTS:
            self._raw.step(self._weights, self.training.optimizer)

    @property
    def _weights(self) -> dict[str, torch.nn.Parameter]:
        """The weights of the mask that are trained, by name."""
        assert self.training.mask is not None, "prepare made a mask, or the training started from one"
        parameters = dict(self.training.model.named_parameters(remove_duplicate=False))
        computed = [name for name in self.training.mask if name not in parameters]
        if computed:
            reason = f"{computed[0]} is computed from other parameters; weights that move must be parameters."
            raise UsageError(reason, "technique")
        held = {id(weight) for group in self.training.optimizer.param_groups for weight in group["params"]}
        return {name: parameters[name] for name in self.training.mask if id(parameters[name]) in held}

    @abstractmethod
    def growth(self, step: Step, weights: Mapping[str, torch.nn.Parameter]) -> Mapping[str, Tensor]:
        """Return the growth score of some weights, by name; layers without a score stay as they are."""

    def update(self, step: Step, clock: Step) -> None:
        """Drop and grow, and set the new weights. Weights dropped and grown in one update keep their values.

        clock: the step by which the fraction is annealed.
        """
        import torch

        from pruning.weights.shards import local, part_of

        before, weights = self.training.mask, self._weights
        assert before is not None
        if self.hparams.grow_init in _DRAWN_BY_WEIGHTS:
            self._raw.take(before, weights, self.training.optimizer)
        growth = self.growth(step, weights)
        weights = {name: weights[name] for name in growth}
        after = drop_and_grow(before, weights, growth, self.hparams.fraction_at(clock))
        values = self._new_values(step, weights)
        self.training.set_mask(after)
        if values is not None:
            with torch.no_grad():
                for name, weight in weights.items():
                    is_new, part = part_of(after[name] & ~before[name], weight), local(weight)
                    value = part_of(values[name], weight).to(part) / self.hparams.grow_init_divisor
                    part.copy_(torch.where(is_new, value, part))

    def _new_values(self, step: Step, weights: Mapping[str, torch.nn.Parameter]) -> Mapping[str, Tensor] | None:
        import torch

        from pruning.weights.shards import whole

        kind = self.hparams.grow_init
        if kind == "zeros":
            return None
        values = {}
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
