"""Dropout that resumes exactly: its randomness comes from buffers of the model, not from a global generator.

Each layer has a seed, drawn when the network is built, and counts its calls in training. Both are buffers, so a run
that resumes from a checkpoint drops the same entries as without the interruption. `Dropout` is such a layer.
`seed_draws` does the same for a whole network that draws inside of its functions, as some of other libraries do.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

_BITS = 62
_DRAWS = "seeded_draws"


class Draws(nn.Module):
    """The source of random numbers of a layer in training: a seed and the number of calls, which are buffers."""

    seed: Tensor
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seed", torch.randint(2**_BITS, (), dtype=torch.int64))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self._known: _Known | None = None

    def next_seed(self) -> int:
        """Return the seed of the next call, and count it."""
        known = self._known
        if known is None or not known.is_of(self):
            known = _Known(int(self.seed), int(self.calls))
        # CPU generators use 32 bits of their seeds; a prime stride keeps the calls of different seeds apart.
        seed = (known.seed + known.calls * 0x9E3779B1) % 2**32
        self.calls += 1
        self._known = known.counted(self)
        return seed

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes to pickle: without the values on the host."""
        return vars(self) | {"_known": None}


@dataclass(frozen=True)
class _Known:
    """The values of a layer's buffers on the host, so that a GPU is asked for them only where others set them."""

    seed: int
    calls: int
    buffers: tuple[tuple[weakref.ref[Tensor], int], ...] = ()
    """The buffers, and the versions of their values: in-place operations count them."""

    def is_of(self, draws: Draws) -> bool:
        """Whether these are the buffers' present values."""
        return all(
            ref() is buffer and buffer._version == version
            for (ref, version), buffer in zip(self.buffers, (draws.seed, draws.calls), strict=True)
        )

    def counted(self, draws: Draws) -> _Known | None:
        """Return the values after a call, which the layer's buffers have now; None where changes are not tracked."""
        buffers = (draws.seed, draws.calls)
        if any(buffer.is_inference() for buffer in buffers):
            return None
        return _Known(self.seed, self.calls + 1, tuple((weakref.ref(each), each._version) for each in buffers))


class Dropout(Draws):
    """Zero entries (or, with `whole_examples`, whole examples) with probability p; scale the rest by 1 / (1 - p).

    Active in training only, like torch.nn.Dropout and torchvision's StochasticDepth, which it replaces. Random numbers
    come from the CPU, so that they do not depend on the device. Any shape with the batch first, float.
    """

    part: tuple[int, int] | None = None
    """(place of the first example in a larger batch, size of that batch), if the batch is a slice of a larger one. Then
    the same entries are dropped as in the larger batch."""

    def __init__(self, p: float, *, whole_examples: bool = False) -> None:
        super().__init__()
        self.p, self.whole_examples = p, whole_examples

    def forward(self, x: Tensor) -> Tensor:
        """Return x; in training, with some of it dropped."""
        if not self.training:
            return x
        rest = [1] * (x.dim() - 1) if self.whole_examples else x.shape[1:]
        first, whole = self.part or (0, len(x))
        kept = self._draw((whole, *rest), x.device)[first : first + len(x)]
        return x * (kept / (1 - self.p)).to(x.dtype)

    def _draw(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        if device.type == "meta":
            return torch.empty(shape, device=device)
        generator = torch.Generator().manual_seed(self.next_seed())
        kept = (torch.rand(shape, generator=generator) >= self.p).float()
        return kept.to(device, non_blocking=True)


def make_repeatable(model: nn.Module) -> None:
    """Replace layers that drop entries or whole examples by `Dropout`, in place; those that drop nothing stay.

    These are torch.nn.Dropout, and by their names, as importing other libraries takes seconds, StochasticDepth of
    torchvision and the DropPath of timm and transformers.
    """
    for name, module in list(model.named_modules()):
        p, whole = _probability(module)
        if p:
            model.set_submodule(name, Dropout(p, whole_examples=whole))


def _probability(module: nn.Module) -> tuple[float, bool]:
    """Return the probability with which a layer drops, 0 if `Dropout` cannot replace it, and if it drops examples."""
    kind = type(module).__name__
    if isinstance(module, nn.Dropout):
        return float(module.p), False
    if kind == "StochasticDepth":
        rate: Any = module.p
        return float(rate), module.mode == "row"
    if kind.endswith("DropPath") and getattr(module, "scale_by_keep", True) and not list(module.parameters()):
        p: Any = getattr(module, "drop_prob", None)
        return float(p or 0), True
    return 0.0, False


def draws_in_functions(model: nn.Module) -> bool:
    """Return whether a network seems to drop inside of its functions: a layer has a rate for it that is not 0."""
    for name, module in model.named_modules():
        if isinstance(module, Dropout):
            if "attn" in name or "attention" in name:  # fused attention takes the probability, and drops by itself
                return True
        elif any(_is_rate(key, value) for key, value in vars(module).items()) or (
            isinstance(module, _DropoutNd) and module.p
        ):
            return True
    return False


def _is_rate(key: str, value: object) -> bool:
    return "drop" in key and isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


def seed_draws(model: nn.Module) -> None:
    """Let a network draw all its randomness in training from a source of its own, in place.

    The global generators are seeded before its forward pass and restored after it, so that a resumed training draws
    the same numbers. Unlike `Dropout`, they depend on the device, and on the number of processes of a training.
    """
    model.add_module(_DRAWS, Draws())
    model.register_forward_pre_hook(_seed)
    model.register_forward_hook(_restore, always_call=True)


def _seed(model: nn.Module, _args: Any) -> None:
    draws = model._modules[_DRAWS]
    assert isinstance(draws, Draws)
    if model.training and draws.seed.device.type != "meta":
        cuda = [draws.seed.device] if draws.seed.device.type == "cuda" else []
        vars(draws)["outside"] = torch.get_rng_state(), {device: torch.cuda.get_rng_state(device) for device in cuda}
        seed = draws.next_seed()
        torch.default_generator.manual_seed(seed)
        for device in cuda:
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)


def _restore(model: nn.Module, _args: Any, _outputs: Any) -> None:
    state, of_devices = vars(model._modules[_DRAWS]).pop("outside", (None, {}))
    if state is not None:
        torch.set_rng_state(state)
    for device, own in of_devices.items():
        torch.cuda.set_rng_state(own, device)
