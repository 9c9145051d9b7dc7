"""NTK-SAP (Wang, Li & Sun 2023): weights that change the spectrum of the neural tangent kernel least are pruned.

No data: weights and inputs are drawn at random in every step, so that the mask suits no particular initialization. The
nuclear norm of the kernel is estimated by the change of the outputs when all weights move at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from foundations.errors import UsageError
from models.initializers import WEIGHT_INITS
from pruning.hparams import PruningHparams
from pruning.method import Method

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

    from pruning.scoring.scoring import Scores, Scoring


@dataclass(frozen=True, kw_only=True)
class NtkSapHparams(PruningHparams):
    """Pruning of a network by NTK-SAP."""

    ntk_repeats: int = hparam(1, at_least=1)
    """The number of times that an iteration of NTK-SAP goes over its random batches (the paper's R)."""
    ntk_batches: int = hparam(1, at_least=1)
    """The number of batches of random inputs in each repetition of NTK-SAP."""
    ntk_batch_size: int = hparam(100, at_least=1)
    """The number of random inputs in a batch of NTK-SAP."""
    ntk_epsilon: float = hparam(0.01, above=0)
    """The size of the random change of the weights by which NTK-SAP estimates the kernel."""
    ntk_init: str = hparam("kaiming_normal", choices=WEIGHT_INITS)
    """The initializer from which NTK-SAP draws weights; as_built for the weights of the network itself."""
    ntk_start_in_eval_mode: bool = hparam(False)
    """Score the first batch of NTK-SAP with batchnorm's mean 0 and variance 1, as its published code does by default
    (its --prune-train-mode, which its scripts set, does not)."""
    ntk_keep_draw: bool = hparam(False)
    """Train from the last weights that NTK-SAP drew, as its published code does, not from those of the run."""

    @property
    def replaces_weights(self) -> str | None:
        """The option by which training starts from weights that the method draws, if it is given."""
        return "ntk_keep_draw" if self.ntk_keep_draw and self.level > 0 else None


class Draws:
    """The random numbers of NTK-SAP, from streams that the seed, the iteration and the step name.

    Iterations and steps are counted from 0; a step is one batch of one repetition.
    """

    def __init__(self, seed: int, init: str) -> None:
        """Take the seed, and the name of the initializer of weights."""
        self._seed, self._init = seed, WEIGHT_INITS.find(init)

    def weight(self, iteration: int, step: int, name: str, like: Tensor) -> Tensor:
        """Return a drawn weight, float32, on the CPU. like: the weight that it replaces."""
        import torch

        from foundations.random_streams import global_generator_from

        drawn = like.detach().to("cpu", torch.float32, copy=True)
        with torch.no_grad(), global_generator_from("ntk_sap weights", self._seed, iteration, step, name):
            self._init.fill(drawn)
        return drawn

    def noise(self, iteration: int, step: int, name: str, like: Tensor) -> Tensor:
        """Return the direction in which a weight moves, standard normal."""
        return self._normal(like, "ntk_sap noise", iteration, step, name)

    def inputs(self, iteration: int, step: int, number: int, like: Tensor) -> Tensor:
        """Return a tensor of a batch of inputs, standard normal. number: which of them, where there are several."""
        return self._normal(like, "ntk_sap inputs", iteration, step, number)

    def _normal(self, like: Tensor, purpose: str, *keys: int | str) -> Tensor:
        import torch

        from foundations.random_streams import generator

        return torch.randn(like.shape, generator=generator(purpose, self._seed, *keys))


def ntk_sap(scoring: Scoring, hparams: NtkSapHparams, draws: Draws | None = None) -> Scores:
    """Return s = |Σ ∂J/∂m|, J = Σ_x ‖f(x; m ⊙ w) - f(x; m ⊙ (w + ε z))‖², summed over the steps of an iteration.

    Each step draws the weights w of all convolutions and linear layers, the inputs x ~ N(0, 1) and the direction
    z ~ N(0, 1) of the prunable weights. Batchnorm has scale 1, shift 0, and the mean and unbiased variance of the batch
    under m ⊙ w, which both networks hold constant. A network that takes tokens gets x in place of its embeddings.

    draws: the random numbers, by default from the scoring's streams.
    """
    import torch

    draws = Draws(scoring.seed, hparams.ntk_init) if draws is None else draws
    masks = {name: _like(scoring, kept).requires_grad_() for name, kept in scoring.mask.items()}
    own = {name: scoring.network.get_parameter(name) for name in drawn_weights(scoring.network, scoring.mask)}
    total = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    for step in range(hparams.ntk_repeats * hparams.ntk_batches):
        at = (scoring.iteration - 1, step)
        weights = {name: _like(scoring, draws.weight(*at, name, weight)) for name, weight in own.items()}
        weights |= {name: weight.detach() for name, weight in scoring.weights.items() if name not in own}
        moved = {
            name: weights[name] + hparams.ntk_epsilon * _like(scoring, draws.noise(*at, name, masks[name]))
            for name in masks
        }
        first = {name: masks[name] * weight if name in masks else weight for name, weight in weights.items()}
        second = {name: masks[name] * moved[name] if name in masks else weight for name, weight in weights.items()}
        change = _change(scoring, hparams, draws, at, first, second)
        for name, gradient in scoring.gradient_of(change, masks).items():
            total[name] += gradient
    return {name: (found * masks[name].detach()).abs() for name, found in total.items()}


def _change(
    scoring: Scoring,
    hparams: NtkSapHparams,
    draws: Draws,
    at: tuple[int, int],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
) -> Tensor:
    """Return the squared distance of the outputs under two sets of weights, for the random batch of a step: a scalar.

    at: the numbers of the iteration and of the step. Raises: UsageError where batchnorm cannot normalize the batch.
    """
    from itertools import count

    from pruning.scoring.scoring_network import SingleExample

    number = count()
    x = scoring.example_of(
        lambda like: _like(scoring, draws.inputs(*at, next(number), like)), rows=hparams.ntk_batch_size
    )
    with scoring.entering(x, lambda place, like: _like(scoring, draws.inputs(*at, place, like))):
        try:
            scoring.calibrate_batchnorm([] if hparams.ntk_start_in_eval_mode and at == (0, 0) else [x], first)
        except SingleExample as error:
            raise UsageError(
                "batchnorm cannot normalize batches of one; take larger ones.", "ntk_batch_size"
            ) from error
        outputs = [scoring.objective.scored(scoring.run(x, weights)) for weights in (first, second)]
    return (outputs[0] - outputs[1]).square().sum()


def drawn_weights(network: nn.Module, prunable: Iterable[str]) -> list[str]:
    """Return the names of the weights that NTK-SAP draws: of all convolutions and linear layers, and the prunable ones.

    Biases, and scales of normalization, are not drawn.
    """
    from pruning.weights.prunable import prunable_weights

    names = {*prunable_weights(network), *prunable}
    return sorted(name for name in names if network.get_parameter(name).dim() > 1)


def set_plain_batchnorm(network: nn.Module, _: NtkSapHparams) -> None:
    """Set the scales of batchnorm to 1 and its shifts to 0, in place."""
    from torch.nn.modules.batchnorm import _BatchNorm

    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            module.weight.data.fill_(1)
            module.bias.data.zero_()


def set_last_draw(network: nn.Module, hparams: NtkSapHparams, seed: int) -> None:
    """Set the weights of a network, in place, to the last ones that NTK-SAP draws with a seed; batchnorm to 1 and 0."""
    import torch

    from pruning.weights.prunable import weights_to_prune

    draws = Draws(seed, hparams.ntk_init)
    last = (hparams.prune_iterations - 1, hparams.ntk_repeats * hparams.ntk_batches - 1)
    with torch.no_grad():
        for name in drawn_weights(network, weights_to_prune(network, hparams)):
            weight = network.get_parameter(name)
            weight.copy_(draws.weight(*last, name, weight))
        set_plain_batchnorm(network, hparams)


def _like(scoring: Scoring, tensor: Tensor) -> Tensor:
    """Return a tensor on the device and in the precision of the scoring."""
    return tensor.to(scoring.device, scoring.dtype)


NTK_SAP = Method(
    spelling="ntk_sap",
    known_as=("ntk", "ntksap"),
    paper="Wang, Li & Sun 2023, NTK-SAP: Improving neural network pruning by aligning training dynamics",
    passes="three forward passes and two backward ones over each random batch",
    tested_against="YiteWang/NTK-SAP",
    differences="Training starts from the run's own initialization; ntk_keep_draw starts it from the published last "
    "draw. The first batch has batchnorm's own statistics, too; ntk_start_in_eval_mode leaves them out as published.",
    hparams=NtkSapHparams,
    score=ntk_sap,
    transform=set_plain_batchnorm,
    set_weights=set_last_draw,
    needs_input_shape=True,
    stochastic=True,
)
