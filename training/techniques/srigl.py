"""SRigL: RigL with as many weights in each neuron of a layer, whose neurons may go (Lasby et al. 2024).

A layer of N weights and R neurons has a total T, int(N (1 - S)) for its sparsity S, and a constant fan-in of
k = T // (neurons that stay). At an update, with n weights kept at present and f the fraction of RigL:

    counts   p = int(n f), q = n - p; where fewer than q weights are not 0, q is their number, and p = n - q
    ablate   a weight is salient if it is among the q of largest |w| or the p of largest |dL/dw| of the layer. A neuron
             with fewer than c = max(1, int(gamma T // R)) salient weights goes; where the neuron of rank T // (dense
             fan-in) + 1 has fewer than c, c is its number. Neurons that went may come back
    drop     all but the q of largest |w|, those of neurons that go first; a neuron keeps at most k
    grow     in each neuron that stays, up to k, by |dL/dw|; new weights are 0

So a layer has k weights for each neuron that stays, at most T. Ties are broken by flat index: the first stay. Clock,
fraction and averaged gradients are those of RigL.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from foundations.description.hparams import hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.structure.constant_fan_in import CONSTANT_FAN_IN
from pruning.structure.groups import Groups
from pruning.structure.structure import SKIP
from training.technique import Technique, Training
from training.techniques.rigl import Rigl, RiglHparams

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruning.masks.mask import Mask

LAST_LINEAR, NONE, ALL = "last_linear", "none", "all"


@dataclass(frozen=True, kw_only=True)
class SriglHparams(RiglHparams):
    """The mask's updates, the neurons that go, and the mask at the start of a training that has none."""

    srigl_gamma: float = hparam(0.3, at_least=0, at_most=1)
    """The fraction of its fan-in that must be salient for a neuron to stay."""
    srigl_gamma_of: str = hparam("constant", choices=("constant", "dense"))
    """That fan-in: the constant one of all neurons of the layer, or that of a dense layer."""
    srigl_no_ablation: str = hparam(LAST_LINEAR, unordered=True)
    """The layers whose neurons all stay, separated by commas: names or patterns, last_linear, none, or all, so that no
    neuron goes."""
    srigl_excess: str = hparam("index", choices=("index", "magnitude"))
    """Of more than k weights of a neuron that are left: those that stay, the first (as in the published code, whose
    sort leaves the order open), or the largest."""
    srigl_sparsities: str | None = hparam(None)
    """The sparsity S of single layers, such as conv=0,fc=0.5. Other layers have the counts of the mask to start from,
    which --start_density and --start_allocation give."""

    def validate(self) -> None:
        """Check the sparsities of single layers."""
        _ = self.sparsities

    @property
    def sparsities(self) -> dict[str, float]:
        """The sparsities of single layers by name. Raises: UsageError."""
        found = {}
        for part in filter(None, (self.srigl_sparsities or "").split(",")):
            name, _, value = part.rpartition("=")
            try:
                found[name.strip()] = float(value)
            except ValueError:
                found[name.strip()] = -1.0
            if not (name and 0 <= found[name.strip()] < 1):
                reason = f"'{part}' is not a layer with a sparsity from 0 to below 1; write conv=0,fc=0.5."
                raise UsageError(reason, "srigl_sparsities")
        return found

    def simplified(self) -> Self:
        """Reset fields that cannot change the result."""
        simple = super().simplified()
        if self.srigl_no_ablation != ALL:
            return simple
        names = ("srigl_gamma", "srigl_gamma_of")
        return simple.replaced({name: getattr(type(self), name) for name in names})


class Srigl(Rigl[SriglHparams]):
    """Drop by magnitude and grow by gradient, to as many weights in each neuron."""

    def __init__(self, training: Training, hparams: SriglHparams) -> None:
        super().__init__(training, hparams)
        self._totals = self.kept("totals")
        self._fan_ins: dict[str, tuple[int, Tensor]] = {}

    @functools.cached_property
    def _neurons(self) -> dict[str, Groups | str]:
        """The neurons of every tensor of two or more dimensions; or why it has none."""
        from pruning.weights.layouts import layouts_of
        from pruning.weights.named_weights import named_weights

        model = self.training.model
        layouts = layouts_of(model, named_weights(model))
        return {name: CONSTANT_FAN_IN.groups(layout, {}, SKIP) for name, layout in layouts.items()}

    def _covered(self, mask: Mask) -> dict[str, Groups]:
        """Return the neurons of the tensors of a mask, by name, without those that have none."""
        return {name: each for name in mask if isinstance(each := self._neurons.get(name), Groups)}

    @functools.cached_property
    def _without_ablation(self) -> set[str]:
        """The names of tensors whose neurons all stay."""
        from pruning.weights.layouts import last_linear

        found: set[str] = set()
        for pattern in filter(None, self.hparams.srigl_no_ablation.split(",")):
            if pattern == LAST_LINEAR:
                found |= {last_linear(self.training.model) or ""}
            elif pattern == ALL:
                found |= set(self._totals)
            elif pattern != NONE:
                found |= _named(pattern, self._totals, "srigl_no_ablation")
        return found

    def start_mask(self) -> Mask:
        """Return a random mask with the totals of the allocation, and as many weights in each neuron."""
        import torch

        mask = super().start_mask()
        self._set_totals(mask)
        made = {}
        for name, groups in self._covered(mask).items():
            drawn = torch.rand(mask[name].shape, generator=self.training.generator("start", name), dtype=torch.float64)
            neurons = mask[name].numel() // groups.size
            made[name] = groups.largest(drawn, int(self._totals[name]) // neurons)
        return mask.with_tensors({**mask, **made})

    def prepare(self) -> None:
        """Draw the mask to start from, if there is none, and keep the total of each layer."""
        from pruning.weights.left_out import warn_of_dense

        super().prepare()
        mask = self.training.mask
        assert mask is not None, "start_mask made one, or the training started from one"
        self._set_totals(mask)
        _ = self._without_ablation  # refuses names that do not exist
        others = {name: self._neurons.get(name, "no matrix") for name in mask if name not in self._totals}
        warn_of_dense("constant fan-in", {name: str(reason) for name, reason in others.items()})

    def _set_totals(self, mask: Mask) -> None:
        """Keep T of each layer, unless it is there. Raises: UsageError if a neuron would have less than a weight."""
        import torch

        if self._totals:
            return
        groups, kept = self._covered(mask), mask.kept_per_layer()
        counts = {name: kept[name] for name in groups}
        for layer, sparsity in self.hparams.sparsities.items():
            named = _named(layer, groups, "srigl_sparsities")
            counts |= {name: int(mask[name].numel() * (1 - sparsity)) for name in named}
        for name, count in counts.items():
            neurons = mask[name].numel() // groups[name].size
            if 0 < count < neurons or (count == 0 and mask[name].any()):
                given = "srigl_sparsities" if self.hparams.sparsities else "start_density"
                reason = f"{name} has {count:,} weights for {neurons:,} neurons, and each needs one"
                raise UsageError(f"{reason}; keep more, or choose another allocation.", given)
            self._totals[name] = torch.tensor(count)

    def drop(self, mask: Mask, weights: Mapping[str, nn.Parameter], clock: Step) -> Mask:
        """Return the mask of weights that stay in the neurons that do."""
        from pruning.weights.shards import whole

        gradients, fraction = self.growth(clock, weights), self.hparams.fraction_at(clock)
        covered = self._covered(mask)
        self._fan_ins, left = {}, dict(mask)
        for name in weights:
            total = int(self._totals.get(name, 0))
            if total in (0, mask[name].numel()):
                continue
            groups = covered[name]
            sizes, growth = (groups.split(t) for t in (whole(weights[name].detach()).abs(), gradients[name]))
            kept = mask[name].sum()
            dropped = int(int(kept) * fraction)
            left_over = min(int(kept) - dropped, int((sizes != 0).sum()))
            salient = _top(sizes, left_over) | _top(growth, int(kept) - left_over)
            active = self._active(name, salient, total)
            fan_in = total // int(active.sum())
            stays = _top(sizes.masked_fill(~active[:, None], -1.0), left_over) & active[:, None]
            by_size = self.hparams.srigl_excess == "magnitude"
            stays = _at_most(stays, fan_in, sizes if by_size else None)
            left[name] = groups.join(stays, tuple(mask[name].shape)).cpu()
            self._fan_ins[name] = fan_in, active
        return mask.with_tensors(left)

    def _active(self, name: str, salient: Tensor, total: int) -> Tensor:
        """Return whether each neuron stays: bool (neurons,). salient: bool (neurons, inputs)."""
        import torch

        neurons, inputs = salient.shape
        if name in self._without_ablation:
            return torch.ones(neurons, dtype=torch.bool, device=salient.device)
        counts = salient.sum(1)
        fan_in = inputs if self.hparams.srigl_gamma_of == "dense" else total // neurons
        least = max(1, int(self.hparams.srigl_gamma * fan_in))
        ranked = counts.sort(descending=True).values
        return counts >= min(least, int(ranked[min(total // inputs, neurons - 1)]))

    def grow(self, step: Step, stays: Mask, growth: Mapping[str, Tensor], counts: Mapping[str, int]) -> Mask:
        """Return the mask with as many weights in each neuron that stays."""
        more, covered = dict(stays), self._covered(stays)
        for name, (fan_in, active) in self._fan_ins.items():
            groups = covered[name]
            scores = groups.split(growth[name])
            kept = groups.split(stays[name]).to(scores.device)
            room = ((fan_in - kept.sum(1)) * active)[:, None]
            new = _ranks(scores.masked_fill(kept, -1.0)) < room
            more[name] = groups.join(kept | new, tuple(stays[name].shape)).cpu()
        return stays.with_tensors(more)

    def metrics(self) -> Mapping[str, float]:
        """Return the density of the mask, and the number of neurons that went."""
        mask = self.training.mask
        assert mask is not None
        rows = [groups.split(mask[name]) for name, groups in self._covered(mask).items()]
        return {"density": mask.density, "ablated_neurons": float(sum(int((~row.any(1)).sum()) for row in rows))}


def _named(pattern: str, names: Collection[str], hparam_name: str) -> set[str]:
    """Return the tensors that a name or a pattern of layers or tensors matches. Raises: UsageError for none."""
    found = {name for name in names if any(fnmatch.fnmatchcase(n, pattern) for n in (name, _layer_of(name)))}
    if not found:
        raise UsageError(f"'{pattern}' is not one of {', '.join(map(_layer_of, names))}.", hparam_name)
    return found


def _layer_of(tensor: str) -> str:
    return tensor.rpartition(".")[0] or tensor


def _top(values: Tensor, count: int) -> Tensor:
    """Return the mask of the largest values of all rows; of equal ones the first."""
    import torch

    flat = values.flatten()
    if count == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    last = flat.kthvalue(len(flat) - count + 1).values
    found, equal = flat > last, flat == last
    return (found | (equal & (equal.cumsum(0) <= count - found.sum()))).view(values.shape)


def _ranks(values: Tensor) -> Tensor:
    """Return the rank of each value in its row, from 0 for the largest; of equal ones the first have the lower."""
    import torch

    order = values.argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(
        1, order, torch.arange(values.shape[1], device=order.device).expand_as(order)
    )


def _at_most(kept: Tensor, count: int, sizes: Tensor | None) -> Tensor:
    """Return the mask of at most `count` kept values of each row: the first, or those of the largest sizes."""
    if sizes is None:
        return kept & (kept.cumsum(1) <= count)
    return kept & (_ranks(sizes.masked_fill(~kept, -1.0)) < count)


SRIGL = Technique(
    spelling="srigl",
    known_as=("structured_rigl", "constant_fan_in", "condensed_sparsity"),
    summary="RigL with as many weights in each neuron of a layer; neurons with few salient weights go (SRigL)",
    paper="Lasby et al. 2024, Dynamic Sparse Training with Structured Sparsity",
    tested_against="calgaryml/condensed-sparsity",
    differences=(
        "The first of more than k weights of a neuron stay, where the published sort leaves the order open "
        "(--srigl_excess=magnitude keeps the largest). k = 0 is refused. Steps count batches from 0, the published "
        "ones from 1 (--mask_update_clock=batches_from_1)."
    ),
    hparams=SriglHparams,
    hooks=Srigl,
    density="start_density",
    changes_mask=True,
    takes_shards=True,
)
