"""Masks: which weights are kept."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from foundations.errors import DamagedError, UsageError
from foundations.random_streams import generator
from pruning.prunable import LAYER_TYPES, prunable_weights

_HEADER = "open_prune_mask"


class Mask(Mapping[str, torch.Tensor]):
    """Which weights of a network are kept: by name, a bool tensor on the CPU of the weight's shape, True where kept.

    A mapping in sorted order of the names that never changes: every operation returns another mask, and the tensors
    that it hands out are not to be written to. *Density* is the share that is kept, *sparsity* that which is pruned.
    """

    __slots__ = ("_kept_at", "_model", "_tensors")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tensors: Mapping[str, torch.Tensor], model: nn.Module | None = None) -> None:
        """Copy `tensors` (bool, or numbers that are 0 or 1), for `model` if it is known already.

        Raises: UsageError for a tensor with other values, or names or shapes that are not the model's.
        """
        self._tensors = {name: _as_bool(name, tensors[name]) for name in sorted(tensors)}
        self._kept_at: dict[str, torch.Tensor] = {}
        self._model: weakref.ref[nn.Module] | None = None
        if model is not None:
            self._weights_of(model)

    @classmethod
    def ones(cls, model: nn.Module, layer_types: tuple[type[nn.Module], ...] = LAYER_TYPES) -> Mask:
        """Return the mask of `model` that keeps every prunable weight."""
        weights = prunable_weights(model, layer_types)
        return cls({name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in weights.items()}, model)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return list(self) == list(other) and all(torch.equal(self[name], other[name]) for name in self)

    def __repr__(self) -> str:
        return f"Mask({len(self)} tensors, {self.kept} of {self.total} weights kept, density {self.density:.6g})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Mask, (self._tensors,)

    @property
    def total(self) -> int:
        """Number of weights."""
        return sum(tensor.numel() for tensor in self.values())

    @property
    def kept(self) -> int:
        """Number of weights that are kept."""
        return sum(self.kept_per_layer().values())

    @property
    def pruned(self) -> int:
        """Number of weights that are pruned."""
        return self.total - self.kept

    @property
    def density(self) -> float:
        """Share of the weights that is kept (1 for a mask of no weights)."""
        return self.kept / self.total if self.total else 1.0

    @property
    def sparsity(self) -> float:
        """Share of the weights that is pruned."""
        return 1 - self.density

    def kept_at(self, name: str) -> torch.Tensor:
        """Return the flat indices (int64, ascending) of the kept weights of a tensor, found once and remembered."""
        if name not in self._kept_at:
            self._kept_at[name] = true_at(self[name])
        return self._kept_at[name]

    def remembers(self, name: str) -> bool:
        """Tell whether `kept_at` costs nothing."""
        return name in self._kept_at

    def remember(self, kept_at: Mapping[str, torch.Tensor]) -> Mask:
        """Return this mask, knowing where its kept weights are: by name, what `kept_at` would find. Or forget, with {}.

        An iterative method looks at what is left only, which in late iterations is little; but the indices of nearly
        all weights take eight times the memory of the mask.
        """
        self._kept_at = dict(kept_at)
        return self

    def kept_per_layer(self) -> dict[str, int]:
        """Return the number of kept weights of each tensor."""
        return {
            name: len(self._kept_at[name]) if self.remembers(name) else int(torch.count_nonzero(tensor))
            for name, tensor in self.items()
        }

    def density_per_layer(self) -> dict[str, float]:
        """Return the share of each tensor that is kept."""
        return {name: kept / max(1, self[name].numel()) for name, kept in self.kept_per_layer().items()}

    def for_model(self, model: nn.Module) -> Mask:
        """Return this mask for `model`. Raises: UsageError where their names or shapes differ."""
        return Mask(self._tensors, model)

    def _weights_of(self, model: nn.Module) -> dict[str, nn.Parameter]:
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for name, tensor in self.items():
            if name not in parameters:
                raise UsageError(f"the mask has a tensor '{name}', which {type(model).__name__} has not.")
            if parameters[name].shape != tensor.shape:
                raise UsageError(
                    f"the mask's tensor '{name}' is of shape {tuple(tensor.shape)}, "
                    f"but {type(model).__name__} has one of shape {tuple(parameters[name].shape)}."
                )
        self._model = weakref.ref(model)
        return {name: parameters[name] for name in self}

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Set the pruned weights of `model` to zero, in place. Raises: UsageError where names or shapes differ."""
        weights = self._weights_of(model)
        for name, weight in weights.items():
            weight.masked_fill_(~self[name].to(weight.device), 0)

    def attach(self, optimizer: torch.optim.Optimizer, model: nn.Module | None = None) -> AttachedMask:
        """Keep the pruned weights of `model`, and the optimizer's state for them, at zero: now and after each step.

        Without `model`, that is the model which this mask was made from or last applied to.

        Raises: UsageError where no model is known or it has other names or shapes.
        """
        model = model if model is not None else (self._model() if self._model else None)
        if model is None:
            raise UsageError("the mask does not know its model: pass model=... to attach().")
        return AttachedMask(self, self._weights_of(model), optimizer)

    def union(self, other: Mask) -> Mask:
        """Return the mask of the weights that either keeps."""
        return self._combine(other, torch.logical_or)

    def intersection(self, other: Mask) -> Mask:
        """Return the mask of the weights that both keep."""
        return self._combine(other, torch.logical_and)

    def invert(self) -> Mask:
        """Return the mask of the weights that this one prunes."""
        return self._like({name: ~tensor for name, tensor in self.items()})

    def shuffled_layerwise(self, seed: int) -> Mask:
        """Return a mask that keeps as many weights of each tensor, at random places (one stream a tensor)."""
        shuffled = {}
        for name, tensor in self.items():
            order = torch.randperm(tensor.numel(), generator=generator("layerwise shuffle", seed, name))
            shuffled[name] = tensor.flatten()[order].view(tensor.shape)
        return self._like(shuffled)

    def shuffled_globally(self, seed: int) -> Mask:
        """Return a mask that keeps as many weights in all, at random places over all tensors together."""
        order = torch.randperm(self.total, generator=generator("global shuffle", seed))
        flat = torch.cat([tensor.flatten() for tensor in self.values()])[order]
        parts = torch.split(flat, [tensor.numel() for tensor in self.values()])
        return self._like({name: part.view(self[name].shape) for name, part in zip(self, parts, strict=True)})

    def overlap(self, other: Mask) -> float:
        """Return |A and B| / min(|A|, |B|): how much of the smaller mask is in the larger one (1 if it is empty)."""
        return _ratio(self.intersection(other).kept, min(self.kept, other.kept))

    def jaccard(self, other: Mask) -> float:
        """Return |A and B| / |A or B| (1 if both are empty)."""
        return _ratio(self.intersection(other).kept, self.union(other).kept)

    def overlap_per_layer(self, other: Mask) -> dict[str, float]:
        """Return `overlap` by tensor."""
        both, mine, theirs = self.intersection(other).kept_per_layer(), self.kept_per_layer(), other.kept_per_layer()
        return {name: _ratio(both[name], min(mine[name], theirs[name])) for name in self}

    def jaccard_per_layer(self, other: Mask) -> dict[str, float]:
        """Return `jaccard` by tensor."""
        both, either = self.intersection(other).kept_per_layer(), self.union(other).kept_per_layer()
        return {name: _ratio(both[name], either[name]) for name in self}

    def _combine(self, other: Mask, operation: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Mask:
        for name in sorted({*self, *other}):
            mine, theirs = self.get(name), other.get(name)
            if mine is None or theirs is None:
                raise UsageError(f"these masks are of different networks: only one has a tensor '{name}'.")
            if mine.shape != theirs.shape:
                raise UsageError(
                    f"these masks are of different networks: '{name}' is of shape {tuple(mine.shape)} in one "
                    f"and {tuple(theirs.shape)} in the other."
                )
        return self._like({name: operation(self[name], other[name]) for name in self})

    def _like(self, tensors: Mapping[str, torch.Tensor]) -> Mask:
        return Mask(tensors, self._model() if self._model else None)

    def to_tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Return the bits, uint8 of ceil(numel / 8) bytes a tensor (lowest bit first), and metadata with the shapes.

        The metadata is one entry, since safetensors writes several in an order that changes from process to process.
        """
        bits = {
            name: torch.from_numpy(np.packbits(tensor.flatten().numpy(), bitorder="little"))
            for name, tensor in self.items()
        }
        shapes = {name: list(tensor.shape) for name, tensor in self.items()}
        return bits, {_HEADER: json.dumps({"version": 1, "shapes": shapes}, sort_keys=True)}

    @classmethod
    def from_tensors(cls, bits: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> Mask:
        """Return the mask that `to_tensors` made these of. Raises: DamagedError where they do not belong together."""
        try:
            header = json.loads(metadata[_HEADER])
            shapes = {name: tuple(int(size) for size in shape) for name, shape in header["shapes"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError("this is not a mask: its description is missing or damaged.") from error
        if header.get("version") != 1:
            raise DamagedError(f"this mask is of version {header.get('version')}; only version 1 is known.")
        if set(bits) != set(shapes):
            raise DamagedError(
                f"this mask is damaged: {sorted(set(bits) ^ set(shapes))} are not both there and described."
            )
        return cls({name: _unpacked(name, bits[name], shape) for name, shape in shapes.items()})

    def to_bytes(self) -> bytes:
        """Return the mask as a safetensors file: the same bytes for equal masks."""
        bits, metadata = self.to_tensors()
        return bytes(safetensors.torch.save(bits, metadata))

    @classmethod
    def from_bytes(cls, content: bytes) -> Mask:
        """Return the mask of a safetensors file. Nothing in it is executed. Raises: DamagedError for anything else."""
        try:
            bits = safetensors.torch.load(content)
            size = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + size]).get("__metadata__", {})
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise DamagedError(f"this is not a mask in a safetensors file: {error}") from error
        return cls.from_tensors(bits, metadata)

    def save(self, path: str | Path) -> None:
        """Write the mask to a safetensors file."""
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> Mask:
        """Read a mask. Raises: DamagedError that names the file, for a file that is damaged or no mask; OSError."""
        try:
            return cls.from_bytes(Path(path).read_bytes())
        except DamagedError as error:
            raise DamagedError(f"{path}: {error}") from error


class AttachedMask:
    """A mask at work: zeroes pruned weights, and the optimizer's state for them, after every step of the optimizer."""

    def __init__(self, mask: Mask, weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        self._mask = mask
        self._weights = weights
        self._factors: dict[str, torch.Tensor] = {}
        self._optimizer = optimizer
        self._hook = optimizer.register_step_post_hook(lambda *_: self.enforce())
        with torch.no_grad():
            for name, weight in weights.items():
                # A pruned weight that is -0.0 (a product has a sign) stays so: training resumes to the same bytes.
                weight.masked_fill_(~mask[name].to(weight.device) & (weight != 0), 0)
        self.enforce()

    @torch.no_grad()
    def enforce(self) -> None:
        """Zero the pruned weights and the optimizer's state for them: every state tensor of the weight's own shape."""
        tensors: list[torch.Tensor] = []
        factors: list[torch.Tensor] = []
        for name, weight in self._weights.items():
            factor = self._factors.get(name)
            if factor is None or factor.device != weight.device or factor.dtype != weight.dtype:
                factor = self._mask[name].to(weight.device, weight.dtype)
                self._factors[name] = factor
            state = self._optimizer.state.get(weight, {})
            for tensor in (weight, *state.values()):
                if isinstance(tensor, torch.Tensor) and tensor.shape == weight.shape:
                    tensors.append(tensor)
                    factors.append(factor if factor.dtype == tensor.dtype else factor.to(tensor.dtype))
        torch._foreach_mul_(tensors, factors)

    def detach(self) -> None:
        """Stop: the optimizer may move the pruned weights again."""
        self._hook.remove()


def true_at(tensor: torch.Tensor) -> torch.Tensor:
    """Return the flat indices, int64 and ascending, at which a CPU tensor is true.

    This is `tensor.view(-1).nonzero()`, several times faster.
    """
    return torch.from_numpy(np.flatnonzero(tensor.numpy()))


def _as_bool(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype != torch.bool and not bool(((tensor == 0) | (tensor == 1)).all()):
        raise UsageError(f"the mask's tensor '{name}' has entries other than 0 and 1.")
    return tensor.detach().to("cpu", torch.bool, copy=True, memory_format=torch.contiguous_format)


def _unpacked(name: str, bits: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    size = math.prod(shape)
    if bits.dtype != torch.uint8 or bits.shape != ((size + 7) // 8,):
        raise DamagedError(f"this mask is damaged: '{name}' has not the bits of a tensor of shape {shape}.")
    values = np.unpackbits(bits.numpy(), bitorder="little")
    if values[size:].any():
        raise DamagedError(f"this mask is damaged: '{name}' has bits beyond its shape {shape}.")
    return torch.from_numpy(values[:size].astype(bool)).view(shape)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
