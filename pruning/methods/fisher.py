"""Fisher pruning (Theis et al. 2018, equation 8; the diagonal of Optimal Brain Damage, LeCun et al. 1990).

Its options, and the scores that they choose, are also those of Hutchinson's estimate of the Hessian (`hutchinson`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from foundations.description.hparams import hparam
from foundations.errors import UsageError
from pruning.hparams import BatchesHparams
from pruning.method import EXAMPLES_PER_CLASS, Method

if TYPE_CHECKING:
    from foundations.examples import Rows
    from pruning.scoring.scoring import Scores, Scoring

OBD, DIAGONAL, TAYLOR, TAYLOR_PLUS = "obd", "diagonal", "taylor", "taylor_plus"


@dataclass(frozen=True, kw_only=True)
class HeldBatchnormHparams(BatchesHparams):
    """Pruning of a network by a method that holds batchnorm's statistics constant.

    They are taken beforehand over the scoring examples (their batches averaged) or over the training set; with
    score_in_eval_mode they are the stored ones, at initialization mean 0 and variance 1.
    """

    batchnorm_warmup: bool = hparam(False)
    """Set batchnorm's statistics by a pass over the training set beforehand, not augmented (its batches averaged)."""

    def validate(self) -> None:
        """Check that the statistics have one source."""
        super().validate()
        if self.batchnorm_warmup and self.score_in_eval_mode:
            raise UsageError(
                "one sets batchnorm's statistics and the other keeps the stored ones; give one of them.",
                "batchnorm_warmup",
                "score_in_eval_mode",
            )


@dataclass(frozen=True, kw_only=True)
class SecondOrderHparams(HeldBatchnormHparams):
    """Pruning of a network by a diagonal of second derivatives."""

    saliency: str = hparam(OBD, choices=(OBD, DIAGONAL, TAYLOR, TAYLOR_PLUS))
    """The score from the diagonal c: 'obd' is ½ w² c (Optimal Brain Damage), 'diagonal' c itself.

    'taylor' is |-w g + ½ w² c|, the expansion of the change of the loss if the weight is pruned, g being the gradient.
    'taylor_plus' is |w g + ½ w² c|, as published by Gollini et al.
    """

    curvature_temperature: float = hparam(1.0, above=0)
    """Divide the logits by this number in the second-order term."""

    gradient_temperature: float = hparam(1.0, above=0)
    """Divide the logits by this number in the first-order term of 'taylor' and 'taylor_plus'."""

    def simplified(self) -> Self:
        """Return equal hyperparameters in canonical form: no --gradient_temperature without a first-order term."""
        simple = super().simplified()
        return simple if simple.saliency in (TAYLOR, TAYLOR_PLUS) else simple.replaced({"gradient_temperature": 1.0})


@dataclass(frozen=True, kw_only=True)
class FisherHparams(SecondOrderHparams):
    """Pruning of a network by the diagonal of the empirical Fisher matrix."""

    fisher_per_batch: bool = hparam(False)
    """Square the mean gradient of each batch rather than the gradient of each example, as Gollini et al. do."""


def hold_batchnorm(scoring: Scoring, hparams: HeldBatchnormHparams) -> None:
    """Set batchnorm's statistics, and hold them constant (eval mode)."""
    scoring.calibrate_batchnorm(scoring.training_inputs() if hparams.batchnorm_warmup else None)


def saliencies(scoring: Scoring, hparams: SecondOrderHparams, diagonal: Scores, batches: list[Rows]) -> Scores:
    """Return the scores that `saliency` names. diagonal: c, at least of the prunable weights. batches: those of g."""
    if hparams.saliency == DIAGONAL:
        return {name: diagonal[name] for name in scoring.weights}
    second = {name: 0.5 * weight.square() * diagonal[name] for name, weight in scoring.weights.items()}
    if hparams.saliency == OBD:
        return second
    gradient = scoring.gradient(hparams.gradient_temperature, batches=batches)
    sign = 1 if hparams.saliency == TAYLOR_PLUS else -1
    return {name: (sign * weight * gradient[name] + second[name]).abs() for name, weight in scoring.weights.items()}


def fisher(scoring: Scoring, hparams: FisherHparams) -> Scores:
    """Return s = ½ w² F, F = (1 / n) Σ_i (∂L_i/∂w)²: the diagonal of the empirical Fisher matrix, example by example.

    L_i is the loss of example i. A single example has no batch statistics, so batchnorm runs in eval mode on statistics
    taken beforehand over the scoring examples (their batches averaged) and held constant.

    saliency: other scores from F. fisher_per_batch: F = Σ_b (n_b / n) (∂L_b/∂w)² of the mean loss L_b of batch b, which
    is smaller, down to 1 / n_b.
    """
    hold_batchnorm(scoring, hparams)
    batches, temperature = scoring.next_pass(), hparams.curvature_temperature
    if hparams.fisher_per_batch:
        information = scoring.mean_over_batches(_squared, temperature, batches=batches)
    else:
        information = scoring.mean_squared_gradient(temperature, batches=batches)
    return saliencies(scoring, hparams, information, batches)


def _squared(gradient: Scores) -> Scores:
    return {name: part.square() for name, part in gradient.items()}


FISHER = Method(
    spelling="fisherN",
    known_as=("empirical_fisher", "fisher_diagonal", "obd_fisher"),
    pattern=f"fisher{EXAMPLES_PER_CLASS}",
    examples=("fisher10",),
    paper="Theis et al. 2018, Faster gaze prediction with dense networks and Fisher pruning",
    hparams=FisherHparams,
    score=fisher,
    passes=(
        "one forward pass for batchnorm, and one forward and backward pass over each example by itself (vectorized); "
        "another one over the examples for a first-order term"
    ),
    tested_against="Gollini/Scalable_Second_Order_PaI",
    differences=(
        "In the code of Gollini et al., batchnorm has its stored statistics (--score_in_eval_mode), squares are of "
        "batches (--fisher_per_batch), the first-order term has the sign of --saliency=taylor_plus, and int(N d) "
        "weights are kept (--rounding=second_order)."
    ),
)
