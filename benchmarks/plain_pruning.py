"""Plain implementations of pruning methods, like the code of their papers, as the reference of benchmarks.

As in Synaptic-Flow (Tanaka et al. 2020): masks are buffers that every forward pass multiplies into the weights,
`backward()` computes the gradients of all parameters, and each selection concatenates the scores of all weights, pruned
ones included, and compares them to the k-th smallest. Scores are in float32. Batchnorm is in train mode for SNIP and
GraSP and in eval mode for SynFlow, as in open_prune, so that both do the same passes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

Pairs = list[tuple[Tensor, nn.Parameter]]
"""The mask and the weight of each prunable tensor."""


class _Masked(nn.Module):
    """Multiplies a weight by its mask in each forward pass."""

    mask: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones_like(weight))

    def forward(self, weight: Tensor) -> Tensor:
        return self.mask * weight


class _ReluAs(TorchFunctionMode):
    """Replaces ReLU by another function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.function(args[0]) if func in (F.relu, torch.relu, Tensor.relu) else func(*args, **(kwargs or {}))


class PlainPruner:
    """A network with masks in its layers. Each method prunes to a density and returns the masks."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model)
        self.pairs: Pairs = []
        for layer in list(self.model.modules()):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                masked = _Masked(layer.weight)
                parametrize.register_parametrization(layer, "weight", masked)
                weight = layer.get_parameter("parametrizations.weight.original")
                self.pairs.append((masked.mask, weight))

    def magnitude(self, density: float) -> list[Tensor]:
        """Prune the smallest weights."""
        return self._prune([weight.detach().abs() for _, weight in self.pairs], density)

    def random(self, density: float) -> list[Tensor]:
        """Prune weights at random."""
        return self._prune([torch.randn_like(weight) for _, weight in self.pairs], density)

    def snip(self, x: Tensor, y: Tensor, density: float) -> list[Tensor]:
        """Prune by |∂L/∂m|, the derivative with respect to the masks."""
        self.model.train()
        for mask, _ in self.pairs:
            mask.requires_grad_(True)
        F.cross_entropy(self.model(x), y).backward()  # type: ignore[no-untyped-call]
        scores = [cast("Tensor", mask.grad).abs() for mask, _ in self.pairs]
        for mask, _ in self.pairs:
            mask.requires_grad_(False)
            mask.grad = None
        norm = torch.cat([score.flatten() for score in scores]).sum()
        return self._prune([score.div_(norm) for score in scores], density)

    def force(self, x: Tensor, y: Tensor, density: float, iterations: int) -> list[Tensor]:
        """Prune by |w ∂L/∂(m w)| iteratively, on an exponential schedule; pruned weights may return."""
        return self._progressively(x, y, density, iterations, lambda w, g, _: (w * g).abs())

    def grasp_it(self, x: Tensor, y: Tensor, density: float, iterations: int) -> list[Tensor]:
        """Prune by the squared gradient of kept weights iteratively, on an exponential schedule."""
        return self._progressively(x, y, density, iterations, lambda _, g, m: g.square() * m)

    def _progressively(
        self, x: Tensor, y: Tensor, density: float, iterations: int, score: Callable[[Tensor, Tensor, Tensor], Tensor]
    ) -> list[Tensor]:
        self.model.train()
        effective = [layer for layer in self.model.modules() if parametrize.is_parametrized(layer)]
        masks: list[Tensor] = []
        for iteration in range(1, iterations + 1):
            with parametrize.cached():
                weights = [cast("Tensor", layer.weight) for layer in effective]
                gradients = torch.autograd.grad(F.cross_entropy(self.model(x), y), weights)
            scores = [score(w.detach(), g, m) for (m, w), g in zip(self.pairs, gradients, strict=True)]
            masks = self._prune(scores, density ** (iteration / iterations))
        return masks

    def grasp(self, x: Tensor, y: Tensor, density: float, temperature: float = 200.0) -> list[Tensor]:
        """Prune by w ⊙ Hg: one pass for the gradient g, and another for the derivative of <g, ∂L/∂w>."""
        self.model.train()
        weights = [weight for _, weight in self.pairs]
        gradient = self._flat_gradient(x, y, temperature, create_graph=False)
        product = (gradient * self._flat_gradient(x, y, temperature, create_graph=True)).sum()
        product.backward()  # type: ignore[no-untyped-call]
        scores = [cast("Tensor", weight.grad) * weight.detach() for weight in weights]
        norm = torch.cat([score.flatten() for score in scores]).sum().abs() + 1e-10
        return self._prune([score.div_(norm) for score in scores], density)

    def prospr(self, x: Tensor, y: Tensor, density: float, steps: int = 3, lr: float = 0.1) -> list[Tensor]:
        """Prune by |∂L/∂m| after steps of SGD: one graph of all steps, differentiated at once."""
        self.model.train()
        own = dict(self.model.named_parameters())
        masks = {id(weight): torch.ones_like(weight, requires_grad=True) for _, weight in self.pairs}
        theta = {name: w * masks[id(w)] if id(w) in masks else w for name, w in own.items()}
        for _ in range(steps):
            loss = F.cross_entropy(functional_call(self.model, theta, (x,)), y)
            gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
            theta = {name: w - lr * g for (name, w), g in zip(theta.items(), gradients, strict=True)}
        loss = F.cross_entropy(functional_call(self.model, theta, (x,)), y)
        scores = torch.autograd.grad(loss, list(masks.values()))
        return self._prune([score.abs() for score in scores], density)

    def fisher(self, x: Tensor, y: Tensor, density: float) -> list[Tensor]:
        """Prune by ½ w² E: the squared gradients of one example after the other, in eval mode."""
        self.model.eval()
        weights = [weight for _, weight in self.pairs]
        sums = [torch.zeros_like(weight) for weight in weights]
        for i in range(len(x)):
            gradients = torch.autograd.grad(F.cross_entropy(self.model(x[i : i + 1]), y[i : i + 1]), weights)
            for total, gradient in zip(sums, gradients, strict=True):
                total += gradient.square() / len(x)
        return self._prune([0.5 * w.detach().square() * e for w, e in zip(weights, sums, strict=True)], density)

    def hutchinson(self, x: Tensor, y: Tensor, density: float, probes: int = 10) -> list[Tensor]:
        """Prune by ½ w² h: the mean over random signs z on all parameters of z ⊙ Hz, in eval mode."""
        self.model.eval()
        parameters = list(self.model.parameters())
        sums = {id(parameter): torch.zeros_like(parameter) for parameter in parameters}
        gradients = torch.autograd.grad(F.cross_entropy(self.model(x), y), parameters, create_graph=True)
        for _ in range(probes):
            signs = [torch.randint(0, 2, part.shape).float() * 2 - 1 for part in parameters]
            products = torch.autograd.grad(gradients, parameters, signs, retain_graph=True)
            for parameter, sign, product in zip(parameters, signs, products, strict=True):
                sums[id(parameter)] += sign * product / probes
        return self._prune([0.5 * w.detach().square() * sums[id(w)] for _, w in self.pairs], density)

    def synflow(self, input_shape: Sequence[int], density: float, iterations: int) -> list[Tensor]:
        """Prune by |w ∂R/∂w| iteratively, on an exponential schedule."""
        self.model.eval()
        masks: list[Tensor] = []
        for iteration in range(iterations):
            signs = self._make_absolute()
            self.model.zero_grad()
            self.model(torch.ones(1, *input_shape)).sum().backward()
            scores = [(cast("Tensor", weight.grad) * weight.detach()).abs() for _, weight in self.pairs]
            with torch.no_grad():
                for name, tensor in self.model.state_dict().items():
                    tensor.mul_(signs[name])
            masks = self._prune(scores, density ** ((iteration + 1) / iterations))
        return masks

    def ntk_sap(self, count: int, input_shape: Sequence[int], density: float, epsilon: float = 0.01) -> list[Tensor]:
        """Prune by the change of the outputs when random weights move at random, for one batch of random inputs."""
        moved = PlainPruner(self.model)
        for (mask, weight), (other_mask, other) in zip(self.pairs, moved.pairs, strict=True):
            nn.init.kaiming_normal_(weight.data)
            other.data = weight.data + epsilon * torch.randn_like(weight)
            mask.requires_grad_(True)
            other_mask.requires_grad_(True)
        x = torch.randn(count, *input_shape)
        norms = [module for module in self.model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = 1.0
        with torch.no_grad():
            self.model.train()(x)
        for norm, other_norm in zip(
            norms, (m for m in moved.model.modules() if isinstance(m, nn.BatchNorm2d)), strict=True
        ):
            other_norm.load_state_dict(norm.state_dict())
        change = (self.model.eval()(x) - moved.model.eval()(x)).square().sum()
        change.backward()
        scores = []
        for (mask, _), (other_mask, _) in zip(self.pairs, moved.pairs, strict=True):
            scores.append((cast("Tensor", mask.grad) + cast("Tensor", other_mask.grad)).abs())
            mask.requires_grad_(False)
            mask.grad = None
        return self._prune(scores, density)

    def px(self, x: Tensor, density: float) -> list[Tensor]:
        """Prune by the product of the active paths of ones and the paths of squared weights, each over the batch.

        In float64, as in open_prune: in float32, as published, deeper networks overflow.
        """
        self.model.double()
        x = x.double()
        ones, squares = PlainPruner(self.model), PlainPruner(self.model)
        for (_, weight), (_, one), (_, square) in zip(self.pairs, ones.pairs, squares.pairs, strict=True):
            one.data = torch.ones_like(weight)
            square.data = weight.data.square()
        patterns: list[Tensor] = []

        def recorded(z: Tensor) -> Tensor:
            patterns.append(z > 0)
            return z.clamp_min(0)

        with torch.no_grad():
            with _ReluAs(recorded):
                self.model.eval()(x)
            found = iter(patterns)
            with _ReluAs(lambda z: z * next(found)):
                active = ones.model.train()(x.square())
        with _ReluAs(lambda z: z):
            value = (active * squares.model.train()(torch.ones_like(x))).sum()
        value.backward()
        assert patterns, "the network calls relu in another way"
        return self._prune([cast("Tensor", w.grad).abs() * w.detach() for _, w in squares.pairs], density)

    @torch.no_grad()
    def _make_absolute(self) -> dict[str, Tensor]:
        signs = {}
        for name, tensor in self.model.state_dict().items():
            signs[name] = torch.sign(tensor)
            tensor.abs_()
        return signs

    def _flat_gradient(self, x: Tensor, y: Tensor, temperature: float, *, create_graph: bool) -> Tensor:
        loss = F.cross_entropy(self.model(x) / temperature, y)
        weights = [weight for _, weight in self.pairs]
        gradients = torch.autograd.grad(loss, weights, create_graph=create_graph)
        return torch.cat([gradient.reshape(-1) for gradient in gradients])

    @torch.no_grad()
    def _prune(self, scores: list[Tensor], density: float) -> list[Tensor]:
        """Prune all weights with scores up to the k-th smallest."""
        together = torch.cat([score.flatten() for score in scores])
        pruned = int((1 - density) * together.numel())
        if pruned >= 1:
            threshold, _ = torch.kthvalue(together, pruned)
            for (mask, _), score in zip(self.pairs, scores, strict=True):
                mask.copy_(torch.where(score <= threshold, torch.tensor(0.0), torch.tensor(1.0)))
        return [mask for mask, _ in self.pairs]
