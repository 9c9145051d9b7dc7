"""The trace of the path kernel (Patil & Dovrolis 2021, section 3): a data-free measure of the speed of learning."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from foundations.inputs import Inputs
from pruning.masks.mask import Mask
from pruning.weights.named_weights import plain_copy


def path_kernel_trace(model: nn.Module, inputs: Inputs | Sequence[int], mask: Mask | None = None) -> float:
    """Return Σ_p Σ_{i on p} (π_p / θ_i)^2 over the paths p from input to output, π_p the product of the weights on one.

    It is computed as Σ ∂R/∂θ^2 over prunable weights, R = 1ᵀ f(1; θ^2), with all parameters squared, in eval mode and
    float64. The model is not changed. Its activations must pass positive values as they are, as ReLU does.

    inputs: or the shape of one example. mask: the kept weights; the others count as zero and are not summed over. By
    default, all weights are kept.

    Raises: UsageError if the mask is not of this network.
    """
    mask = Mask.ones(model) if mask is None else mask.for_model(model)
    squared = plain_copy(model).double().eval()
    with torch.no_grad():
        for parameter in squared.parameters():
            parameter.requires_grad_(True).square_()
        mask.apply_(squared)
    weights = {name: squared.get_parameter(name) for name in mask}
    example = Inputs.of(inputs).blank(1, next(squared.parameters()).device, torch.float64)
    gradients = torch.autograd.grad(squared(example).sum(), list(weights.values()), materialize_grads=True)
    return sum(
        float(gradient[kept.to(gradient.device)].sum()) for gradient, kept in zip(gradients, mask.values(), strict=True)
    )
