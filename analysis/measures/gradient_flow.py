"""Gradient flow (Wang et al. 2020; Evci et al. 2022): the norm of the loss's gradient over the kept weights.

    flow(θ) = ‖g‖²,   g = ∂L/∂θ over the kept weights,   L the mean cross-entropy of N examples:

to first order, the rate at which gradient descent reduces the loss. Pruning changes it from the flow of all dense
weights to the flow of the kept weights of the masked network. The gradient is computed as in GraSP: batch normalization
by the statistics of each batch, no dropout, no autocast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.measures.data import DataOptions, Examples
from analysis.measures.layers import in_order
from analysis.measures.measure import Columns, Measure, Measured
from foundations.description.desc import StateOf
from foundations.description.hparams import hparam
from pruning.hparams import PruningHparams

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.measures.inputs import MeasuredRun, Measuring
    from datasets.loading.batches import Batch
    from datasets.tasks.task import Task
    from foundations.description.step import Step
    from pruning.masks.mask import Mask


@dataclass(frozen=True, kw_only=True)
class GradientFlowOptions(DataOptions):
    """State and examples to measure."""

    step: str = hparam("0it", step=True)
    """The step whose weights are measured."""
    split: str = hparam("train", choices=("train", "test"))
    """The set of the examples: train (the run's training set) or test."""
    examples: int = hparam(1000, at_least=1)
    """The number of examples, from the beginning of the set."""


def compute(measuring: Measuring, options: GradientFlowOptions, run: MeasuredRun) -> Measured:
    """Return gradient_norm and its square gradient_flow.

    At the first step of a run that puts a mask on the weights of an unmasked run, also return dense_gradient_norm and
    dense_gradient_flow, of the same weights without mask, and flow_ratio = gradient_flow / dense_gradient_flow. For
    each layer, the table has the norm, the norm over its dense weights, and over those dense weights that the mask
    keeps.
    """
    from pruning.masks.mask import Mask

    step = run.step(options.step)
    model = run.model(step).to(measuring.device)
    mask = run.mask_at(step) or Mask.ones(model)
    batches = list(Examples(measuring, run, options))
    layers = in_order(model, mask)
    kept = mask.kept_per_layer()
    norms = _norms(loss_gradient(model, mask, batches, run.trained.dataset.task), mask)
    table: Columns = {
        "layer": layers,
        "size": [mask[name].numel() for name in layers],
        "kept": [kept[name] for name in layers],
        "gradient_norm": [norms[name] for name in layers],
    }
    values = _totals("", norms)
    dense = dense_weights(run, step, mask)
    if dense is not None:
        whole = mask.union(mask.invert())
        model.load_state_dict({**model.state_dict(), **dense})
        gradient = loss_gradient(model, whole, batches, run.trained.dataset.task)
        dense_norms, of_kept = _norms(gradient, whole), _norms(gradient, mask)
        table["dense_gradient_norm"] = [dense_norms[name] for name in layers]
        table["dense_gradient_norm_of_kept"] = [of_kept[name] for name in layers]
        values |= _totals("dense_", dense_norms)
        before, after = values["dense_gradient_flow"], values["gradient_flow"]
        values["flow_ratio"] = after / before if before else math.nan
    return Measured(values=values, table=table)


def loss_gradient(model: nn.Module, mask: Mask, batches: list[Batch], task: Task) -> dict[str, Tensor]:
    """Return the gradient of the task's mean loss of the masked model with respect to the mask's tensors."""
    import torch

    from foundations.examples import Rows
    from pruning.scoring.inputs import ScoringInputs
    from pruning.scoring.scoring import open_scoring
    from training.masking import objective_of

    rows = Rows.of(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
    scored = ScoringInputs(seed=0, examples=rows, batch_size=len(batches[0][1]), objective=objective_of(task))
    with open_scoring(model, _as_grasp(), mask, scored) as scoring:
        return scoring.gradient()


def dense_weights(run: MeasuredRun, step: Step, mask: Mask) -> dict[str, Tensor] | None:
    """Return the unmasked weights, by name, that a run put its mask on at its first step; None if there are none."""
    import torch

    source = run.description.sources().get("state")
    if not isinstance(source, StateOf) or source.run.desc.mask_step is not None or step != run.description.start:
        return None
    weights, own = run.parents["state"].state(source.step), run.state(step)
    dense = {name: weights[name] for name in mask if name in weights and weights[name].shape == mask[name].shape}
    # A technique may change the parent's weights before the first step.
    is_masked = all(name in dense and torch.equal(dense[name] * kept, own[name]) for name, kept in mask.items())
    return dense if is_masked else None


def _norms(gradient: Mapping[str, Tensor], mask: Mask) -> dict[str, float]:
    """Return the norm of the gradient of the kept weights, by tensor."""
    return {name: float(part.cpu().double()[mask[name]].norm()) for name, part in gradient.items()}


def _totals(prefix: str, norms: Mapping[str, float]) -> dict[str, float]:
    flow = math.fsum(norm**2 for norm in norms.values())
    return {f"{prefix}gradient_norm": math.sqrt(flow), f"{prefix}gradient_flow": flow}


def _as_grasp() -> PruningHparams:
    return PruningHparams.of({"strategy": "grasp1"})


GRADIENT_FLOW = Measure(
    spelling="gradient_flow",
    summary="norm of the loss's gradient over the kept weights, and its change by pruning",
    paper="Evci et al. 2022, Gradient Flow in Sparse Neural Networks and How Lottery Tickets Win",
    options=GradientFlowOptions,
    compute=compute,
    scores_with=lambda _: _as_grasp(),
)
