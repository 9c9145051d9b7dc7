"""Shared code of masks that are learnt while the weights stay as they are: edge-popup, Gem-Miner.

Each weight of the prunable layers has a score, which the optimizer trains in place of the weights. The forward pass
uses w m(s), with a mask m of zeros and ones, and the backward pass takes the rounding for the identity. The published
networks have no biases, and batch normalization without scales; elsewhere, these parameters stay as they are too,
unless `learned_mask_train_rest` asks to train them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from foundations.description.hparams import hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.hparams import DEFAULT_LAYERS
from training.technique import Hooks, ParameterGroup, TechniqueHparams, Training
from training.techniques.own_layers import outcome_of, weights_of_layers

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.masks.mask import Mask
    from training.hparams import TrainingHparams

_MOMENTUM = 0.9
_FANS = ("dense", "kept", "pruned")


@dataclass(frozen=True, kw_only=True)
class LearnedMaskHparams(TechniqueHparams):
    """The weights under a mask that is learnt, and the training of its scores."""

    learned_mask_weights: str = hparam("initial", choices=("initial", "signed_constant"))
    """The weights, which do not train: as they are initialized, or sign(w) sqrt(2 / fan), the same in a whole layer."""
    learned_mask_fan: str = hparam("dense", choices=_FANS)
    """The fan of the constant: the inputs of a unit (dense), those times the density that is kept (kept), so that the
    variance of a unit is that of the dense network, or times 1 - density, which published code computes (pruned)."""
    learned_mask_layers: str = hparam(DEFAULT_LAYERS, unordered=True)
    """The layers with scores, as --prunable_layers names them; all other weights stay as they are."""
    learned_mask_train_rest: bool = hparam(False)
    """Train the parameters without scores: biases, and scales of normalization."""
    learned_mask_lr_factor: float = hparam(1.0, above=0)
    """The learning rate of the scores, relative to --lr and its schedule."""
    learned_mask_momentum: float = hparam(_MOMENTUM, at_least=0, below=1)
    """The momentum of the scores, where the optimizer has one (sgd, rmsprop)."""

    @property
    def uses_seed(self) -> bool:
        """Scores are drawn."""
        return True

    @property
    def density(self) -> float:
        """The density that the fan of constants takes for the kept one."""
        raise NotImplementedError

    @property
    def final_level(self) -> float | None:
        """The requested prune fraction."""
        return 1 - self.density

    def validate(self) -> None:
        """Refuse a fan without a constant, and a fan of no weights."""
        if self.learned_mask_fan != "dense" and self.learned_mask_weights == "initial":
            raise UsageError("only --learned_mask_weights=signed_constant has a fan.", "learned_mask_fan")
        if self.learned_mask_fan == "pruned" and self.density == 1:
            raise UsageError("at density 1 no weight is pruned, and the fan is 0.", "learned_mask_fan")

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Refuse a training that starts from a mask."""
        if has_mask:
            raise UsageError("it learns a mask of the whole network; start without one.", "technique")
        return self

    def check_with(self, training: TrainingHparams) -> None:
        """Refuse a momentum for an optimizer without one."""
        if training.optimizer_name not in ("sgd", "rmsprop") and self.learned_mask_momentum != _MOMENTUM:
            raise UsageError(f"{training.optimizer_name} has none; leave it out.", "learned_mask_momentum")


H = TypeVar("H", bound=LearnedMaskHparams)


class LearnedMask(Hooks[H], ABC):
    """Train a score for each weight. Subclasses say how scores begin, and which mask they give."""

    def __init__(self, training: Training, hparams: H) -> None:
        super().__init__(training, hparams)
        self.scores = self.kept("scores")

    @property
    def decay(self) -> float:
        """The weight decay of the scores."""
        return 0.0

    @abstractmethod
    def drawn(self, name: str, weight: Tensor) -> Tensor:
        """Return the first scores of a weight, on the CPU."""

    @abstractmethod
    def masks(self) -> dict[str, Tensor]:
        """Return the present masks, bool, by the names of the scores."""

    @abstractmethod
    def differentiable(self, name: str) -> Tensor:
        """Return the value of a weight's scores that the backward pass takes for the mask."""

    def prepare(self) -> None:
        """Draw the scores, and set the weights that do not stay as they are initialized."""
        import torch

        weights = weights_of_layers(self.training.model, self.hparams.learned_mask_layers, "learned_mask_layers")
        for name, weight in weights.items():
            real = weight.abs()  # scores of complex weights are real
            self.scores[name] = self.drawn(name, weight).to(real.device, real.dtype)
            if self.hparams.learned_mask_weights == "signed_constant":
                with torch.no_grad():
                    weight.copy_(torch.sgn(weight) * math.sqrt(2 / self._fan(weight)))

    def effective(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the weights under the present masks."""
        found = {}
        for name, mask in self.masks().items():
            value = self.differentiable(name)
            found[name] = weights[name] * (mask.to(value) + (value - value.detach()))
        return found

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return the scores."""
        first = self.training.optimizer.param_groups[0]
        own: dict[str, Any] = {"weight_decay": self.decay, "momentum": self.hparams.learned_mask_momentum}
        options = {name: value for name, value in own.items() if name in first}
        return [ParameterGroup(parameters=self.scores, lr_factor=self.hparams.learned_mask_lr_factor, options=options)]

    def frozen(self) -> Collection[str]:
        """Return the weights with scores and, unless they are to train, all others."""
        if self.hparams.learned_mask_train_rest:
            return list(self.scores)
        return [name for name, _ in self.training.model.named_parameters()]

    def outcome(self) -> Mask | None:
        """Return the present mask."""
        return outcome_of(self.training.model, self.masks())

    def _fan(self, weight: Tensor) -> float:
        factors = {"dense": 1.0, "kept": self.hparams.density, "pruned": 1 - self.hparams.density}
        return fan_in(weight) * factors[self.hparams.learned_mask_fan]


def fan_in(weight: Tensor) -> int:
    """Return the number of inputs of a unit, as PyTorch's initializers count them."""
    return math.prod(weight.shape[1:])
