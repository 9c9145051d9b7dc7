"""Activation sparsity (Jaiswal et al. 2022, ToST): the share of the outputs of activations that are nearly zero.

    sparsity = |{a: |a| <= threshold}| / |{a}|,

over the outputs a of an activation, for all examples. ToST's threshold is 1e-2. A network may use one activation
several times, as the blocks of a ResNet do: each call in a forward pass counts separately. (ToST's script sees only the
last call, after the sum.)
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.measures.data import DataOptions, Examples
from analysis.measures.measure import Measure, Measured, StepOptions
from foundations.description.hparams import hparam
from foundations.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.measures.inputs import MeasuredRun, Measuring


@dataclass(frozen=True, kw_only=True)
class ActivationOptions(StepOptions, DataOptions):
    """State and examples, and the threshold for nearly zero outputs."""

    threshold: float = hparam(1e-2, at_least=0)
    """An output of at most this magnitude is nearly zero."""


@dataclass
class _Count:
    outputs: int = 0
    near_zero: Tensor | int = 0  # a tensor on the device, so that the loop does not wait for a GPU after each call


def compute(measuring: Measuring, options: ActivationOptions, run: MeasuredRun) -> Measured:
    """Return the number of outputs, the number and share of nearly zero ones, and the headline metric of the task.

    The table has a row for each call of an activation in a forward pass, in the order of the first pass; `call` counts
    the calls of one activation from 1. Raises: UsageError for a network whose activations are not attributes or layers.
    """
    model = run.model(options.step).to(measuring.device)
    examples = Examples(measuring, run, options)
    with counted(model, options.threshold) as counts:
        found = examples.evaluate(model)
    headline = run.trained.headline.spelling
    if not counts:
        raise UsageError(f"no activation of {run.trained.model.model_name} can be watched: it calls them by name.")
    outputs, near_zero = [count.outputs for count in counts.values()], [int(c.near_zero) for c in counts.values()]
    return Measured(
        values={
            "sparsity": sum(near_zero) / sum(outputs),
            "outputs": sum(outputs),
            "near_zero": sum(near_zero),
            headline: found[headline],
        },
        table={
            "activation": [name for name, _ in counts],
            "call": [call for _, call in counts],
            "outputs": outputs,
            "near_zero": near_zero,
            "sparsity": [part / whole for part, whole in zip(near_zero, outputs, strict=True)],
        },
    )


@contextlib.contextmanager
def counted(model: nn.Module, threshold: float) -> Iterator[dict[tuple[str, int], _Count]]:
    """Count the outputs of each call of an activation in a forward pass, by name and number, inside the block.

    Permanently turns the network's activation functions into layers.
    """
    from models.networks.soft_activation import activation_layers

    counts: dict[tuple[str, int], _Count] = {}
    calls: Counter[str] = Counter()

    def count(name: str, output: Tensor) -> None:
        calls[name] += 1
        found = counts.setdefault((name, calls[name]), _Count())
        found.outputs += output.numel()
        found.near_zero = found.near_zero + output.abs().le(threshold).sum()

    def watch(name: str, layer: nn.Module) -> Any:
        return layer.register_forward_hook(lambda _, __, output: count(name, output))

    hooks = [watch(name, layer) for name, layer in activation_layers(model).items()]
    hooks.append(model.register_forward_pre_hook(lambda *_: calls.clear()))
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


ACTIVATION_SPARSITY = Measure(
    spelling="activation_sparsity",
    summary="share of the outputs of activations that are nearly zero",
    paper="Jaiswal et al. 2022, Training Your Sparse Neural Network Better with Any Mask (ToST)",
    options=ActivationOptions,
    compute=compute,
)
