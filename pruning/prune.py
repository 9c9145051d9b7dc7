"""`prune`: score, allocation, schedule and selection in one call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import nn

from foundations.errors import UsageError, choose_from
from pruning.compute_mask import OnIteration, mask_from_hparams, starting_mask
from pruning.examples import Examples
from pruning.hparams import DEFAULT_LAYERS, PruningHparams
from pruning.masks.mask import Mask
from pruning.registry import METHODS
from pruning.rounding import NEAREST
from pruning.scoring.arguments import plain, shape_of_example, whole_number
from pruning.scoring.inputs import ScoringInputs
from pruning.scoring.outputs import Loss, Objective, Output
from pruning.structure.structure import SKIP
from pruning.weights.left_out import warn_of_left_out
from pruning.weights.prunable import Choice

_ELSEWHERE = {
    **dict.fromkeys(
        ("sparsity", "amount", "pruning_ratio", "target_sparsity", "prune_rate", "prune_ratio"), "fraction"
    ),
    "prune_fraction": "fraction",
    "prune_iterations": "iterations",
    "prune_schedule": "schedule",
    "score_batch_size": "batch_size",
}
"""Arguments of `prune` by their names in other libraries and in jobs."""


class CollapseWarning(UserWarning):
    """A layer has no weights left: only shortcuts still carry information past it."""


def prune(
    model: nn.Module,
    strategy: str,
    *,
    density: float | None = None,
    fraction: float | None = None,
    compression: float | None = None,
    effective_density: float | None = None,
    keep: int | None = None,
    iterations: int = 1,
    schedule: str = "exponential",
    rounding: str = NEAREST,
    allocation: str = "global",
    structure: str | None = None,
    structure_uneven: str = SKIP,
    highest: bool | None = None,
    invert_scores: bool = False,
    examples: Examples | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    mask: Mask | None = None,
    input_shape: tuple[int, ...] | None = None,
    loss: Loss = F.cross_entropy,
    output: Output | None = None,
    prunable_layers: str | Sequence[Choice] = DEFAULT_LAYERS,
    pruning_layers_to_ignore: str | None = None,
    prune_bias: bool = False,
    prune_batchnorm: bool = False,
    micro_batch_size: int | None = None,
    on_iteration: OnIteration | None = None,
    **options: Any,
) -> Mask:
    """Return a mask that keeps exactly the requested number of weights. The model is not changed.

        mask = prune(model, "snip10", density=0.1, examples=(x, y))
        mask.apply_(model)

    strategy: the name of a method (`pruning.registry`). The level is one of `density`, `fraction` (pruned),
    `compression` and `keep` (a number), relative to all prunable weights (`pruning.weights.prunable`);
    `pruning.level` rounds it; by default a fraction of 0.8 is pruned. Or it is the `effective_density`, of kept weights
    on paths of kept weights from input to output: then the fewest weights with that density are kept.
    iterations, schedule: the number of times that the network is scored and pruned, and the schedule of the number of
    kept weights. allocation: the allocation of the level to the layers.
    structure: N:M keeps N of every M consecutive inputs of a neuron, such as 2:4, which is the level. structure_uneven:
    the treatment of first convolutions, convolutions in groups, and inputs that M does not divide: 'skip' leaves them
    dense, 'pad' gives them a shorter group at the end, 'flatten' groups across places of the kernel and neurons.
    rounding: of the number of pruned weights, by default to the nearest, the first of equal scores being pruned;
    'synaptic_flow', 'openlth' and 'force' round as these code bases do (`pruning.rounding`).
    highest: whether the highest scores are pruned; by default, the method decides. invert_scores: rank by 1 / score.
    examples: inputs and targets, each a row for every example: (x, y), tensors or arrays, where x may be a tuple or a
    dictionary of arguments; a dictionary with `labels`; a list of such batches; a DataLoader; or a Dataset. If the
    targets are class labels (one integer or bool each, of any values), the N examples of each class that a name such as
    snip10 asks for are chosen with `seed`, unless there are exactly N of each: then, as with other targets, all are
    taken in the order given; with score_examples="drawn", they are drawn from all classes together. Of a DataLoader or
    a Dataset with class labels, the first N of each class are read. Methods score them in consecutive batches of
    `batch_size` (by default all at once), which matters to batchnorm in train mode. input_shape: of one example; by
    default that of `examples`.
    seed: of random scores and of the choice of examples.
    mask: a mask to start from; its pruned weights stay pruned. (phew adds walks to it: PHEW_Res.) If it covers only
    some of the prunable weights, such as Mask.ones(model, (nn.Conv2d,)), the others are neither pruned nor counted.
    loss: (outputs, y) -> the mean over the batch; by default the cross-entropy of the logits (`pruning.scoring.outputs`
    chooses among several outputs), or the loss that the network itself returns. output: a function from the network's
    outputs to the tensor that is scored.
    prunable_layers: the layers that are pruned and counted (`docs/prunable.md`): all convolutions and linear layers by
    default, or types and names, such as (nn.LSTM, nn.Linear) or "all,LSTM,embed.*". prune_bias, prune_batchnorm:
    whether biases of these layers and scales of batchnorm are pruned and counted, too. pruning_layers_to_ignore:
    tensors that are counted and not pruned.
    micro_batch_size: the most examples that are in memory at a time; it changes scores only by rounding.
    on_iteration: called after each iteration with its number (from 1), its mask and its scores.
    options: the method's own hyperparameters, such as score_per_batch=True for snip.

    Raises: UsageError for any argument that is not valid. Warns of layers with no weights left (CollapseWarning), of
    weights that are not prunable by default or stay without the structure (UnprunedWarning), and of scores that are all
    equal (TiesWarning).
    """
    if not isinstance(strategy, str):
        raise UsageError(f"{strategy!r} is not a valid value; it takes the name of a method.", "strategy")
    keep = whole_number(keep, "keep")
    choices = prunable_layers.split(",") if isinstance(prunable_layers, str) else list(prunable_layers)
    by_type = any(not isinstance(choice, str) for choice in choices)
    hparams = _hparams_with(
        strategy,
        options,
        prune_fraction=fraction,
        density=density,
        compression=compression,
        effective_density=effective_density,
        prune_iterations=iterations,
        prune_schedule=schedule,
        rounding=rounding,
        allocation=allocation,
        structure=structure,
        structure_uneven=structure_uneven,
        prune_highest=bool(highest),
        prune_lowest=highest is not None and not highest,
        invert_scores=invert_scores,
        prunable_layers=DEFAULT_LAYERS if by_type else ",".join(map(str, choices)),
        pruning_layers_to_ignore=pruning_layers_to_ignore,
        prune_bias=prune_bias,
        prune_batchnorm=prune_batchnorm,
    )
    if keep is not None and any(level is not None for level in (density, fraction, compression, effective_density)):
        raise UsageError("it excludes density, fraction, compression and effective_density; give one of them.", "keep")
    if keep is not None and structure is not None:
        raise UsageError(f"{structure} says how many weights each group keeps; leave it out.", "keep")
    if keep is not None and rounding != NEAREST:
        raise UsageError(f"it rounds a level; give density, fraction or compression with {rounding}.", "rounding")
    if hparams.replaces_weights is not None:
        raise UsageError(
            "prune returns a mask and leaves the weights as they are; jobs take it.", hparams.replaces_weights
        )
    start = starting_mask(model, hparams, mask, choices if by_type else None)
    if mask is None and choices == [DEFAULT_LAYERS]:
        warn_of_left_out(model, start, stacklevel=2)
    inputs = ScoringInputs(
        seed=seed,
        examples=examples,
        batch_size=whole_number(batch_size, "batch_size", 1),
        input_shape=shape_of_example(input_shape),
        objective=Objective(loss, output),
        micro_batch_size=whole_number(micro_batch_size, "micro_batch_size", 1),
    )
    found = mask_from_hparams(model, hparams, inputs, keep=keep, mask=start, on_iteration=on_iteration)
    _warn_of_collapse(start, found)
    return found


def _hparams_with(strategy: str, options: Mapping[str, Any], **shared: Any) -> PruningHparams:
    """Return the hyperparameters of a method. Raises: UsageError for an option that is not the method's own."""
    kind = METHODS.find(strategy).hparams
    own = [name for name in kind.names() if name not in PruningHparams.names()]
    for option, value in options.items():
        if option not in own:
            if option in _ELSEWHERE:
                is_number = option == "amount" and isinstance(value, int) and not isinstance(value, bool)
                call = f"keep=N - {value}, of N weights" if is_number else f"{_ELSEWHERE[option]}={value!r}"
                raise UsageError(f"it is not an argument here; the same is {call}.", option)
            taken = choose_from(option, own) if own else ", which takes none."
            raise UsageError(f"it is not an option of {strategy}{taken}", option)
    return kind(strategy=strategy, **{name: plain(value) for name, value in {**shared, **options}.items()})


def _warn_of_collapse(start: Mask, mask: Mask) -> None:
    before, after = start.kept_per_layer(), mask.kept_per_layer()
    collapsed = [name for name in mask if before[name] and not after[name]]
    if collapsed:
        words = "all layers" if not mask.kept else ", ".join(collapsed[:4]) + (", ..." if len(collapsed) > 4 else "")
        message = f"nothing is left of {words} ({len(collapsed)} of {len(mask)} layers)"
        warnings.warn(message, CollapseWarning, stacklevel=3)
