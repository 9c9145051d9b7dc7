"""Optimal Brain Damage (LeCun et al. 1990) by Hutchinson's estimate of the diagonal of the Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from foundations.random_streams import generator
from pruning.method import EXAMPLES_PER_CLASS, Method
from pruning.methods.fisher import SecondOrderHparams, hold_batchnorm, saliencies

if TYPE_CHECKING:
    from foundations.examples import Rows
    from pruning.scoring.scoring import Scores, Scoring


@dataclass(frozen=True, kw_only=True)
class HutchinsonHparams(SecondOrderHparams):
    """Pruning of a network by Hutchinson's estimate of the diagonal of the Hessian."""

    hessian_probes: int = hparam(10, at_least=1)
    """The number of random vectors for each batch."""


def hutchinson(scoring: Scoring, hparams: HutchinsonHparams) -> Scores:
    """Return s = ½ w² h, signed, h = Σ_b (n_b / n) (1 / S) Σ_s z ⊙ H_b z: an estimate of the diagonal of the Hessian.

    H_b is the Hessian of the mean loss of batch b with respect to all parameters, biases and batchnorm's too, and z is
    a vector of random signs, another one for each batch and each s. Weights with negative curvature are pruned first.
    Batchnorm is held as in Fisher pruning. saliency: other scores from h.
    """
    hold_batchnorm(scoring, hparams)
    batches = scoring.next_pass()
    return saliencies(scoring, hparams, hessian_diagonal(scoring, hparams, batches), batches)


def hessian_diagonal(scoring: Scoring, hparams: HutchinsonHparams, batches: list[Rows]) -> Scores:
    """Return h at the prunable weights."""
    import torch

    from pruning.scoring.activation_memory import OF_SECOND_DERIVATIVES

    at = {name: tensor.requires_grad_() for name, tensor in scoring.parameters().items()}
    weights = {name: at[name] for name in scoring.weights}
    found: Scores = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
    for number, (batch, share) in enumerate(scoring.shares(batches)):
        for part, weight in scoring.parts([batch], OF_SECOND_DERIVATIVES):
            loss = scoring.loss_of(part, at, temperature=hparams.curvature_temperature, create_graph=True)
            gradient = scoring.gradient_of(loss, at, create_graph=True)
            for sample in range(hparams.hessian_probes):
                signs = probe(scoring, at, number * hparams.hessian_probes + sample)
                is_last = sample == hparams.hessian_probes - 1
                product = scoring.hessian_times(gradient, signs, weights, retain_graph=not is_last)
                for name, total in found.items():
                    total.addcmul_(signs[name], product[name], value=share * weight / hparams.hessian_probes)
    return found


def probe(scoring: Scoring, like: Scores, number: int) -> Scores:
    """Return the random signs of a probe (from 0), for each tensor; zero where the mask prunes.

    Tests put recorded ones in the place of this function.
    """
    import torch

    stream = generator("hutchinson probe", scoring.seed, number)
    signs: Scores = {}
    for name, tensor in sorted(like.items()):  # whatever the order in which layers are registered
        drawn = torch.empty(tensor.shape, dtype=tensor.dtype).bernoulli_(0.5, generator=stream).mul_(2).sub_(1)
        signs[name] = drawn * scoring.mask[name].cpu() if name in scoring.mask else drawn
    return {name: signs[name].to(tensor.device) for name, tensor in like.items()}


HUTCHINSON = Method(
    spelling="hutchinsonN",
    known_as=("obd", "hessian", "hessian_diagonal", "second_order"),
    pattern=f"hutchinson{EXAMPLES_PER_CLASS}",
    examples=("hutchinson10",),
    paper="LeCun et al. 1990, Optimal Brain Damage, with Hutchinson's estimate of the diagonal of the Hessian",
    passes=(
        "one forward pass for batchnorm, one forward and backward pass, and 10 products with a Hessian for each batch "
        "(--hessian_probes); another forward and backward pass for a first-order term"
    ),
    tested_against="Gollini/Scalable_Second_Order_PaI",
    differences=(
        "In the code of Gollini et al., the logits are divided by 200 (--curvature_temperature=200 "
        "--gradient_temperature=200), batches have one example (--score_batch_size=1), batchnorm has its stored "
        "statistics (--score_in_eval_mode), and int(N d) weights are kept (--rounding=second_order)."
    ),
    hparams=HutchinsonHparams,
    score=hutchinson,
    stochastic=True,
)
