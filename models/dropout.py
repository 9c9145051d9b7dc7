"""Dropout that resumes exactly: its randomness comes from buffers of the model, not from a global generator.

Each layer has a seed, drawn when the network is built, and counts its calls in training. Both are buffers, so a run
that resumes from a checkpoint drops the same entries as without the interruption.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BITS = 62


class Dropout(nn.Module):
    """Zero entries (or, with `whole_examples`, whole examples) with probability p; scale the rest by 1 / (1 - p).

    Active in training only, like torch.nn.Dropout and torchvision's StochasticDepth, which it replaces. Random numbers
    come from the CPU, so that they do not depend on the device. Any shape with the batch first, float.
    """

    seed: Tensor
    calls: Tensor
    part: tuple[int, int] | None = None
    """(place of the first example in a larger batch, size of that batch), if the batch is a slice of a larger one. Then
    the same entries are dropped as in the larger batch."""

    def __init__(self, p: float, *, whole_examples: bool = False) -> None:
        super().__init__()
        self.p, self.whole_examples = p, whole_examples
        self.register_buffer("seed", torch.randint(2**_BITS, (), dtype=torch.int64))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Return x; in training, with some of it dropped."""
        if not self.training:
            return x
        rest = [1] * (x.dim() - 1) if self.whole_examples else x.shape[1:]
        first, whole = self.part or (0, len(x))
        kept = self._draw((whole, *rest), x.device)[first : first + len(x)]
        self.calls += 1
        return x * (kept / (1 - self.p)).to(x.dtype)

    def _draw(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        if device.type == "meta":
            return torch.empty(shape, device=device)
        # CPU generators use 32 bits of their seeds; a prime stride keeps the calls of different seeds apart.
        seed = (int(self.seed) + int(self.calls) * 0x9E3779B1) % 2**32
        generator = torch.Generator().manual_seed(seed)
        return (torch.rand(shape, generator=generator) >= self.p).float().to(device)


def make_repeatable(model: nn.Module) -> None:
    """Replace each torch.nn.Dropout and each StochasticDepth of torchvision in a model by `Dropout`, in place."""
    for name, module in list(model.named_modules()):
        examples = type(module).__name__ == "StochasticDepth"  # by its name: importing torchvision takes a second
        if isinstance(module, nn.Dropout) or examples:
            p = float(module.p)
            whole = examples and module.mode == "row"
            model.set_submodule(name, Dropout(p, whole_examples=whole) if p else nn.Identity())
