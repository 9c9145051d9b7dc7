"""Masks of runs: scoring a network with its dataset, and keeping a mask and its report in the run's directory."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from datasets.hparams import DatasetHparams
from datasets.loading.batches import LoaderConfig
from datasets.loading.loader import open_loader
from datasets.tasks.classification import Classification
from datasets.tasks.task import Task
from foundations.inputs import Inputs
from foundations.storage.run import Run
from pruning.compute_mask import TiesWarning, mask_from_hparams
from pruning.hparams import DEFAULT_LAYERS, ExamplesHparams, PruningHparams
from pruning.level import kept_of
from pruning.masks.mask import Mask
from pruning.report import sparsity_report
from pruning.scoring.inputs import ScoringInputs, one_example
from pruning.scoring.outputs import Objective, OutputsWarning
from pruning.scoring.score_statistics import Statistics
from pruning.scoring.scoring import Scores
from pruning.structure.structure import SKIP, CountedStructure
from pruning.weights.grouped import grouped
from pruning.weights.left_out import UnprunedWarning, left_out
from training.context import Context
from training.without_effect import WithoutEffectWarning

_SCORES_AGAIN = "The same command scores again from the start, and reuses what was complete."


def prune_with_data(
    model: nn.Module,
    pruning: PruningHparams,
    start: Mask | None,
    inputs: ScoringInputs,
    context: Context,
    on_scores: Callable[[Scores], None] | None = None,
) -> Mask:
    """Return the mask that a strategy prunes from `start`, scoring `model`.

    Tensors of `start` that are not prunable stay as they are, and do not count in the level.

    inputs: see `scoring_inputs`. on_scores: called with the scores of the last iteration.
    """

    def on_iteration(done: int, _: Mask, scores: Scores) -> None:
        context.reporter.progress("prune", done, pruning.prune_iterations, "iterations")
        if on_scores is not None and done == pruning.prune_iterations:
            on_scores(scores)

    with saying_warnings(context), context.interrupts.at_once(_SCORES_AGAIN):
        return prune_part(model, pruning, start, inputs, on_iteration=on_iteration)


def prune_part(
    model: nn.Module, pruning: PruningHparams, start: Mask | None, inputs: ScoringInputs, **arguments: Any
) -> Mask:
    """Return the mask of `mask_from_hparams`; tensors of `start` that are not prunable are left out of it.

    They stay as they are, and do not count in the level. arguments: further ones of `mask_from_hparams`.
    """
    part, rest = (None, {}) if start is None else _split(model, pruning, start)
    found = mask_from_hparams(model, pruning, inputs, mask=part, **arguments)
    return found.with_tensors({**found, **rest}) if rest else found


@contextlib.contextmanager
def saying_warnings(context: Context) -> Iterator[None]:
    """Inside the block, report warnings of pruning and of techniques in place of Python's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if issubclass(warning.category, UnprunedWarning | TiesWarning | OutputsWarning | WithoutEffectWarning):
            context.reporter.say(f"Warning: {warning.message}")
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def say_left_out(model: nn.Module, pruning: PruningHparams | None, mask: Mask, context: Context) -> None:
    """Report the weights that are not prunable by default, unless prunable weights were requested."""
    if pruning is None or pruning.prunable_layers == DEFAULT_LAYERS:
        found = left_out(model, mask)
        if found is not None:
            context.reporter.say(f"Warning: {found}".replace("prunable_layers", "--prunable_layers"))


def scoring_inputs(
    pruning: PruningHparams, dataset: DatasetHparams, context: Context, device: torch.device, seed: int
) -> ScoringInputs:
    """Return the input of scoring with a dataset; it is prepared and opened only if the strategy needs examples.

    device: the model's device. seed: the seed of random scores and of the choice of examples.
    """
    inputs = ScoringInputs(
        seed=seed,
        batch_size=dataset.batch_size,
        objective=objective_of(dataset.task),
        **one_example(dataset.inputs),
    )
    per_class = pruning.examples_per_class
    if per_class is None:
        return inputs
    context.prepare(dataset.spec.spelling)
    augmented = isinstance(pruning, ExamplesHparams) and pruning.score_examples != "per_class"
    read = dataset if augmented else replace(dataset, do_not_augment=True)  # nothing is prepared for augmentation
    loader = open_loader(read, context.datasets, LoaderConfig(device=device), workers=context.num_workers)
    inputs = replace(inputs, training=lambda: (x for x, _ in loader.plain_train_batches()))
    if isinstance(pruning, ExamplesHparams) and augmented:
        batch = pruning.redrawn_batch(dataset.batch_size)
        return replace(inputs, examples=loader.drawn_examples(per_class, seed, batch))
    return replace(inputs, examples=loader.examples(per_class, seed))


def objective_of(task: Task) -> Objective:
    """Return the scalar that methods differentiate: a task's loss, without smoothing of labels."""
    if isinstance(task, Classification) and type(task).loss is Classification.loss:
        return Objective()

    def mass(targets: torch.Tensor) -> float:
        return len(targets) if task.counts_examples else float(task.count(targets)) / targets[0].numel()

    return Objective(task.loss, mass=mass)


def prunable_part(model: nn.Module, pruning: PruningHparams, mask: Mask) -> Mask:
    """Return the part of a mask that counts in the level of pruning: the prunable weights."""
    return _split(model, pruning, mask)[0]


def _split(model: nn.Module, pruning: PruningHparams, mask: Mask) -> tuple[Mask, dict[str, torch.Tensor]]:
    """Split a mask into the prunable tensors, including the biases and scales that are asked for, and the rest."""
    ones = Mask.to_prune(model, pruning)
    rest = {name: tensor for name, tensor in mask.items() if name not in ones}
    missing = {name: tensor for name, tensor in ones.items() if tensor.dim() == 1 and name not in mask}
    if not rest and not missing:
        return mask, {}
    part = {name: tensor for name, tensor in mask.items() if name in ones}
    return ones.with_tensors({**part, **missing}), rest


@dataclass(frozen=True)
class Requested:
    """The level that was asked for."""

    level: float | None = None
    """The prune fraction; None for the mask's own."""
    effective_density: float | None = None
    """The share of the weights on paths; None if it was not asked for."""
    structure: CountedStructure | None = None
    """The structure, whose groups say how many weights stay; None for none."""
    uneven: str = SKIP
    """The treatment of layers that the structure does not divide."""

    @classmethod
    def of(cls, pruning: PruningHparams) -> Requested:
        """Return the level that hyperparameters ask for."""
        if (structure := pruning.counted) is not None:
            return cls(structure=structure, uneven=pruning.structure_uneven)
        effective = pruning.effective_density
        return cls(None if effective is not None else pruning.level, effective)


def keep_mask(
    run: Run,
    mask: Mask,
    model: nn.Module,
    inputs: Inputs,
    requested: Requested,
    scores: Statistics | None = None,
    *,
    is_outcome: bool = False,
) -> None:
    """Write a mask of `model` and the report on it. The mask is written last: if it exists, its report does too.

    scores: statistics of the scores that chose the mask. is_outcome: whether training has learnt the mask, which the
    report then says.
    """
    kept = None if requested.level is None else kept_of(mask.total, requested.level)
    report = sparsity_report(
        mask,
        kept,
        requested_effective_density=requested.effective_density,
        model=model,
        input_shape=inputs,
        scores=scores,
    )
    if (structure := requested.structure) is not None:
        report["structure"] = grouped(model, list(mask), structure, requested.uneven).report(mask)
    run.save_sparsity(report | ({"is_outcome": True} if is_outcome else {}))
    run.save_mask(*mask.to_tensors())
