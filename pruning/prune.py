"""Score, allocation, schedule and selection put together."""

from __future__ import annotations

import contextlib
import fnmatch
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from foundations.errors import UsageError, choose_from, invalid
from foundations.examples import Rows, choose_examples, draw_examples
from pruning.hparams import ExamplesHparams, PruningHparams
from pruning.level import kept_of
from pruning.mask import Mask
from pruning.method import Direction, Method
from pruning.registry import ALLOCATIONS, METHODS, SCHEDULES
from pruning.scoring import Examples, Loss, Scores, Scoring, without_trace
from pruning.selection import inverted, select

OnIteration = Callable[[int, Mask, Scores], None]
ExamplesOfPass = Callable[[int], Rows]


class CollapseWarning(UserWarning):
    """A layer has no weights left: what follows it no longer depends on what precedes it, except by a shortcut."""


def prune(
    model: nn.Module,
    strategy: str,
    *,
    density: float | None = None,
    fraction: float | None = None,
    compression: float | None = None,
    keep: int | None = None,
    iterations: int = 1,
    schedule: str = "exponential",
    allocation: str = "global",
    highest: bool | None = None,
    invert_scores: bool = False,
    examples: Examples | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    mask: Mask | None = None,
    input_shape: tuple[int, ...] | None = None,
    loss: Loss = F.cross_entropy,
    micro_batch_size: int | None = None,
    on_iteration: OnIteration | None = None,
    **options: Any,
) -> Mask:
    """Return the mask of exactly the requested number of weights that a method keeps. The model is not changed.

        mask = prune(model, "snip10", density=0.1, examples=(x, y))
        mask.apply_(model)

    strategy: the name of a method (`pruning.registry`). The level is one of `density`, `fraction` (pruned),
    `compression` and `keep` (a number), relative to all prunable weights (`pruning.prunable`); `pruning.level` says how
    it is rounded; by default a fraction of 0.8 is pruned.
    iterations, schedule: how often the network is scored and pruned on the way to the level, and how the number of
    weights falls. allocation: how the level is spread over the layers.
    highest: whether the highest scores are pruned; by default the method says so. invert_scores: rank by 1 / score.
    examples: (x, y), both with n rows. If y holds class labels (shape (n,), integers), the N examples of each class
    that a name such as snip10 asks for are chosen with `seed`, unless there are exactly N of each: then, as with other
    targets, all are taken in the order given; with score_examples="drawn", they are drawn from all classes together.
    They are scored in consecutive batches of `batch_size` (by default all at once), which matters to batchnorm in train
    mode. input_shape: of one example; by default that of `examples`.
    seed: of random scores and of the choice of examples.
    mask: a mask to start from; what it prunes stays pruned. (phew adds walks to it: PHEW_Res.) If it covers only some
    of the prunable weights, such as Mask.ones(model, (nn.Conv2d,)), the others are left alone and not counted.
    loss: (outputs, y) -> the mean over the batch.
    micro_batch_size: the most examples that are in memory at a time; it changes scores only by rounding.
    on_iteration: called after each iteration with its number (from 1), its mask and its scores.
    options: the method's own hyperparameters, such as score_per_batch=True for snip.

    Raises: UsageError for any argument that is not valid. Warns of layers with no weights left (CollapseWarning).
    """
    hparams = _hparams_with(
        strategy,
        options,
        prune_fraction=fraction,
        density=density,
        compression=compression,
        prune_iterations=iterations,
        prune_schedule=schedule,
        allocation=allocation,
        prune_highest=bool(highest),
        prune_lowest=highest is not None and not highest,
        invert_scores=invert_scores,
    )
    if keep is not None and any(level is not None for level in (density, fraction, compression)):
        raise UsageError("it excludes density, fraction and compression; give one of them.", "keep")
    start = _start(model, hparams, mask)
    found = mask_from_hparams(
        model,
        hparams,
        seed=seed,
        keep=keep,
        examples=examples,
        batch_size=batch_size,
        input_shape=input_shape,
        mask=start,
        loss=loss,
        micro_batch_size=micro_batch_size,
        on_iteration=on_iteration,
    )
    _warn_of_collapse(start, found)
    return found


def mask_from_hparams(
    model: nn.Module,
    hparams: PruningHparams,
    *,
    seed: int,
    keep: int | None = None,
    examples: Examples | Rows | ExamplesOfPass | None = None,
    batch_size: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    mask: Mask | None = None,
    loss: Loss = F.cross_entropy,
    micro_batch_size: int | None = None,
    on_iteration: OnIteration | None = None,
) -> Mask:
    """Return the mask that hyperparameters describe. The arguments are those of `prune`, which also warns of collapse.

    examples: also those that are chosen already and read in parts, or a function that gives such by the number of a
    pass over them, from 0, for methods whose examples vary.
    batch_size: used if the hyperparameters do not say how to batch the examples. keep: in place of their level.
    Layers to ignore keep what they have. As in OpenLTH they count in the level, so the other layers lose more.

    Raises: UsageError, also if ignored layers are not the model's, or hold more than the level leaves.
    """
    method = hparams.method
    whole = _start(model, hparams, mask)
    ignored = _ignored(hparams, mask or Mask.to_prune(model, hparams))
    start = whole.with_tensors({name: tensor for name, tensor in whole.items() if name not in ignored})
    keep = (kept_of(whole.total, hparams.level) if keep is None else keep) - Mask(ignored).kept
    _check_number(keep, start, method, bool(ignored))
    if keep in (start.kept, start.total):
        found = start if keep == start.kept else start.union(start.invert())
        return whole.with_tensors({**found, **ignored})
    with _scoring(model, hparams, start, seed, examples, batch_size, input_shape, loss, micro_batch_size) as scoring:
        if method.build_mask is not None:
            found = method.build_mask(scoring, keep, hparams)
        else:
            found = _iterate(scoring, hparams, start, keep, on_iteration)
    return whole.with_tensors({**found, **ignored})


def scores_from_hparams(
    model: nn.Module,
    hparams: PruningHparams,
    mask: Mask,
    *,
    seed: int,
    examples: Examples | Rows | ExamplesOfPass | None = None,
    batch_size: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    loss: Loss = F.cross_entropy,
) -> Scores:
    """Return the scores by which hyperparameters rank what `mask` names, weights and biases, with that mask applied.

    Nothing is pruned, whatever the level. The arguments are those of `mask_from_hparams`.

    Raises: UsageError, also for a method that builds its mask without scores.
    """
    if hparams.method.is_constructive:
        raise UsageError(f"{hparams.strategy} builds its mask without scores.", "strategy")
    with _scoring(model, hparams, mask.for_model(model), seed, examples, batch_size, input_shape, loss) as scoring:
        return _scores(scoring, hparams)


@contextlib.contextmanager
def _scoring(
    model: nn.Module,
    hparams: PruningHparams,
    mask: Mask,
    seed: int,
    examples: Examples | Rows | ExamplesOfPass | None,
    batch_size: int | None,
    input_shape: tuple[int, ...] | None,
    loss: Loss,
    micro_batch_size: int | None = None,
) -> Iterator[Scoring]:
    """Yield what a method sees while it scores; inside the block, random numbers and autocast are those of scoring."""
    shape = input_shape
    if shape is None and isinstance(examples, tuple):
        shape = tuple(examples[0].shape[1:])
    if hparams.method.needs_input_shape and shape is None:
        raise UsageError(f"{hparams.strategy} needs the shape of one example, such as (3, 32, 32).", "input_shape")
    if isinstance(hparams, ExamplesHparams):
        batch_size = hparams.score_batch_size or batch_size
    with without_trace(next(iter(model.parameters())).device, seed):
        yield Scoring(
            model,
            mask,
            hparams,
            batches=_batches_of(_examples_for(hparams, examples, seed), batch_size),
            input_shape=shape,
            loss=loss,
            seed=seed,
            micro_batch_size=micro_batch_size,
        )


def _scores(scoring: Scoring, hparams: PruningHparams) -> Scores:
    """Return the scores under the present mask."""
    assert hparams.method.score is not None
    scores = {name: score.detach() for name, score in hparams.method.score(scoring, hparams).items()}
    if hparams.invert_scores:
        scores = {name: inverted(score) for name, score in scores.items()}
    return scores


def _iterate(
    scoring: Scoring, hparams: PruningHparams, start: Mask, keep: int, on_iteration: OnIteration | None
) -> Mask:
    """Score and prune again and again, until `keep` weights are left."""
    counts = SCHEDULES.find(hparams.prune_schedule).counts
    groups = [
        (group, counts(group.kept, kept, hparams.iterations)) for group, kept in _groups(hparams, scoring, start, keep)
    ]
    mask = start
    for iteration in range(hparams.iterations):
        scoring.set_mask(mask)
        scores = _scores(scoring, hparams)
        candidates = start if hparams.method.can_regrow else mask
        now = [(group, kept[iteration]) for group, kept in groups]
        mask = _select_in_groups(scores, candidates, now, hparams.prune_direction)
        if on_iteration is not None:
            on_iteration(iteration + 1, mask, scores)
    return mask


def _groups(hparams: PruningHparams, scoring: Scoring, start: Mask, keep: int) -> list[tuple[Mask, int]]:
    """Return groups of tensors within which weights are ranked together, and how many weights of each are kept.

    The groups are disjoint and cover `start`; their numbers add up to `keep`, and none exceeds what `start` keeps.
    """
    allocation = ALLOCATIONS.find(hparams.allocation)
    if allocation.kept_per_layer is None:
        return [(start, keep)]
    order = scoring.order_of_layers() if allocation.needs_order else list(start)
    if order is None:
        raise UsageError(f"{hparams.allocation} needs to run the network: pass input_shape or examples.", "allocation")
    shapes = {name: tuple(start[name].shape) if start[name].dim() > 1 else (len(start[name]), 1) for name in order}
    counts = allocation.kept_per_layer(shapes, start.kept_per_layer(), keep)
    return [(Mask({name: start[name]}), counts[name]) for name in start]


def _select_in_groups(scores: Scores, mask: Mask, groups: list[tuple[Mask, int]], direction: Direction) -> Mask:
    if len(groups) == 1:
        return select(scores, mask, groups[0][1], direction)
    parts = [
        select(
            {name: scores[name] for name in group},
            Mask({name: mask[name] for name in group}),
            keep,
            direction,
        )
        for group, keep in groups
    ]
    return mask.with_tensors({name: tensor for part in parts for name, tensor in part.items()})


def _hparams_with(strategy: str, options: Mapping[str, Any], **shared: Any) -> PruningHparams:
    """Return the hyperparameters of a method. Raises: UsageError for an option that is not the method's own."""
    kind = METHODS.find(strategy).hparams
    own = [name for name in kind.names() if name not in PruningHparams.names()]
    for option in options:
        if option not in own:
            taken = choose_from(option, own) if own else ", which takes none."
            raise UsageError(f"it is not an option of {strategy}{taken}", option)
    return kind(strategy=strategy, **shared, **options)


def _warn_of_collapse(start: Mask, mask: Mask) -> None:
    before, after = start.kept_per_layer(), mask.kept_per_layer()
    collapsed = [name for name in mask if before[name] and not after[name]]
    if collapsed:
        words = "all layers" if not mask.kept else ", ".join(collapsed[:4]) + (", ..." if len(collapsed) > 4 else "")
        message = f"nothing is left of {words} ({len(collapsed)} of {len(mask)} layers)"
        warnings.warn(message, CollapseWarning, stacklevel=3)


def _check_number(keep: int, start: Mask, method: Method, ignores_layers: bool) -> None:
    if ignores_layers and keep < 0:
        raise UsageError(
            f"these layers alone hold {-keep} weights more than the level leaves. Ignore fewer layers, or prune less.",
            "pruning_layers_to_ignore",
        )
    lowest, highest = (start.kept, start.total) if method.is_constructive else (0, start.kept)
    if not lowest <= keep <= highest:
        raise UsageError(f"{keep} of {start.total} weights cannot be kept: the mask to start from keeps {start.kept}.")


def _ignored(hparams: PruningHparams, mask: Mask) -> dict[str, torch.Tensor]:
    ignored: dict[str, torch.Tensor] = {}
    for pattern in filter(None, (hparams.pruning_layers_to_ignore or "").split(",")):
        names = [pattern] if pattern in mask else fnmatch.filter(mask, pattern)
        if not names:
            raise invalid(pattern, "pruning_layers_to_ignore", mask)
        ignored |= {name: mask[name] for name in names}
    return ignored


def _start(model: nn.Module, hparams: PruningHparams, mask: Mask | None) -> Mask:
    if mask is not None:
        return mask.for_model(model)
    ones = Mask.to_prune(model, hparams)
    return ones.invert() if hparams.method.is_constructive else ones


def _batches_of(examples: Rows | ExamplesOfPass | None, size: int | None) -> list[Rows] | Callable[[int], list[Rows]]:
    if examples is None:
        return []
    if isinstance(examples, Rows):
        return examples.split(size)
    of_pass = examples
    return lambda number: of_pass(number).split(size)


def _examples_for(
    hparams: PruningHparams, examples: Examples | Rows | ExamplesOfPass | None, seed: int
) -> Rows | ExamplesOfPass | None:
    per_class = hparams.examples_per_class
    if per_class is None:
        return None
    if isinstance(examples, Rows) or callable(examples):
        return examples
    if examples is None or len(examples[1]) == 0:
        raise UsageError(f"{hparams.strategy} scores with examples; pass examples=(x, y).", "examples")
    x, y = examples
    if len(x) != len(y):
        raise UsageError(f"there are {len(x)} inputs and {len(y)} targets.", "examples")
    if hparams.draws_examples:
        return _drawn(x, y, per_class, seed)
    if y.dim() != 1 or y.is_floating_point() or set(Counter(y.tolist()).values()) == {per_class}:
        return Rows.of(x, y)
    return _rows(x, y, choose_examples(y, per_class, seed))


def _rows(x: torch.Tensor, y: torch.Tensor, chosen: torch.Tensor) -> Rows:
    return Rows(y[chosen.to(y.device)], lambda rows: x[chosen[rows].to(x.device)])


def _drawn(x: torch.Tensor, y: torch.Tensor, per_class: int, seed: int) -> ExamplesOfPass:
    if y.dim() != 1 or y.is_floating_point():
        raise UsageError("without class labels, all examples are taken in the order given.", "score_examples")
    indices = draw_examples(len(y), per_class * len(set(y.tolist())), seed)

    return lambda number: _rows(x, y, indices(number))
