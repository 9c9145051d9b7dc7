"""ProsPr (Alizadeh et al. 2022): weights to which the loss after a few steps is least sensitive are pruned."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from foundations.description.hparams import hparam
from foundations.errors import UsageError
from pruning.hparams import ExamplesHparams
from pruning.method import EXAMPLES_PER_CLASS, Method

if TYPE_CHECKING:
    from foundations.examples import Rows
    from pruning.scoring.scoring import Scores, Scoring


@dataclass(frozen=True, kw_only=True)
class ProsprHparams(ExamplesHparams):
    """Pruning of a network by ProsPr."""

    inner_steps: int = hparam(3, at_least=0)
    """The number of SGD steps before the loss that is differentiated. 0 is SNIP."""

    inner_lr: float = hparam(0.1, at_least=0)
    """The learning rate of these steps."""

    inner_momentum: float = hparam(0.0, at_least=0, at_most=1)
    """The momentum of these steps."""

    meta_gradient: str = hparam("full", choices=("full", "first_order"))
    """'full' differentiates through the steps; 'first_order' takes their gradients as constants."""

    inner_momentum_detached: bool = hparam(False)
    """With momentum, take the gradient of the first step as a constant, as the published code does."""

    inner_new_batches: bool = hparam(False)
    """Take a new batch (--score_batch_size) for each step and for the loss after them, rather than all examples each
    time. After the last batch comes the first one again.
    """

    def simplified(self) -> Self:
        """Return equal hyperparameters in canonical form: no --inner_momentum_detached where it changes nothing."""
        simple = super().simplified()
        is_idle = not simple.inner_momentum or simple.meta_gradient == "first_order" or not simple.inner_steps
        return simple.replaced({"inner_momentum_detached": False}) if is_idle else simple


def prospr(scoring: Scoring, hparams: ProsprHparams) -> Scores:
    """Return s = |∂L(θ_T)/∂m|, θ_0 = m ⊙ w, θ_{t+1} = θ_t - α u_t, u_t = μ u_{t-1} + ∂L/∂θ(θ_t), u_{-1} = 0.

    All parameters take the steps, biases and batchnorm's too, each batch normalized by its own statistics; weights that
    the mask prunes stay zero. The derivative goes back step by step, from a_T = ∂L/∂θ(θ_T) and b_T = 0:

        b_t = μ b_{t+1} - α a_{t+1},  a_t = a_{t+1} + H_t b_t,  s = |a_0 ⊙ w|

    where H_t is the Hessian at θ_t. first_order: H_t = 0.
    """
    at, moved, batches = scoring.parameters(), scoring.parameters(), _batches(scoring, hparams.inner_new_batches)
    steps: list[_Step] = []
    velocity: Scores = {name: weight.new_zeros(weight.shape) for name, weight in at.items()}
    for number in range(hparams.inner_steps):
        detached = hparams.inner_momentum > 0 and hparams.inner_momentum_detached and number == 0
        is_curved = hparams.meta_gradient == "full" and not detached
        step = _Step(scoring, moved, next(batches), hparams.inner_steps if is_curved else 0)
        velocity = _sum(hparams.inner_momentum, velocity, 1.0, step.gradient)
        moved = _sum(1.0, moved, -hparams.inner_lr, velocity)
        steps.append(step)
    adjoint = scoring.gradient(weights=moved, batches=next(batches))
    of_velocity: Scores = {name: weight.new_zeros(weight.shape) for name, weight in at.items()}
    for step in reversed(steps):
        of_velocity = _sum(hparams.inner_momentum, of_velocity, -hparams.inner_lr, adjoint)
        if step.is_curved:
            adjoint = _sum(1.0, adjoint, 1.0, step.hessian_times(of_velocity))
    scores = {name: (at[name] * adjoint[name]).abs() for name in scoring.weights}
    _check_finite(scores, steps, hparams)
    return scores


class _Step:
    """An inner step: the gradient at some parameters, and products with the Hessian there.

    The graph of the gradient is kept until the product, unless the graphs of all steps would need more memory than the
    bound on activations; then it is computed again.
    """

    def __init__(self, scoring: Scoring, at: Scores, batches: list[Rows], curved_steps: int) -> None:
        """curved_steps: the number of steps whose graphs are kept at a time; 0 if no product is needed."""
        from pruning.scoring.activation_memory import OF_SECOND_DERIVATIVES

        self._scoring, self._batches, self.is_curved = scoring, batches, curved_steps > 0
        self._at = {name: weight.detach().requires_grad_() for name, weight in at.items()}
        memory = OF_SECOND_DERIVATIVES * curved_steps * len(batches)
        if self.is_curved and scoring.examples_at_once(memory) is None:
            self._graphs: list[tuple[Scores, float]] | None = list(self._differentiable())
            found = _weighted([({n: g.detach() for n, g in graph.items()}, share) for graph, share in self._graphs])
        else:
            self._graphs = None
            found = scoring.gradient(weights=at, batches=batches)
        self.gradient = self._masked(found)

    def hessian_times(self, vector: Scores) -> Scores:
        """Return Hv on the parameters that the mask keeps. Frees the graph."""
        vector = self._masked(vector)
        graphs = self._differentiable() if self._graphs is None else self._graphs
        products = ((self._scoring.hessian_times(graph, vector, self._at), share) for graph, share in graphs)
        found = _weighted(products)
        self._graphs = None
        return found

    def _differentiable(self) -> Iterator[tuple[Scores, float]]:
        """Yield the gradient of each part of the batches, with its graph, and the weight of the part."""
        from pruning.scoring.activation_memory import OF_SECOND_DERIVATIVES

        for part, share in self._scoring.parts(self._batches, OF_SECOND_DERIVATIVES):
            loss = self._scoring.loss_of(part, self._at, create_graph=True)
            yield self._scoring.gradient_of(loss, self._at, create_graph=True), share

    def _masked(self, tensors: Scores) -> Scores:
        mask = self._scoring.mask
        return {n: tensor * mask[n].to(tensor.device) if n in mask else tensor for n, tensor in tensors.items()}


def _batches(scoring: Scoring, are_new: bool) -> Iterator[list[Rows]]:
    """Yield the batches of each step: all of a pass, or one after the other."""
    while True:
        batches = scoring.next_pass()
        if are_new:
            yield from ([batch] for batch, _ in scoring.shares(batches))
        else:
            yield batches


def _sum(factor: float, tensors: Scores, other_factor: float, others: Scores) -> Scores:
    return {name: factor * tensor + other_factor * others[name] for name, tensor in tensors.items()}


def _weighted(terms: Any) -> Scores:
    total: Scores = {}
    for tensors, share in terms:
        total = _sum(1.0, total, share, tensors) if total else {name: share * part for name, part in tensors.items()}
    return total


def _check_finite(scores: Scores, steps: list[_Step], hparams: ProsprHparams) -> None:
    """Check that the inner steps did not diverge. Raises: UsageError."""

    def is_finite(tensors: Scores) -> bool:
        return all(math.isfinite(float(tensor.sum())) for tensor in tensors.values())

    if steps and is_finite(steps[0].gradient) and not is_finite(scores):
        raise UsageError(f"the inner steps diverge at {hparams.inner_lr:g}; choose a smaller one.", "inner_lr")


PROSPR = Method(
    spelling="prosprN",
    known_as=("prospect_pruning", "meta_gradients"),
    pattern=f"prospr{EXAMPLES_PER_CLASS}",
    examples=("prospr10",),
    paper="Alizadeh et al. 2022, Prospect Pruning: Finding Trainable Weights at Initialization using Meta-Gradients",
    passes="T forward and backward passes, T products with a Hessian, and one more forward and backward pass (T = 3)",
    tested_against="mil-ad/prospr",
    differences=(
        "With momentum, its code takes the gradient of the first step as a constant (--inner_momentum_detached). It "
        "keeps ceil(N d) weights (--rounding=prospr). Pruning of channels is left out."
    ),
    hparams=ProsprHparams,
    score=prospr,
)
