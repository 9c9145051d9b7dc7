"""Masks: the kept weights of a network."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foundations.errors import DamagedError, UsageError, invalid
from foundations.files import write_atomically
from foundations.random_streams import generator
from foundations.storage import tensor_files
from foundations.storage.run import MASK, Run
from pruning.hparams import DEFAULT_LAYERS, PruningHparams
from pruning.masks.attached_mask import AttachedMask
from pruning.masks.mask_files import pack, unpack
from pruning.masks.overlap import overlap, overlap_per_layer
from pruning.weights.computed_weights import Computed
from pruning.weights.left_out import warn_of_left_out
from pruning.weights.named_weights import Weight, named_weights, refuse_unprunable
from pruning.weights.prunable import Choice, prunable_weights, weights_to_prune
from pruning.weights.shards import local, part_of, reshard


class Mask(Mapping[str, torch.Tensor]):
    """The kept weights of a network: by name, a bool tensor on the CPU of the weight's shape, True where kept.

    An immutable mapping, sorted by name: every operation returns another mask, and callers must not write to the
    tensors that it returns. *Density* is the share of kept weights, *sparsity* the share of pruned ones.
    """

    __slots__ = ("_kept_indices", "_model", "_tensors")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tensors: Mapping[str, torch.Tensor], model: nn.Module | None = None) -> None:
        """Copy `tensors` (bool, or numbers that are 0 or 1). They are for `model`, if it is given.

        Raises: UsageError for a tensor with other values, or with a name or shape that is not the model's.
        """
        self._tensors = {name: _as_bool(name, tensors[name]) for name in sorted(tensors)}
        self._kept_indices: dict[str, torch.Tensor] | None = None
        self._model: weakref.ref[nn.Module] | None = None
        if model is not None:
            self.weights_of(model)

    @classmethod
    def ones(cls, model: nn.Module, layer_types: Sequence[Choice] = (DEFAULT_LAYERS,), *, biases: bool = False) -> Mask:
        """Return the mask of `model` that keeps every prunable weight.

        layer_types, biases: the layers, as in `pruning.weights.prunable.prunable_weights`: types, names, patterns of
        names. By default, UnprunedWarning names the weights that are not prunable.
        """
        mask = cls._all_of(model, prunable_weights(model, layer_types, biases=biases))
        if tuple(layer_types) == (DEFAULT_LAYERS,):
            warn_of_left_out(model, mask, stacklevel=2)
        return mask

    @classmethod
    def to_prune(cls, model: nn.Module, hparams: PruningHparams) -> Mask:
        """Return the mask of `model` that keeps every weight that the hyperparameters make prunable."""
        return cls._all_of(model, weights_to_prune(model, hparams))

    @classmethod
    def _all_of(cls, model: nn.Module, weights: Mapping[str, Weight]) -> Mask:
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

    @property
    def kept_indices(self) -> dict[str, torch.Tensor]:
        """The flat indices (int64, ascending) of the kept weights of each tensor; they are cached."""
        if self._kept_indices is None:
            self._kept_indices = {name: true_indices(tensor) for name, tensor in self.items()}
        return self._kept_indices

    def newly_pruned_by(self, other: Mask) -> dict[str, torch.Tensor]:
        """Return the flat indices (int64, ascending) of the weights that this mask keeps and `other` prunes."""
        if self._kept_indices is None:
            return {name: true_indices(torch.gt(tensor, other[name])) for name, tensor in self.items()}
        return {
            name: kept.index_select(0, true_indices(~other[name].view(-1).index_select(0, kept)))
            for name, kept in self._kept_indices.items()
        }

    def kept_per_layer(self) -> dict[str, int]:
        """Return the number of kept weights of each tensor."""
        if self._kept_indices is not None:
            return {name: len(kept) for name, kept in self._kept_indices.items()}
        return {name: int(torch.count_nonzero(tensor)) for name, tensor in self.items()}

    def density_per_layer(self) -> dict[str, float]:
        """Return the share of each tensor that is kept."""
        return {name: kept / max(1, self[name].numel()) for name, kept in self.kept_per_layer().items()}

    def for_model(self, model: nn.Module) -> Mask:
        """Return this mask for `model`. Raises: UsageError if its names or shapes differ."""
        return Mask(self._tensors, model)

    def weights_of(self, model: nn.Module) -> dict[str, Weight]:
        """Return the tensors of `model` that the mask covers. Raises: UsageError if names or shapes differ."""
        weights = named_weights(model)
        for name, tensor in self.items():
            if name not in weights:
                raise UsageError(f"the mask has a tensor '{name}', but {type(model).__name__} has none of that name.")
            if weights[name].shape != tensor.shape:
                raise UsageError(
                    f"the mask's tensor '{name}' is of shape {tuple(tensor.shape)}, "
                    f"but {type(model).__name__} has one of shape {tuple(weights[name].shape)}."
                )
            refuse_unprunable(name, weights[name])
        self._model = weakref.ref(model)
        return {name: weights[name] for name in self}

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Set the pruned weights of `model` to zero, in place. Raises: UsageError if names or shapes differ."""
        for name, weight in self.weights_of(model).items():
            if isinstance(weight, Computed):
                weight.apply_(self[name])
            else:
                local(weight).masked_fill_(~part_of(self[name], weight), 0)

    def attach(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module | None = None,
        *,
        state: Collection[str] | str | None = None,
        keeps_state: bool = False,
        masks_gradients: bool = False,
    ) -> AttachedMask:
        """Keep the pruned weights of `model`, and the optimizer's state for them, at zero: now and after each step.

        By default, `model` is the one that this mask was made for or last applied to. Zeroes state that is known to
        have an entry per weight: in optimizers of torch.optim and classes derived from them, and tensors of the
        weight's shape that `state` names, such as ("exp_avg",). Warns of other state of that shape.

        keeps_state: leave the optimizer's state alone, so that the momentum of pruned weights moves on.
        masks_gradients: let the optimizer see gradients of zero for pruned weights.

        Raises: UsageError if no model is known, if its names or shapes differ, or if the optimizer holds none of the
        mask's weights, such as one that was made for a copy of the network.
        """
        model = model if model is not None else (self._model() if self._model else None)
        if model is None:
            raise UsageError("the mask does not know its model: pass model=... to attach().")
        kept, weights = self.on_parameters(model)
        return AttachedMask(kept, weights, optimizer, state, keeps_state=keeps_state, masks_gradients=masks_gradients)

    def on_parameters(self, model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, nn.Parameter]]:
        """Return masks (bool) of parameters of `model` by name, and these parameters by the same names.

        The masks are the mask's own tensors, unless a layer computes the weight from other parameters (weight_norm,
        torch.nn.utils.prune): then the names are those parameters'. Raises: UsageError if names or shapes differ.
        """
        reshard(model)
        kept: dict[str, torch.Tensor] = {}
        parameters: dict[str, nn.Parameter] = {}
        for name, weight in self.weights_of(model).items():
            if isinstance(weight, Computed):
                prefix = name.removesuffix(weight.tensor)
                kept |= {f"{prefix}{part}": mask for part, mask in weight.masks(self[name]).items()}
                parameters |= {f"{prefix}{part}": parameter for part, parameter in weight.parameters.items()}
            else:
                kept[name], parameters[name] = self[name], weight
        return kept, parameters

    def values_in(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Return the weights of `model` that the mask names, without gradients. Raises: UsageError as `apply_`."""
        weights = self.weights_of(model)
        return {
            name: weight.value() if isinstance(weight, Computed) else weight.detach()
            for name, weight in weights.items()
        }

    def union(self, other: Mask) -> Mask:
        """Return the mask of the weights that either keeps."""
        return self._combine(other, torch.logical_or)

    def intersection(self, other: Mask) -> Mask:
        """Return the mask of the weights that both keep."""
        return self._combine(other, torch.logical_and)

    def invert(self) -> Mask:
        """Return the mask of the weights that this one prunes."""
        return self.with_tensors({name: ~tensor for name, tensor in self.items()})

    def shuffled_layerwise(self, seed: int) -> Mask:
        """Return a mask that keeps as many weights of each tensor, at random places (one stream a tensor)."""
        shuffled = {}
        for name, tensor in self.items():
            order = torch.randperm(tensor.numel(), generator=generator("layerwise shuffle", seed, name))
            shuffled[name] = tensor.flatten()[order].view(tensor.shape)
        return self.with_tensors(shuffled)

    def shuffled_over_width(self, seed: int, fraction: float) -> Mask:
        """Return a mask that keeps as many weights of each tensor, at random places in its first units (outputs).

        Of n units, w of which keep a weight, these are the first int((n - w) * fraction + w): fraction 0 redistributes
        over as many units as keep a weight, 1 over all (Patil & Dovrolis 2021, figure 4). A unit is an entry of the
        first dimension.
        """
        shuffled = {}
        for name, tensor in self.items():
            used = int(tensor.flatten(1).any(1).sum()) if tensor.dim() > 1 else int(tensor.sum())
            units = int((len(tensor) - used) * fraction + used)
            places = units * (tensor.numel() // len(tensor))
            order = torch.randperm(places, generator=generator("shuffle over width", seed, name))
            flat = torch.zeros(tensor.numel(), dtype=torch.bool)
            flat[order[: int(tensor.sum())]] = True
            shuffled[name] = flat.view(tensor.shape)
        return self.with_tensors(shuffled)

    def shuffled_globally(self, seed: int) -> Mask:
        """Return a mask that keeps as many weights in all, at random places over all tensors together."""
        order = torch.randperm(self.total, generator=generator("global shuffle", seed))
        flat = torch.cat([tensor.flatten() for tensor in self.values()])[order]
        parts = torch.split(flat, [tensor.numel() for tensor in self.values()])
        return self.with_tensors({name: part.view(self[name].shape) for name, part in zip(self, parts, strict=True)})

    def with_whole(self, names: Sequence[str], argument: str = "names") -> Mask:
        """Return a mask that keeps every weight of some tensors.

        Raises: UsageError about `argument` for a name that the mask does not have.
        """
        for name in names:
            if name not in self:
                raise invalid(name, argument, self)
        return self.with_tensors({**self, **{name: torch.ones_like(self[name]) for name in names}})

    def overlap(self, other: Mask) -> float:
        """Return |A and B| / min(|A|, |B|): how much of the smaller mask is in the larger one (1 if it is empty)."""
        return overlap(self, other).of_smaller

    def jaccard(self, other: Mask) -> float:
        """Return |A and B| / |A or B| (1 if both are empty)."""
        return overlap(self, other).jaccard

    def overlap_per_layer(self, other: Mask) -> dict[str, float]:
        """Return `overlap` by tensor."""
        return {name: layer.of_smaller for name, layer in overlap_per_layer(self, other).items()}

    def jaccard_per_layer(self, other: Mask) -> dict[str, float]:
        """Return `jaccard` by tensor."""
        return {name: layer.jaccard for name, layer in overlap_per_layer(self, other).items()}

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
        return self.with_tensors({name: operation(self[name], other[name]) for name in self})

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> Mask:
        """Return the mask of other tensors for the same model."""
        return Mask(tensors, self._model() if self._model else None)

    def of_same_shapes(
        self, tensors: dict[str, torch.Tensor], kept_indices: dict[str, torch.Tensor] | None = None
    ) -> Mask:
        """Return the mask of other bool tensors of the same names and shapes, which are neither checked nor copied.

        kept_indices: the result of `kept_indices`, for the cache. An iterative method reads only the kept weights,
        which in late iterations are few; but the indices of nearly all weights take eight times the memory of the
        mask, so long-lived masks should not have them.
        """
        mask = Mask.__new__(Mask)
        mask._tensors, mask._kept_indices, mask._model = tensors, kept_indices, self._model
        return mask

    def to_tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the mask as bits and a description of them, ready for `foundations.storage.tensor_files`."""
        return pack(self)

    @classmethod
    def from_tensors(cls, bits: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> Mask:
        """Return the mask that `to_tensors` packed. Raises: DamagedError if bits and header do not belong together."""
        return cls(unpack(bits, header))

    @classmethod
    def of_run(cls, run: Run) -> Mask:
        """Return the mask that a run's directory holds.

        Raises: EnvironmentFailure where it has none; DamagedError that names the file where it is not what was written.
        """
        bits, header = run.load_mask()
        try:
            return cls.from_tensors(bits, header)
        except DamagedError as error:
            raise run.damaged(MASK, str(error)) from error

    def to_bytes(self) -> bytes:
        """Return the content of the mask's file: the same bytes for equal masks."""
        return tensor_files.to_bytes(*self.to_tensors())

    def save(self, path: str | Path) -> None:
        """Write the mask to a file, in the format of a run's own `mask.safetensors`. Raises: EnvironmentFailure."""
        write_atomically(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> Mask:
        """Read a mask that `save` or a run wrote. Nothing in the file is executed.

        Raises: DamagedError that names the file, if it is damaged or not a mask; EnvironmentFailure if it cannot be
        read.
        """
        bits, header = tensor_files.read(Path(path), "It is not a mask that Mask.save or a run wrote.")
        try:
            return cls.from_tensors(bits, header)
        except DamagedError as error:
            raise DamagedError(f"{path}: {error}") from error


def true_indices(tensor: torch.Tensor) -> torch.Tensor:
    """Return the flat indices, int64 and ascending, at which a CPU tensor is true.

    This is `tensor.view(-1).nonzero()`, several times faster.
    """
    return torch.from_numpy(tensor.numpy().reshape(-1).nonzero()[0])


def _as_bool(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype != torch.bool and not bool(((tensor == 0) | (tensor == 1)).all()):
        raise UsageError(f"the mask's tensor '{name}' has entries other than 0 and 1.")
    return tensor.detach().to("cpu", torch.bool, copy=True, memory_format=torch.contiguous_format)
