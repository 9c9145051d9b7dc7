"""SynFlow (Tanaka et al. 2020, equation 2): weights that carry the least synaptic flow are pruned; no data needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.method import Method

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from pruning.scoring.scoring import Scores, Scoring


@dataclass(frozen=True, kw_only=True)
class SynflowHparams(PruningHparams):
    """Pruning of a network by SynFlow."""

    synflow_means: str = hparam("absolute", choices=("absolute", "stored", "added"))
    """SynFlow's treatment of the running means that batchnorm subtracts.

    'absolute': takes their absolute values, as Synaptic-Flow does. 'stored': leaves them as they are, as the OpenLTH
    fork does. 'added': adds the absolute values instead of subtracting them.
    """

    score_in_train_mode: bool = hparam(False)
    """Score with batchnorm's statistics of the example of ones, as Synaptic-Flow's --prune-train-mode does."""

    @property
    def scores_in_eval_mode(self) -> bool:
        """Whether batchnorm uses its running statistics while the network is scored."""
        return not self.score_in_train_mode


def make_absolute(network: nn.Module, hparams: SynflowHparams) -> None:
    """Make every parameter and buffer of `network` absolute.

    So no path through the weights counts against another, at any step of training. synflow_means chooses the treatment
    of the running means that batchnorm subtracts; with 'added', nothing is subtracted. At the start of training they
    are zero, and the three choices are equal.
    """
    means = {id(module.running_mean) for module in network.modules() if hasattr(module, "running_mean")}
    for parameter in network.parameters():
        parameter.copy_(parameter.abs())  # of complex numbers there is no abs_
    for buffer in network.buffers():
        is_mean = id(buffer) in means
        if buffer.is_floating_point() and not (is_mean and hparams.synflow_means == "stored"):
            buffer.abs_()
        if is_mean and hparams.synflow_means == "added":
            buffer.neg_()


def scores_of_flow(scoring: Scoring, score: Callable[[Tensor, Tensor], Tensor]) -> Scores:
    """Return score(w, ∂R/∂w), R = 1ᵀ f(1): the gradient of the sum of the outputs for one example of all ones.

    Raises: UsageError in train mode where a batchnorm normalizes a single value.
    """
    from pruning.scoring.scoring_network import SingleExample

    try:
        return scoring.scores_of_flow(score)
    except SingleExample as error:
        reason = "batchnorm cannot normalize the single example of ones by its own statistics in this network."
        raise UsageError(reason, "score_in_train_mode") from error


def synflow(scoring: Scoring, _: SynflowHparams) -> Scores:
    """Return s = |w ⊙ ∂R/∂w|, R = 1ᵀ f(1; |θ|): the sum of the outputs for one example of all ones.

    In eval mode and in float64: R grows exponentially with depth, and leaves float32 at ResNet-56 (4e70).
    """
    return scores_of_flow(scoring, lambda weight, flow: (weight * flow).abs_())


SYNFLOW = Method(
    spelling="synflow",
    known_as=("synaptic_flow", "iterative_synflow", "iter_synflow"),
    paper="Tanaka et al. 2020, Pruning neural networks without any data by iteratively conserving synaptic flow",
    passes="in each iteration, one forward and backward pass of one example",
    tested_against="ganguli-lab/Synaptic-Flow, 123Bailey123/Pruning",
    differences=(
        "Scores are in float64; in float32 they overflow from ResNet-56 on. Pruned weights stay pruned; Synaptic-Flow "
        "ranks them again. --synflow_means=stored for the OpenLTH fork's running means."
    ),
    hparams=SynflowHparams,
    score=synflow,
    transform=make_absolute,
    mode="eval",
    float64=True,
    needs_input_shape=True,
)
