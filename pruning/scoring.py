"""What a scorer sees: a masked copy of the network, the examples in batches, and gradients of their mean loss.

Scoring works on a copy, so it leaves no trace in the model, exceptions included; random numbers that a network draws in
its forward pass come from a stream of their own, and autocast is off: scores are in the network's precision, in float32
where that is lower, in float64 where the method needs it.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from foundations.random_streams import global_generator_from, stream_seed
from pruning.mask import Mask
from pruning.registry import Strategy

Scores = dict[str, torch.Tensor]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Examples = tuple[torch.Tensor, torch.Tensor]


class Scoring:
    """The masked copy of a network, and what the methods compute with it.

    network: the copy, in the method's mode (dropout always off). weights: its prunable weights by name, sorted, zero
    where pruned; only they require gradients. batches: (x, y) on the network's device. loss: the mean over a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        mask: Mask,
        strategy: Strategy,
        *,
        batches: list[Examples],
        input_shape: tuple[int, ...] | None,
        loss: Loss,
        seed: int,
    ) -> None:
        self.network = _copy_for(model, strategy)
        parameters = dict(self.network.named_parameters(remove_duplicate=False))
        self.weights: dict[str, nn.Parameter] = {name: parameters[name] for name in mask}
        for parameter in parameters.values():
            parameter.requires_grad_(False)
        for weight in self.weights.values():
            weight.requires_grad_(True)
        first = next(iter(self.weights.values()))
        self.device, self.dtype = first.device, first.dtype
        self.batches = [(self._placed(x), y.to(self.device)) for x, y in batches]
        self.input_shape = input_shape
        self.loss = loss
        self.seed = seed
        self.mask = Mask({name: torch.ones_like(tensor) for name, tensor in mask.items()})
        self._dense = (
            {name: weight.detach().clone() for name, weight in self.weights.items()} if strategy.revives else None
        )
        self.set_mask(mask)

    def _placed(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.device, self.dtype if x.is_floating_point() else None)

    @torch.no_grad()
    def set_mask(self, mask: Mask) -> None:
        """Let the weights that `mask` prunes be zero. Without revival, masks only shrink."""
        for name, weight in self.weights.items():
            if self._dense is not None:
                weight.copy_(self._dense[name])
            if not torch.equal(mask[name], self.mask[name]):
                weight.masked_fill_(~mask[name].to(self.device), 0)
        self.mask = mask

    @property
    def size(self) -> int:
        """Number of examples."""
        return sum(len(y) for _, y in self.batches)

    def gradient(self) -> Scores:
        """Return ∂L/∂w by name, where L is the mean loss of all examples, each batch by itself in the forward pass."""
        return self.mean_over_batches(lambda gradient: gradient)

    def mean_over_batches(self, function: Callable[[Scores], Scores]) -> Scores:
        """Return Σ_b (n_b / n) function(∂L_b/∂w), where L_b is the mean loss of batch b, of n_b of the n examples."""
        total = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in self.weights.items()}
        for x, y in self.batches:
            gradient = self.gradient_of(self.loss(self.network(x), y))
            with torch.no_grad():
                for name, part in function(gradient).items():
                    total[name].add_(part, alpha=len(y) / self.size)
        return total

    def gradient_of(self, value: torch.Tensor) -> Scores:
        """Return the gradient of a scalar with respect to the weights (zero for weights that it does not depend on)."""
        gradients = torch.autograd.grad(value, list(self.weights.values()), materialize_grads=True)
        return dict(zip(self.weights, gradients, strict=True))


def _load(where: str) -> Callable[..., Any]:
    module, _, function = where.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _copy_for(model: nn.Module, strategy: Strategy) -> nn.Module:
    network = copy.deepcopy(model)
    for module in network.modules():
        module.training = strategy.mode == "train" and not isinstance(module, nn.modules.dropout._DropoutNd)
    if strategy.float64:
        network.double()
    elif any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in network.parameters()):
        network.float()
    if strategy.prepare:
        _load(strategy.prepare)(network)
    return network


@contextlib.contextmanager
def without_trace(device: torch.device, seed: int) -> Iterator[None]:
    """Let gradients be on, autocast off, and the global generators a stream of this seed, inside the block only."""
    devices = [device] if device.type == "cuda" else []
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        torch.random.fork_rng(devices=devices),
        global_generator_from("scoring", seed),
    ):
        for cuda in devices:
            torch.cuda.default_generators[cuda.index or 0].manual_seed(stream_seed("scoring", seed))
        yield


def batched(examples: Examples | None, batch_size: int | None) -> list[Examples]:
    """Return consecutive batches of the examples; all in one without a batch size."""
    if examples is None:
        return []
    x, y = examples
    size = batch_size or max(1, len(y))
    return list(zip(torch.split(x, size), torch.split(y, size), strict=True))


def scores_of(strategy: Strategy, scoring: Scoring, options: Mapping[str, Any]) -> Scores:
    """Return the scores of a method."""
    scores: Scores = _load(strategy.score)(scoring, **options)
    return {name: score.detach() for name, score in scores.items()}
