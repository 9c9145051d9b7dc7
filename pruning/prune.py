"""Scorer, allocation, schedule and selection put together."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from foundations.errors import UsageError, did_you_mean
from foundations.examples import choose_examples
from pruning.allocation import allocate
from pruning.hparams import PruningHparams
from pruning.level import DEFAULT_PRUNE_FRACTION, kept_of, prune_fraction_of
from pruning.mask import Mask
from pruning.registry import Direction, Strategy, find_strategy
from pruning.schedule import kept_after_each_iteration
from pruning.scoring import Examples, Loss, Scores, Scoring, batched, mask_of, scores_of, without_trace
from pruning.selection import select

OnIteration = Callable[[int, Mask, Scores], None]


class CollapseWarning(UserWarning):
    """A layer has no weights left: what comes after it no longer sees what comes before it, but by a shortcut."""


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

    strategy: a name of `pruning.registry`. The level is one of `density`, `fraction` (pruned), `compression` and `keep`
    (a number), relative to all prunable weights (`pruning.prunable`); `pruning.level` says how it is rounded.
    iterations, schedule: on the way to the level, the network is scored and pruned this often (`pruning.schedule`).
    allocation: how the level is spread over the layers (`pruning.allocation`).
    highest: whether the highest scores go, in place of the method's own direction.
    examples: (x, y), both with n rows. Where y holds class labels (shape (n,), integers), the N examples of each class
    that a name such as snip10 asks for are chosen with `seed`, unless there are exactly N of each: then, as with other
    targets, all are taken in the order given. They are scored in consecutive batches of `batch_size` (all at once if
    None), which matters to batchnorm in train mode. input_shape: of one example; that of `examples` if None.
    seed: of random scores and of the choice of examples.
    mask: a mask to start from; what it prunes stays pruned. (phew adds walks to it: PHEW_Res.) Where it covers some of
    the prunable weights only, such as Mask.ones(model, (nn.Conv2d,)), the others are left alone and not counted.
    loss: (outputs, y) -> the mean over the batch.
    micro_batch_size: the most examples that are in memory at a time; it changes no score but by rounding.
    on_iteration: called after each iteration with its number (from 1), its mask and its scores.
    options: arguments of the method's own scorer, such as score_per_batch=True for snip.

    Raises: UsageError for anything that is not possible. Warns of layers of which nothing is left (CollapseWarning).
    """
    found = find_strategy(strategy)
    start = _start(model, found, mask)
    target = _number_to_keep(start, found, density, fraction, compression, keep)
    if iterations < 1:
        raise UsageError(f"iterations: {iterations} is not possible; it must be at least 1.")
    _check_options(found, options)
    if found.builds_mask and (allocation != "global" or highest is not None):
        raise UsageError(f"{strategy} makes its mask by itself; neither allocation nor highest is possible.")
    if target in (start.kept, start.total):
        return start if target == start.kept else start.union(start.invert())
    shape = input_shape if input_shape is not None or examples is None else tuple(examples[0].shape[1:])
    if found.needs_input_shape and shape is None:
        raise UsageError(f"input_shape: {strategy} needs the shape of one example, such as (3, 32, 32).")
    remove: Direction = found.removes if highest is None else ("highest" if highest else "lowest")
    with without_trace(next(iter(model.parameters())).device, seed):
        scoring = Scoring(
            model,
            start,
            found,
            batches=batched(_examples_for(found, examples, seed), batch_size),
            input_shape=shape,
            loss=loss,
            seed=seed,
            in_eval_mode=bool(options.pop("score_in_eval_mode", False)),
            micro_batch_size=micro_batch_size,
            prepare_options={name: options.pop(name) for name in found.prepare_options if name in options},
        )
        if found.builds_mask:
            return mask_of(found, scoring, target, options).for_model(model)
        order = scoring.order_of_layers() if allocation == "smart_ratio" else None
        groups = [
            (group, kept_after_each_iteration(group.kept, kept, iterations, schedule))
            for group, kept in allocate(allocation, start, target, order)
        ]
        mask = start
        for iteration in range(iterations):
            scoring.set_mask(mask)
            scores = scores_of(found, scoring, options)
            candidates = start if found.revives else mask
            mask = _selected(scores, candidates, [(group, kept[iteration]) for group, kept in groups], remove)
            if on_iteration is not None:
                on_iteration(iteration + 1, mask, scores)
    _warn_of_collapse(start, mask)
    return mask.remember({})


def mask_from_hparams(
    model: nn.Module,
    hparams: PruningHparams,
    *,
    examples: Examples | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    input_shape: tuple[int, ...] | None = None,
    mask: Mask | None = None,
    loss: Loss = F.cross_entropy,
    on_iteration: OnIteration | None = None,
) -> Mask:
    """Return the mask that hyperparameters describe; `seed` and `batch_size` are for what they leave open.

    Layers to ignore keep what they have. As in OpenLTH they count in the level, so the other layers lose more.
    Raises: UsageError, also where ignored layers are not the model's, or hold more than the level leaves.
    """
    strategy = hparams.found_strategy
    ignored = _ignored(hparams, mask or Mask.ones(model))
    start = mask
    if ignored:
        whole = _start(model, strategy, mask)
        start = Mask({name: tensor for name, tensor in whole.items() if name not in ignored})
    keep = kept_of(Mask.ones(model).total, hparams.level) - sum(Mask(ignored).kept_per_layer().values())
    if keep < 0:
        raise UsageError(
            f"these layers alone hold {-keep} weights more than the level leaves. Ignore fewer layers, or prune less.",
            "pruning_layers_to_ignore",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)  # the report names collapsed layers
        found = prune(
            model,
            hparams.strategy,
            keep=keep,
            iterations=hparams.prune_iterations,
            schedule=hparams.prune_schedule,
            allocation=hparams.allocation,
            highest=None if strategy.builds_mask else hparams.removes == "highest",
            examples=examples,
            batch_size=hparams.score_batch_size or batch_size,
            seed=seed,
            mask=start,
            input_shape=input_shape,
            loss=loss,
            on_iteration=on_iteration,
            **{option: getattr(hparams, option) for option in strategy.all_options},
        )
    return Mask({**found, **ignored}, model)


def _warn_of_collapse(start: Mask, mask: Mask) -> None:
    before, after = start.kept_per_layer(), mask.kept_per_layer()
    collapsed = [name for name in mask if before[name] and not after[name]]
    if collapsed:
        words = "all layers" if not mask.kept else ", ".join(collapsed[:4]) + (", ..." if len(collapsed) > 4 else "")
        message = f"nothing is left of {words} ({len(collapsed)} of {len(mask)} layers)"
        warnings.warn(message, CollapseWarning, stacklevel=3)


def _ignored(hparams: PruningHparams, mask: Mask) -> dict[str, torch.Tensor]:
    names = [name for name in (hparams.pruning_layers_to_ignore or "").split(",") if name]
    for name in names:
        if name not in mask:
            raise UsageError(
                f"there is no prunable tensor '{name}'.{did_you_mean(name, mask)} Possible: {', '.join(mask)}.",
                "pruning_layers_to_ignore",
            )
    return {name: mask[name] for name in names}


def _start(model: nn.Module, strategy: Strategy, mask: Mask | None) -> Mask:
    if mask is not None:
        return mask.for_model(model)
    ones = Mask.ones(model)
    return ones.invert() if strategy.builds_mask else ones


def _number_to_keep(
    start: Mask,
    strategy: Strategy,
    density: float | None,
    fraction: float | None,
    compression: float | None,
    keep: int | None,
) -> int:
    level = prune_fraction_of(
        prune_fraction=fraction, density=density, compression=compression, names=("fraction", "density", "compression")
    )
    if keep is not None and level is not None:
        raise UsageError("keep: it excludes density, fraction and compression. Give one of them.")
    number = keep if keep is not None else kept_of(start.total, DEFAULT_PRUNE_FRACTION if level is None else level)
    lowest, highest = (start.kept, start.total) if strategy.builds_mask else (0, start.kept)
    if not lowest <= number <= highest:
        raise UsageError(
            f"{number} of {start.total} weights cannot be kept: the mask to start from keeps {start.kept}."
        )
    return number


def _check_options(strategy: Strategy, options: dict[str, Any]) -> None:
    possible = strategy.all_options
    for option in options:
        if option not in possible:
            words = f"it takes {', '.join(possible)}" if possible else "it takes no options"
            raise UsageError(f"{option}: this is no option of {strategy.name}; {words}.")


def _examples_for(strategy: Strategy, examples: Examples | None, seed: int) -> Examples | None:
    per_class = strategy.examples_per_class
    if per_class is None:
        return None
    if examples is None or len(examples[1]) == 0:
        raise UsageError(f"examples: {strategy.name} scores with examples; pass examples=(x, y).")
    x, y = examples
    if len(x) != len(y):
        raise UsageError(f"examples: there are {len(x)} inputs and {len(y)} targets.")
    if y.dim() != 1 or y.is_floating_point():
        return examples
    if set(Counter(y.tolist()).values()) == {per_class}:
        return examples
    chosen = choose_examples(y, per_class, seed)
    return x[chosen.to(x.device)], y[chosen.to(y.device)]


def _selected(scores: Scores, mask: Mask, groups: list[tuple[Mask, int]], remove: Direction) -> Mask:
    if len(groups) == 1:
        return select(scores, mask, groups[0][1], remove)
    parts = [
        select({name: scores[name] for name in group}, Mask({name: mask[name] for name in group}), keep, remove)
        for group, keep in groups
    ]
    return mask._like({name: tensor for part in parts for name, tensor in part.items()})
