"""From hyperparameters to a mask: score, allocation, schedule and selection."""

from __future__ import annotations

import fnmatch
import itertools
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from foundations.errors import UsageError, invalid
from pruning.allocations.allocation import Allocation, Counts
from pruning.effective_density import fewest_kept, graph_of
from pruning.hparams import PruningHparams
from pruning.level import kept_of
from pruning.masks.mask import Mask
from pruning.masks.selection import inverted, select, select_in_groups
from pruning.method import Method
from pruning.plugin_results import check_counts, check_mask, checked_counts_of, checked_scores
from pruning.registry import ALLOCATIONS, SCHEDULES
from pruning.rounding import NEAREST, SYNAPTIC_FLOW, Counted, kept_as_published, ties_of
from pruning.scoring.inputs import ScoringInputs
from pruning.scoring.scoring import Scores, Scoring, open_scoring
from pruning.structure.structure import CountedStructure
from pruning.weights.computed_weights import Computed
from pruning.weights.grouped import grouped
from pruning.weights.named_weights import kept_by_torch
from pruning.weights.prunable import BATCHNORMS, Choice
from pruning.weights.shards import refuse_sharded

OnIteration = Callable[[int, Mask, Scores], None]


class TiesWarning(UserWarning):
    """All scores are equal, so that the order of the weights decides which are pruned."""


def mask_from_hparams(
    model: nn.Module,
    hparams: PruningHparams,
    inputs: ScoringInputs,
    *,
    keep: int | None = None,
    mask: Mask | None = None,
    on_iteration: OnIteration | None = None,
) -> Mask:
    """Return the mask that hyperparameters describe. The arguments are those of `prune`, which also warns of collapse.

    keep: replaces the level of the hyperparameters; not with a structure. Ignored layers keep all their weights. As in
    OpenLTH, they count in the level, so the other layers lose more; with a structure, they do not.

    Raises: UsageError, also if ignored layers are not the model's, or hold more than the level leaves.
    """
    whole = starting_mask(model, hparams, mask)
    _check_values(model)
    _check_numbers(model, hparams, whole)
    ignored = _ignored(hparams, mask or Mask.to_prune(model, hparams))
    pruner = _Pruner(model, hparams, inputs, whole, ignored)
    if (structure := hparams.counted) is not None:
        return pruner.mask_with(structure, on_iteration)
    if keep is None and hparams.effective_density is not None:
        keep = pruner.kept_for_effective_density(hparams.effective_density)
    return pruner.mask_keeping(kept_of(whole.total, hparams.level) if keep is None else keep, on_iteration)


class _Pruner:
    """Prunes a network to numbers of weights within one mask, its ignored layers left whole."""

    def __init__(
        self,
        model: nn.Module,
        hparams: PruningHparams,
        inputs: ScoringInputs,
        whole: Mask,
        ignored: dict[str, Tensor],
    ) -> None:
        self._model, self._hparams, self._inputs = model, hparams, inputs
        self._whole, self._ignored = whole, ignored
        self._start = whole.with_tensors({name: part for name, part in whole.items() if name not in ignored})
        self._first: list[Scores] | None = None
        """The scores of the first iteration, where several numbers share them."""

    def mask_keeping(self, keep: int, on_iteration: OnIteration | None = None) -> Mask:
        """Return the mask of `keep` weights, those of ignored layers included. Raises: UsageError."""
        hparams, start, method = self._hparams, self._start, self._hparams.method
        keep -= Mask(self._ignored).kept
        _check_number(keep, start, method, bool(self._ignored), bool(kept_by_torch(self._model)))
        if keep in (start.kept, start.total) and (hparams.rounding == NEAREST or hparams.level == 0):
            return self._with_ignored(start if keep == start.kept else start.union(start.invert()))
        with open_scoring(self._model, hparams, start, self._inputs) as scoring:
            if method.build_mask is not None:
                found = method.build_mask(scoring, keep, hparams)
                check_mask(found, start, keep, method)
            else:
                counted = Counted(self._whole.total, self._whole.kept, Mask(self._ignored).kept)
                select_now = partial(_select_in_groups, hparams, _groups(hparams, scoring, start, keep, counted))
                found = _iterate(scoring, hparams, start, select_now, on_iteration, self._first)
        return self._with_ignored(found)

    def mask_with(self, structure: CountedStructure, on_iteration: OnIteration | None = None) -> Mask:
        """Return the mask with a structure. Warns of layers without it. Raises: UsageError."""
        hparams, start = self._hparams, self._start
        layers = grouped(self._model, list(start), structure, hparams.structure_uneven)
        layers.check("structure", "structure_uneven")
        count = _scheduled_count(hparams, structure.size, structure.kept)

        def select_now(iteration: int, scores: Scores, candidates: Mask, _: Mask) -> Mask:
            keep = count(iteration, structure.size)
            return select_in_groups(scores, candidates, layers.groups, keep, hparams.prune_direction)

        with open_scoring(self._model, hparams, start, self._inputs) as scoring:
            return self._with_ignored(_iterate(scoring, hparams, start, select_now, on_iteration))

    def kept_for_effective_density(self, target: float) -> int:
        """Return the least number of kept weights whose mask has an effective density. Raises: UsageError."""
        self._inputs = self._inputs.for_method(self._model, self._hparams)  # data are read once
        if self._hparams.prune_iterations == 1 or not callable(self._inputs.examples):
            self._first = []
        start, set_aside, extends = self._start, Mask(self._ignored).kept, self._hparams.method.is_constructive
        lowest, highest = (start.kept, start.total) if extends else (0, start.kept)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TiesWarning)  # the mask that is returned warns
            graph = graph_of(self._model, self._inputs)
            return fewest_kept(target, graph, self.mask_keeping, lowest + set_aside, highest + set_aside)

    def _with_ignored(self, found: Mask) -> Mask:
        return self._whole.with_tensors({**found, **self._ignored})


def scores_from_hparams(model: nn.Module, hparams: PruningHparams, inputs: ScoringInputs, mask: Mask) -> Scores:
    """Return the scores of the weights and biases that `mask` names, with that mask applied.

    Nothing is pruned, whatever the level.

    Raises: UsageError, also for a method that builds its mask without scores.
    """
    if hparams.method.is_constructive:
        raise UsageError(f"{hparams.strategy} builds its mask without scores.", "strategy")
    with open_scoring(model, hparams, mask.for_model(model), inputs) as scoring:
        return _scores(scoring, hparams)


def _scores(scoring: Scoring, hparams: PruningHparams) -> Scores:
    """Return the scores under the present mask."""
    method = hparams.method
    assert method.score is not None
    scores = checked_scores(method.score(scoring, hparams), scoring.mask, method, method.score)
    if hparams.invert_scores:
        scores = {name: inverted(score) for name, score in scores.items()}
    return scores


_Count = Callable[[int, int], int]
"""(number of the iteration, from 1; weights kept before it) -> number of weights it keeps, without ties."""
_Select = Callable[[int, Scores, Mask, Mask], Mask]
"""(number of the iteration, from 1; scores; mask of the weights to choose from; mask before it) -> mask after it."""


def _iterate(
    scoring: Scoring,
    hparams: PruningHparams,
    start: Mask,
    select_now: _Select,
    on_iteration: OnIteration | None,
    first: list[Scores] | None = None,
) -> Mask:
    """Score and prune iteratively.

    first: holds the scores of the first iteration, if they are known already; else they are put there.
    """
    mask, allocation = start, ALLOCATIONS.find(hparams.allocation)
    for iteration in range(1, hparams.prune_iterations + 1):
        scoring.set_mask(mask)
        scoring.iteration = iteration
        scores = first[0] if first and iteration == 1 else _scores(scoring, hparams)
        if first is not None and not first:
            first.append(scores)
        candidates = start if hparams.method.can_regrow else mask
        if allocation.normalize is not None:
            shares = allocation.normalize(scores, candidates, hparams.method)
            scores = checked_scores(shares, candidates, allocation, allocation.normalize)
        _warn_of_ties(scores, mask)
        mask = select_now(iteration, scores, candidates, mask)
        if on_iteration is not None:
            on_iteration(iteration, mask, scores)
    return mask


def _groups(
    hparams: PruningHparams, scoring: Scoring, start: Mask, keep: int, counted: Counted
) -> list[tuple[Mask, _Count]]:
    """Return groups of tensors whose weights are ranked together, and the number of kept weights of each group.

    The groups are disjoint and cover `start`; unless the rounding is a published one, their last numbers add up to
    `keep`, and none exceeds what `start` keeps.
    """
    allocation = ALLOCATIONS.find(hparams.allocation)
    layers = [Mask({name: start[name]}) for name in start]
    if hparams.rounding != NEAREST and hparams.rounding not in allocation.published:
        if allocation.kept_per_layer is None:
            return [(start, partial(kept_as_published, hparams, counted))]
        return [(layer, partial(kept_as_published, hparams, Counted(layer.total, layer.kept))) for layer in layers]
    counts = _kept_per_layer(allocation, hparams, scoring, start, keep, counted)
    if counts is None:
        return [(start, _scheduled_count(hparams, start.kept, keep))]
    targets = zip(layers, (counts[name] for name in start), strict=True)
    return [(layer, _scheduled_count(hparams, layer.kept, target)) for layer, target in targets]


def _kept_per_layer(
    allocation: Allocation, hparams: PruningHparams, scoring: Scoring, start: Mask, keep: int, counted: Counted
) -> Counts | None:
    """Return the number of kept weights of each layer; None if all layers are ranked together."""
    published, room = allocation.published.get(hparams.rounding), start.kept_per_layer()
    if published is None and allocation.kept_per_layer is None:
        return None
    names: list[str] | None = list(start)
    if published is not None:
        names = scoring.order_of_modules()
    elif allocation.needs_order:
        names = scoring.order_of_layers()
    if names is None:
        raise UsageError(f"{hparams.allocation} needs to run the network: pass input_shape or examples.", "allocation")
    shapes = {name: tuple(start[name].shape) if start[name].dim() > 1 else (start[name].numel(), 1) for name in names}
    if published is not None:
        wanted = counted.total * round(1 - hparams.level, 12) - counted.ignored
        counts = published(shapes, room, wanted, hparams.method)
        check_counts(counts, room, None, allocation, published)
    else:
        assert allocation.kept_per_layer is not None
        counts = allocation.kept_per_layer(shapes, room, keep)
        check_counts(counts, room, keep, allocation, allocation.kept_per_layer)
    return counts


def _scheduled_count(hparams: PruningHparams, start: int, target: int) -> _Count:
    counts = checked_counts_of(SCHEDULES.find(hparams.prune_schedule), start, target, hparams.prune_iterations)
    return lambda iteration, _: counts[iteration - 1]


def _select_in_groups(
    hparams: PruningHparams,
    groups: list[tuple[Mask, _Count]],
    iteration: int,
    scores: Scores,
    mask: Mask,
    before: Mask,
) -> Mask:
    direction, kept = hparams.prune_direction, before.kept_per_layer()
    ties = ties_of(hparams.rounding, ALLOCATIONS.find(hparams.allocation))
    parts = []
    for group, count in groups:
        keep = count(iteration, sum(kept[name] for name in group))
        its_scores, its_mask = scores, mask
        if len(groups) > 1:
            its_scores = {name: scores[name] for name in group}
            its_mask = Mask({name: mask[name] for name in group})
        if hparams.rounding == SYNAPTIC_FLOW and keep == its_mask.kept < its_mask.total and direction == "lowest":
            keep = _kept_above_zero(its_scores, its_mask)
        parts.append(select(its_scores, its_mask, min(keep, its_mask.kept), direction, ties))
    return parts[0] if len(parts) == 1 else mask.with_tensors({k: v for part in parts for k, v in part.items()})


def _kept_above_zero(scores: Scores, mask: Mask) -> int:
    """Return the number of kept weights that score above 0, the score of pruned ones; all of them if scores have signs.

    Where ties have pruned more than an iteration asks for, Synaptic-Flow's threshold is that 0.
    """
    kept = [scores[name][keeps.to(scores[name].device)] for name, keeps in mask.items()]
    if any(bool((values < 0).any()) for values in kept):
        return mask.kept
    return sum(int(torch.count_nonzero(values)) for values in kept)


def _check_values(model: nn.Module) -> None:
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise UsageError(f"'{name}' has no shape yet: run the model once before pruning it.")
        if tensor.is_meta:
            raise UsageError(f"'{name}' is on the meta device and has no values; load the weights before pruning.")
        refuse_sharded(name, tensor)


def _check_numbers(model: nn.Module, hparams: PruningHparams, mask: Mask) -> None:
    """Check that weights are real, if the method uses more than their magnitude. Raises: UsageError."""
    if hparams.method.needs_examples or hparams.method.needs_input_shape:
        for name, weight in mask.weights_of(model).items():
            values = weight.parameters.values() if isinstance(weight, Computed) else (weight,)
            if any(value.is_complex() for value in values):
                raise UsageError(
                    f"'{name}' is complex; choose magnitude or random, which take such weights.", "strategy"
                )


def _warn_of_ties(scores: Scores, mask: Mask) -> None:
    """Warn if all scores of a mask's kept weights are equal. Stops at the first tensor with a different score."""
    first: Tensor | None = None
    for name, tensor in mask.items():
        kept = scores[name][tensor.to(scores[name].device)]
        first = kept[:1] if first is None and len(kept) else first
        if first is not None and not bool((kept == first.to(kept.device)).all()):
            return
    if first is not None and mask.kept > 1:
        message = f"all {mask.kept} scores are {first.item():g}: the order of the weights decides which are pruned"
        warnings.warn(message, TiesWarning, stacklevel=5)


def _check_number(keep: int, start: Mask, method: Method, ignores_layers: bool, is_masked_by_torch: bool) -> None:
    if ignores_layers and keep < 0:
        raise UsageError(
            f"these layers alone hold {-keep} weights more than the level leaves. Ignore fewer layers, or prune less.",
            "pruning_layers_to_ignore",
        )
    lowest, highest = (start.kept, start.total) if method.is_constructive else (0, start.kept)
    if not lowest <= keep <= highest:
        by_torch = ", with what torch.nn.utils.prune masks" if is_masked_by_torch else ""
        raise UsageError(
            f"{keep} of {start.total} weights cannot be kept: the mask to start from{by_torch} keeps {start.kept}."
        )


def _ignored(hparams: PruningHparams, mask: Mask) -> dict[str, torch.Tensor]:
    ignored: dict[str, torch.Tensor] = {}
    for pattern in filter(None, (hparams.pruning_layers_to_ignore or "").split(",")):
        names = [pattern] if pattern in mask else fnmatch.filter(mask, pattern)
        if not names:
            raise invalid(pattern, "pruning_layers_to_ignore", mask)
        ignored |= {name: mask[name] for name in names}
    return ignored


def starting_mask(
    model: nn.Module, hparams: PruningHparams, mask: Mask | None, types: Sequence[Choice] | None = None
) -> Mask:
    """Return the starting mask: the given one, or the prunable weights that torch.nn.utils.prune keeps.

    types: the prunable layers, where types are among them.
    """
    there = kept_by_torch(model)
    if there and hparams.method.is_constructive:
        raise UsageError(
            f"{hparams.strategy} builds its mask of dense weights, but '{next(iter(there))}' is masked by "
            "torch.nn.utils.prune; take that off first (prune.remove).",
            "strategy",
        )
    if mask is None:
        if types is None:
            mask = Mask.to_prune(model, hparams)
        else:
            norms = BATCHNORMS if hparams.prune_batchnorm else ()
            mask = Mask.ones(model, (*types, *norms), biases=hparams.prune_bias)
        if hparams.method.is_constructive:
            mask = mask.invert()
    return within_masks_of_torch(model, mask)


def within_masks_of_torch(model: nn.Module, mask: Mask) -> Mask:
    """Return a mask of `model` that also prunes what torch.nn.utils.prune has pruned in it."""
    there = kept_by_torch(model)
    kept = {name: tensor & there[name] if name in there else tensor for name, tensor in mask.items()}
    return mask.with_tensors(kept) if there else mask.for_model(model)
