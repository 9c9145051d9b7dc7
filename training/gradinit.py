"""GradInit (Zhu et al. 2021): learn a scale for each parameter tensor before training. ToST calls it LRsI.

Every weight and bias p of a convolution, a linear layer or a batchnorm has a scale a, at first 1. With L the mean
cross-entropy, g = dL/dp over all these tensors, and |g| its l2 norm (`sgd`) or l1 norm (`adam`), each iteration lowers

    |g|                       where |g| > gamma             (a constraint step)
    L(p - eta d; B2) / eta    otherwise, d held constant    (an objective step)

by a step of Adam on the scales, whose gradient is clipped. d is g, g / |g| or sign(g). The two kinds of step have first
moments of their own and share the second one. Then p becomes p0 a, with p0 the initial tensor.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.errors import UsageError

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
_BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_SCALED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *_BATCHNORMS)
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class GradInitStep:
    """One iteration of GradInit, after its update."""

    kind: str
    """`objective` or `constraint`."""
    gradient_norm: float
    """Before the update: the l2 norm of the gradient, or its l1 norm for `adam`."""
    value: float
    """Before the update: the quantity that the step lowers."""
    scales: Mapping[str, float]
    """The scale of each tensor, by the parameter's name."""


def gradinit(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    algorithm: str = "sgd",
    eta: float = 0.1,
    gamma: float = math.inf,
    normalize_grad: bool = False,
    lr: float = 1e-3,
    min_scale: float = 0.01,
    iterations: int = 390,
    grad_clip: float = 1.0,
    overlap: bool = True,
    loss: Loss = F.cross_entropy,
    on_iteration: Callable[[int, GradInitStep], None] | None = None,
) -> dict[str, float]:
    """Scale the parameters of a model, in place, so that a first step of training lowers its loss most.

    batches: images (B, C, H, W) and labels int64 (B,), on the model's device; three are taken for each objective step
    with overlap, four without, and two for each constraint step.
    algorithm: the optimizer of the first step, `sgd` or `adam`. eta: the length of that step. gamma: the bound on the
    norm of the gradient. normalize_grad: divide the gradient by its norm in the step of sgd.
    lr: the learning rate of the scales. min_scale: the least scale of a weight; a bias's is 0. grad_clip: the bound on
    the gradient of each scale, 0 for none.
    overlap: whether half of the objective's batch is half of the gradient's batch.
    loss: the mean loss of logits (B, classes) and labels. on_iteration: called with the number of finished iterations
    and the last one.

    The model computes as in eval mode, but batchnorm uses the statistics of the batch, and its buffers do not change.
    Tensors of norm 0 keep their values. Parameters stay the same objects, and get no `.grad`.

    Returns the scale of each tensor by the name of the parameter. Raises: UsageError for an invalid argument,
    or if batches end too early.
    Source: Zhu et al. 2021, GradInit: Learning to Initialize Neural Networks for Stable and Efficient Training,
    algorithm 1, per tensor as in ToST (Jaiswal et al. 2022).
    """
    _check(algorithm, eta, lr, iterations)
    parameters = _scaled_parameters(model)
    scales = _Scales(parameters, lr, min_scale, grad_clip)
    tensors, source = list(parameters.values()), iter(batches)
    with _batch_statistics(model), torch.enable_grad():
        for done in range(1, iterations + 1):
            first, second = _take(source), _take(source)
            images, labels = _joined(first, second)
            gradients = torch.autograd.grad(
                loss(model(images), labels), tensors, create_graph=True, materialize_grads=True
            )
            norm = _norm(gradients, algorithm)
            before = value = norm.item()
            if before > gamma:
                kind, slopes = "constraint", torch.autograd.grad(norm, tensors, allow_unused=True)
            else:
                kind = "objective"
                third = _take(source)
                images, labels = _joined(first if overlap else _take(source), third)
                steps = _direction(gradients, before, algorithm, normalize_grad=normalize_grad)
                with _moved(tensors, steps, eta):
                    objective = loss(model(images), labels) / eta
                    slopes = torch.autograd.grad(objective, tensors, allow_unused=True)
                value = objective.item()
            scales.step(kind, slopes)
            if on_iteration is not None:
                on_iteration(done, GradInitStep(kind, before, value, dict(scales.values)))
    return scales.values


def _check(algorithm: str, eta: float, lr: float, iterations: int) -> None:
    if algorithm not in ("sgd", "adam"):
        raise UsageError(f"'{algorithm}' is not a valid value; choose from sgd, adam.", "algorithm")
    for name, value in (("eta", eta), ("lr", lr)):
        if not value > 0:
            raise UsageError(f"{value} is not a valid value; it must be above 0.", name)
    if iterations < 0:
        raise UsageError(f"{iterations} is not a valid value; it must be at least 0.", "iterations")


def _scaled_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trained parameters that have scales, each once, by name: first the weights, then the biases."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    layers = [module for module in model.modules() if isinstance(module, _SCALED)]
    found = [getattr(layer, kind) for kind in ("weight", "bias") for layer in layers]
    return {names[id(each)]: each for each in found if each is not None and each.requires_grad}


class _Scales:
    """The scale of each tensor, and Adam's state for it."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], lr: float, min_scale: float, grad_clip: float) -> None:
        self.parameters, self.lr, self.min_scale, self.grad_clip = parameters, lr, min_scale, grad_clip
        self.values = dict.fromkeys(parameters, 1.0)
        self._initial_norms = _norms(parameters.values())
        self._means: defaultdict[tuple[str, str], float] = defaultdict(float)
        """The first moment, by tensor and kind of step."""
        self._squares: defaultdict[str, float] = defaultdict(float)
        self._steps: defaultdict[str, Counter[str]] = defaultdict(Counter)

    @torch.no_grad()
    def step(self, kind: str, gradients: Iterable[Tensor | None]) -> None:
        """Update the scales by the gradients of the parameters, and the parameters by their scales."""
        norms, found = _norms(self.parameters.values()), list(gradients)
        pairs = list(zip(self.parameters.values(), found, strict=True))
        dots = _floats([p.new_zeros(()) if g is None else (g * p).sum() for p, g in pairs])
        rows = zip(self.parameters.items(), self._initial_norms, norms, dots, found, strict=True)
        for (name, parameter), initial, norm, dot, gradient in rows:
            if norm == 0 or initial == 0 or gradient is None:
                continue
            slope = dot * initial / norm
            if self.grad_clip > 0:
                slope = max(min(slope, self.grad_clip), -self.grad_clip)
            self._move(name, kind, slope)
            parameter.mul_(self.values[name] * initial / norm)

    def _move(self, name: str, kind: str, slope: float) -> None:
        """Take a step of Adam with one scale, and stay above the least."""
        steps = self._steps[name]
        steps[kind] += 1
        self._means[name, kind] = _BETA1 * self._means[name, kind] + (1 - _BETA1) * slope
        self._squares[name] = _BETA2 * self._squares[name] + (1 - _BETA2) * slope**2
        mean = self._means[name, kind] / (1 - _BETA1 ** steps[kind])
        square = self._squares[name] / (1 - _BETA2 ** steps.total())
        least = self.min_scale if name.rpartition(".")[2] == "weight" else 0.0
        self.values[name] = max(self.values[name] - self.lr * mean / (math.sqrt(square) + _EPSILON), least)


def _norm(gradients: Sequence[Tensor], algorithm: str) -> Tensor:
    if algorithm == "adam":
        return torch.stack([gradient.abs().sum() for gradient in gradients]).sum()
    return torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()


def _direction(gradients: Sequence[Tensor], norm: float, algorithm: str, *, normalize_grad: bool) -> list[Tensor]:
    """Return the step of the optimizer, for eta = 1, without a graph."""
    plain = [gradient.detach() for gradient in gradients]
    if algorithm == "adam":
        return [gradient.sign() for gradient in plain]
    return [gradient / norm for gradient in plain] if normalize_grad else plain


@contextlib.contextmanager
def _moved(tensors: list[nn.Parameter], steps: list[Tensor], eta: float) -> Iterator[None]:
    """Inside the block, the tensors have their values after the step; afterwards, their exact values again."""
    kept = [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        for tensor, step in zip(tensors, steps, strict=True):
            tensor.sub_(step, alpha=eta)
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in zip(tensors, kept, strict=True):
                tensor.copy_(before)


@contextlib.contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Inside the block, batchnorm uses the statistics of the batch and keeps none; all else is in eval mode."""
    modes = [(module, module.training) for module in model.modules()]
    norms = [(module, module.track_running_stats) for module in model.modules() if isinstance(module, _BATCHNORMS)]
    model.eval()
    for module, _ in norms:
        module.train()
        module.track_running_stats = False
    try:
        yield
    finally:
        for module, tracks in norms:
            module.track_running_stats = tracks
        for each, mode in modes:
            each.training = mode


def pair_of(batch: Any) -> Batch:
    """Return inputs and targets of a batch. Raises: UsageError if they are not two tensors."""
    if not (isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(each, Tensor) for each in batch)):
        raise UsageError("each must be two tensors, (inputs, targets).", "batches")
    return batch[0], batch[1]


def _take(batches: Iterator[Batch]) -> Batch:
    try:
        return pair_of(next(batches))
    except StopIteration:
        raise UsageError("they ended before the last iteration did; give more, or an endless one.", "batches") from None


def _joined(one: Batch, other: Batch) -> Batch:
    return torch.cat([one[0], other[0]]), torch.cat([one[1], other[1]])


def _norms(tensors: Iterable[Tensor]) -> list[float]:
    return _floats([tensor.detach().norm() for tensor in tensors])


def _floats(values: list[Tensor]) -> list[float]:
    """Return numbers from a device, waiting for it once."""
    return torch.stack([value.detach() for value in values]).tolist() if values else []
