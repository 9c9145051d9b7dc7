"""GraNet (Liu et al. 2021, Sparse Training via Boosting Pruning Plasticity): prune gradually, and drop and grow.

After every `mask_update_frequency`-th step of the optimizer, the smallest weights of all layers together are pruned to

    s_t = s_i + (s_f - s_i) (1 - (1 - (c - c_0) / (c_1 - c_0))^3)

where c counts the updates from 0, and c_0 and c_1 are those at `granet_begin` and `granet_end`. Then a fraction of each
layer's weights is dropped, and as many grow where the gradient is largest, until the end of the training. The mask
starts at half the weights, at all of them (`start_density=1`), or where the training starts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from foundations.description.hparams import ALWAYS_WRITTEN, hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.level import kept_of, prune_fraction_of
from training.technique import Technique, Training
from training.techniques.after_step import AfterStep, AfterStepHparams
from training.techniques.gmp import cubic

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.masks.mask import Mask

GRANET, GMP = METHODS = ("granet", "gmp")
GLOBAL, UNIFORM = ALLOCATIONS = ("global", "uniform")
_START = 0.5
_LEAST_OF_OUTPUT, _FROM = 0.2, 0.8
"""Above the second sparsity, uniform pruning keeps the first share of the output layer."""


@dataclass(frozen=True, kw_only=True)
class GranetHparams(AfterStepHparams):
    """Gradual pruning with the mask's updates, and the mask at the start of a training that has none."""

    granet_density: float = hparam(0.1, above=0, at_most=1, elided=ALWAYS_WRITTEN)
    """The density at the last pruning."""
    granet_method: str = hparam(GRANET, choices=METHODS)
    """Prune, drop and grow (granet), or only prune (gmp: gradual magnitude pruning as in GraNet's code)."""
    granet_begin: str = hparam("0it", step=True)
    """The step before which the mask is not updated."""
    granet_end: str | None = hparam(None, step=True, elided=ALWAYS_WRITTEN)
    """The last step at which a pruning may be; by default after 11/16 of the training (epoch 110 of 160)."""
    granet_initial_density: float | None = hparam(None, above=0, at_most=1)
    """The density at which the curve starts; by default that of the mask at the start."""
    granet_allocation: str = hparam(GLOBAL, choices=ALLOCATIONS)
    """Prune the weights of all layers together, or each layer to the same density (uniform)."""
    granet_output_layer: str = hparam("classifier")
    """With uniform pruning, tensors with this in their name keep a fifth of their weights from sparsity 0.8 on, and the
    others make up for it."""
    granet_shortfall: bool = hparam(False)
    """Prune as the published code does, which does not reach the density: the last pruning is left out, and each keeps
    a weight fewer than it says. With uniform pruning, only the counts of each layer are rounded down."""

    @property
    def final_level(self) -> float:
        """The prune fraction at the last pruning."""
        return prune_fraction_of(density=self.granet_density)

    @property
    def choices(self) -> Sequence[tuple[Mapping[str, Any], Sequence[str]]]:
        """The density at the end."""
        return (({"granet_density": self.granet_density}, ["granet_density"]),)

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Write out the start and the last pruning. Raises: UsageError if the density could not be reached."""
        start = self.start_density
        if start is None and not has_mask:
            start = 1.0 if self.granet_method == GMP else _START
        last = self.granet_end or f"{end.iteration * 11 // 16}it"
        resolved = super(GranetHparams, self.replaced({"start_density": start, "granet_end": last})).for_training(
            end, has_mask=has_mask
        )
        begin, final = resolved.window(end)
        if not begin <= final <= end:
            reason = f"{begin} to {final} is not within the training; choose begin <= end <= {end}."
            raise UsageError(reason, "granet_begin", "granet_end")
        frequency = resolved.frequency(end)
        if final.iteration // frequency * frequency < max(1, begin.iteration):
            reason = f"the mask is updated every {frequency} steps, and never from {begin} to {final}: choose fewer."
            raise UsageError(reason, "mask_update_frequency")
        first = self.granet_initial_density or start
        if first is not None:
            check_falls(first, self.granet_density, has_mask=has_mask)
        return resolved

    def simplified(self) -> Self:
        """Reset fields that cannot change the result."""
        changes: dict[str, Any] = {}
        if self.granet_allocation == GLOBAL:
            changes["granet_output_layer"] = "classifier"
        if self.granet_method == GMP:
            changes |= {"drop_fraction": 0.5, "drop_fraction_end": 0.005}
        if self.granet_initial_density == self.start_density:
            changes["granet_initial_density"] = None
        return super().simplified().replaced(changes)

    def window(self, any_step: Step) -> tuple[Step, Step]:
        """Return the first and the last step at which a pruning may be. any_step: a step of the training."""
        per_epoch, last = any_step.iterations_per_epoch, self.granet_end or "0it"
        return Step.parse(self.granet_begin, per_epoch, "granet_begin"), Step.parse(last, per_epoch, "granet_end")


def check_falls(first: float, last: float, *, has_mask: bool) -> None:
    """Check that the density does not rise. Raises: UsageError."""
    if first < last:
        where, more = ("the mask", "") if has_mask else ("the training", ", or a larger start_density")
        reason = f"{where} starts from a density of {first:g}; choose at most that{more}."
        raise UsageError(reason, "granet_density")


class Granet(AfterStep[GranetHparams]):
    """Prune, then drop by magnitude and grow by gradient."""

    def __init__(self, training: Training, hparams: GranetHparams) -> None:
        super().__init__(training, hparams)
        self._begin, self._end = hparams.window(training.end)
        self._initial = self.kept("initial")

    def prepare(self) -> None:
        """Draw the mask to start from, if there is no other; note its density."""
        super().prepare()
        import torch

        assert self.training.mask is not None
        density = self.hparams.granet_initial_density or self.hparams.start_density or self.training.mask.density
        check_falls(density, self.hparams.granet_density, has_mask=True)
        self._initial["density"] = torch.tensor(density, dtype=torch.float64)

    def clock(self, step: Step) -> Step | None:
        """Return the step after this one, if the mask is updated between them."""
        after = super().clock(step)
        return None if after is None or after < self._begin else after

    def update(self, step: Step, clock: Step) -> None:
        """Prune; drop and grow. Weights that are pruned and grown in one update start from 0."""
        sparsity = self._sparsity(clock)
        if sparsity is not None:
            self.training.set_mask(self._pruned(sparsity))
        if self.hparams.granet_method == GRANET:
            super().update(step, clock)

    def metrics(self) -> Mapping[str, float]:
        """Return the density of the mask on the way."""
        return {} if self.training.mask is None else {"mask_density": self.training.mask.density}

    def _sparsity(self, clock: Step) -> float | None:
        """Return the sparsity to prune to at an update; None if it does not prune."""
        frequency, initial = self._frequency, float(self._initial["density"])
        first, last = self._begin.iteration // frequency, self._end.iteration / frequency
        if self.hparams.granet_allocation == GLOBAL or not self.hparams.granet_shortfall:
            last = math.floor(last)
        count, final = clock.iteration // frequency, self.hparams.granet_density
        if count > (last - 1 if self._leaves_last_out else last):
            return None
        if count == last and not self.hparams.granet_shortfall:
            return self.hparams.final_level
        share = (count - first) / (last - first) if last > first else 1.0
        return (1 - initial) + (initial - final) * cubic(share)

    @property
    def _leaves_last_out(self) -> bool:
        return self.hparams.granet_shortfall and self.hparams.granet_allocation == GLOBAL

    def _pruned(self, sparsity: float) -> Mask:
        from pruning.masks.selection import select
        from pruning.weights.shards import whole

        mask = self.training.mask
        assert mask is not None
        sizes = {name: whole(value).abs() for name, value in mask.values_in(self.training.model).items()}
        if self.hparams.granet_allocation == UNIFORM:
            return self._pruned_uniformly(mask, sizes, sparsity)
        if self.hparams.granet_shortfall:
            keep = int(mask.total * (1 - sparsity)) - 1
            return mask if keep >= mask.kept else select(sizes, mask, max(0, keep), ties="pruned")
        return select(sizes, mask, min(mask.kept, kept_of(mask.total, round(sparsity, 12))))

    def _pruned_uniformly(self, mask: Mask, sizes: Mapping[str, Tensor], sparsity: float) -> Mask:
        from pruning.masks.mask import Mask as MaskClass
        from pruning.masks.selection import select

        totals = {name: tensor.numel() for name, tensor in mask.items()}
        counts = self._uniform_counts(totals, sparsity)
        left: dict[str, Tensor] = {}
        for name, kept in mask.kept_per_layer().items():
            layer = MaskClass({name: mask[name]})
            left |= select({name: sizes[name]}, layer, min(kept, counts[name]))
        return mask.with_tensors(left)

    def _uniform_counts(self, totals: Mapping[str, int], sparsity: float) -> dict[str, int]:
        """Return the number of weights that each layer keeps."""
        from pruning.allocations.allocation import apportion

        density, keep = 1 - sparsity, kept_of(sum(totals.values()), round(sparsity, 12))
        outputs = [name for name in totals if self.hparams.granet_output_layer in name and sparsity > _FROM]
        counts = {name: int(totals[name] * _LEAST_OF_OUTPUT) for name in outputs}
        others = {name: total for name, total in totals.items() if name not in counts}
        if not others or not outputs:
            counts, others = {}, dict(totals)
        if self.hparams.granet_shortfall:
            room = sum(others.values())
            share = (sum(totals.values()) * density - sum(totals[name] for name in counts) * _LEAST_OF_OUTPUT) / room
            return counts | {name: max(0, int(total * share)) for name, total in others.items()}
        return counts | apportion(others, others, max(0, keep - sum(counts.values())))


GRANET_TECHNIQUE = Technique(
    spelling="granet",
    summary="prune gradually, and move the mask by magnitude and gradient",
    paper="Liu et al. 2021, Sparse Training via Boosting Pruning Plasticity with Neuroregeneration",
    tested_against="VITA-Group/GraNet",
    differences="Reaches the stated density; the code leaves the last pruning out and keeps a weight fewer at each "
    "(granet_shortfall). The start mask has the exact density. The code's own interval on CIFAR is 1000 steps.",
    hparams=GranetHparams,
    hooks=Granet,
    density="granet_density",
    changes_mask=True,
    takes_shards=True,
)
