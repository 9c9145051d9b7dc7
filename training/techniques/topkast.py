"""Top-KAST: sparse forward passes, and gradients for some more weights (Jayakumar et al. 2020).

Each layer has two sets of weights, by magnitude: A, the largest D of them, and B, the largest D + M, both refreshed
every N steps. The forward pass uses the weights in A alone, and those in B get the gradient of the loss there
(section 2.1 of the paper). The penalty (2.3) is L2 of the weights in A, and L2 / D of those in B but not in A, so that
these compete with A; all other weights keep their values until they are in B.

The penalty takes the place of weight decay in these layers. Momentum of weights that are not in B decays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from foundations.description.hparams import hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.hparams import DEFAULT_LAYERS
from pruning.level import kept_of
from training.technique import Hooks, Technique, TechniqueHparams, Training
from training.techniques.own_layers import outcome_of, weight_decay_of, weights_of_layers
from training.without_effect import warn, warn_of_sparser_mask

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.masks.mask import Mask
    from training.hparams import TrainingHparams

_DECOUPLED = (
    "Top-KAST's penalty is part of the gradient, and this optimizer's weight decay is not: choose another, or 0."
)


@dataclass(frozen=True, kw_only=True)
class TopkastHparams(TechniqueHparams):
    """The sets of Top-KAST, and their penalty."""

    topkast_density: float = hparam(0.1, above=0, at_most=1)
    """D: the fraction of each layer's weights in the forward pass, and in the network at the end."""
    topkast_exploration: float = hparam(0.1, at_least=0, at_most=1)
    """M: the fraction of further weights that get a gradient."""
    topkast_refresh: str = hparam("100it", step=True)
    """N: the time after which the sets are chosen again."""
    topkast_l2: float | None = hparam(None, at_least=0)
    """The factor of the penalty; by default the weight decay of the layer's weights, whose place it takes."""
    topkast_layers: str = hparam(DEFAULT_LAYERS, unordered=True)
    """The layers with these sets, as --prunable_layers names them."""

    @property
    def final_level(self) -> float | None:
        """The prune fraction of the forward pass."""
        return 1 - self.topkast_density

    def validate(self) -> None:
        """Check that the sets are within the weights."""
        if self.topkast_density + self.topkast_exploration > 1 + 1e-12:
            raise UsageError("together they must not be above 1.", "topkast_density", "topkast_exploration")

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Check the time between refreshes."""
        if Step.parse(self.topkast_refresh, end.iterations_per_epoch, "topkast_refresh").iteration == 0:
            raise UsageError("it must be above 0it.", "topkast_refresh")
        return self

    def check_with(self, training: TrainingHparams) -> None:
        """Refuse weight decay that is not in the gradient."""
        if training.optimizer_name == "adamw" and training.weight_decay:
            raise UsageError(_DECOUPLED, "weight_decay", "optimizer_name")


class _Factors:
    """Factors of the weights of a layer, which hold until its sets are chosen again."""

    def __init__(self, forward: Tensor, backward: Tensor, weight: Tensor) -> None:
        self._sets, real = (forward, backward), weight.detach()[:0].abs().dtype
        self._forward, self._backward = forward.to(real), backward.to(real)
        self.trained = backward.to(weight.dtype)
        """1 in B."""
        self.explored = (backward & ~forward).to(weight.dtype)
        """1 in B without A."""
        self._penalty: tuple[tuple[float, float, float], Tensor] | None = None

    def are_of(self, forward: Tensor, backward: Tensor, weight: Tensor) -> bool:
        """Return whether they are those of these sets, for weights of this dtype."""
        return self._sets[0] is forward and self._sets[1] is backward and self.trained.dtype == weight.dtype

    def penalty(self, l2: float, decay: float, density: float) -> Tensor:
        """Return the factors of the weights in the gradient of the penalty, less those of weight decay."""
        key = (l2, decay, density)
        if self._penalty is None or self._penalty[0] != key:
            values = self._forward * l2 + (self._backward - self._forward) * (l2 / density) - decay
            self._penalty = key, values
        return self._penalty[1]


class Topkast(Hooks[TopkastHparams]):
    """Compute with the largest weights, and train some more."""

    def __init__(self, training: Training, hparams: TopkastHparams) -> None:
        super().__init__(training, hparams)
        self.forward, self.backward = self.kept("forward"), self.kept("backward")
        self.every = training.step(hparams.topkast_refresh, "topkast_refresh").iteration
        self._before: dict[str, Tensor] = {}
        """The weights before the optimizer's step."""
        self._has_stepped = True
        self._factors: dict[str, _Factors] = {}

    def prepare(self) -> None:
        """Find the layers."""
        weights = weights_of_layers(self.training.model, self.hparams.topkast_layers, "topkast_layers")
        if self.every >= self.training.end.iteration:
            warn(f"the sets are chosen once: topkast_refresh is longer than the training of {self.training.end}.")
        warn_of_sparser_mask(self.training.mask, self.hparams.topkast_density, "topkast_density", weights)
        for name, weight in weights.items():
            self.forward[name] = self.backward[name] = weight.abs() >= 0
            groups = self.training.optimizer.param_groups
            group = next((g for g in groups if any(p.data_ptr() == weight.data_ptr() for p in g["params"])), {})
            if group.get("decoupled_weight_decay") and group.get("weight_decay"):
                raise UsageError(_DECOUPLED, "weight_decay")

    def before_step(self, step: Step) -> None:
        """Choose the sets again."""
        if step.iteration % self.every or step == self.training.end:
            return
        density, more = self.hparams.topkast_density, self.hparams.topkast_exploration
        for name, weight in self._weights().items():
            order = weight.detach().abs().flatten().argsort(descending=True, stable=True)
            for chosen, share in ((self.forward, density), (self.backward, min(1.0, density + more))):
                count = kept_of(len(order), round(1 - share, 12))
                found = order.new_zeros(len(order)).bool()
                found[order[:count]] = True
                chosen[name] = found.view(weight.shape)

    def effective(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the weights in A; others in B are zero there, and get a gradient."""
        found = {}
        for name in self.forward:
            weight = weights[name]
            factors = self._factors_of(name, weight)
            found[name] = weight * factors.trained - weight.detach() * factors.explored
        return found

    def after_backward(self, step: Step) -> bool:
        """Add the gradient of the penalty in place of weight decay's."""
        import torch

        self._has_stepped = False
        with torch.no_grad():
            for name, weight in self._weights().items():
                if name in self._before:
                    self._before[name].copy_(weight)
                else:
                    self._before[name] = weight.detach().clone()
                decay = weight_decay_of(self.training, name) or 0.0
                l2 = decay if self.hparams.topkast_l2 is None else self.hparams.topkast_l2
                if weight.grad is not None and (l2 or decay):
                    penalty = self._factors_of(name, weight).penalty(l2, decay, self.hparams.topkast_density)
                    weight.grad = weight.grad + penalty * weight
        return False

    def after_step(self, step: Step) -> None:
        """Give weights that are not in B their values back, which momentum has changed."""
        import torch

        if self._has_stepped:
            return
        self._has_stepped = True
        with torch.no_grad():
            for name, weight in self._weights().items():
                torch.where(self.backward[name], weight, self._before[name], out=weight)

    def outcome(self) -> Mask:
        """Return the weights of the forward pass."""
        return outcome_of(self.training.model, self.forward)

    def _factors_of(self, name: str, weight: Tensor) -> _Factors:
        found = self._factors.get(name)
        if found is None or not found.are_of(self.forward[name], self.backward[name], weight):
            found = self._factors[name] = _Factors(self.forward[name], self.backward[name], weight)
        return found

    def _weights(self) -> dict[str, Tensor]:
        parameters = dict(self.training.model.named_parameters(remove_duplicate=False))
        return {name: parameters[name] for name in self.forward}


TOPKAST = Technique(
    spelling="topkast",
    known_as=("topk_always_sparse",),
    summary="compute with the largest weights of each layer, and give a gradient to some more",
    paper="Jayakumar et al. 2020, Top-KAST: Top-K Always Sparse Training",
    differences=(
        "Tested against the paper's equations; no official PyTorch code is known. Gradients are computed in dense "
        "tensors, so that a step is not faster than a dense one."
    ),
    hparams=TopkastHparams,
    hooks=Topkast,
    density="topkast_density",
    mask_is_outcome=True,
)
