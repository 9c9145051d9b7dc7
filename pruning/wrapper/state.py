"""The state of a PruningWrapper in a state dict: the mask, the weights to rewind to, and the rounds.

Beside the network's own tensors under `model.`, a wrapper's state dict has

    mask.<name>      bool, of the weight's shape: True where it is kept
    initial.<name>   a tensor of the network's state dict to rewind to
    rounds           int64 (rounds, 2): the number of pruned and of prunable weights after each round

all of them tensors, so that torch.load(weights_only=True) and safetensors read what was saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask

MODEL, MASK, INITIAL, ROUNDS = "model.", "mask.", "initial.", "rounds"

Round = tuple[int, int]
"""The number of pruned weights after a round, and of prunable ones."""


def saved(mask: Mask, initial: Mapping[str, Any], rounds: Iterable[Round]) -> dict[str, Any]:
    """Return the wrapper's own part of a state dict."""
    counts = torch.tensor(list(rounds), dtype=torch.int64).view(-1, 2)
    masks = {MASK + name: kept.clone() for name, kept in mask.items()}
    return {**masks, **{INITIAL + name: value for name, value in initial.items()}, ROUNDS: counts}


def part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the part of a state dict under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


@dataclass
class Loaded:
    """The wrapper's own part of a loaded state dict, and its differences from the expected one."""

    mask: Mask | None = None
    initial: dict[str, Any] = field(default_factory=dict)
    rounds: list[Round] | None = None
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def read(own: Mapping[str, Any], network: nn.Module, present: Mask) -> Loaded:
    """Read the wrapper's own part of a state dict, for `network`; `present` is the wrapper's current mask.

    The loaded mask may cover more tensors of the network than the present one. Tensors that only the present one covers
    keep their present masks, and their names are listed as missing.
    """
    found = Loaded()
    masks, expected = part(own, MASK), network.state_dict()
    try:
        found.mask = Mask({**present, **masks}, network) if masks else None
    except UsageError as error:
        found.errors.append(str(error))
    found.initial = part(own, INITIAL)
    found.errors += [
        f"size mismatch for {INITIAL}{name}: the shape is {tuple(value.shape)}, "
        f"but {tuple(expected[name].shape)} in the network."
        for name, value in found.initial.items()
        if isinstance(value, torch.Tensor) and name in expected and value.shape != expected[name].shape
    ]
    counts = own.get(ROUNDS)
    if isinstance(counts, torch.Tensor) and counts.dim() == 2 and counts.shape[1] == 2:
        found.rounds = [(int(pruned), int(total)) for pruned, total in counts.tolist()]
    elif counts is not None:
        found.errors.append(f"{ROUNDS} must be an integer tensor of shape (rounds, 2).")
    names = [*(MASK + name for name in sorted({*masks, *present})), *(INITIAL + name for name in expected), ROUNDS]
    found.missing = [name for name in names if name not in own]
    found.unexpected = sorted(own.keys() - set(names))
    return found


def check_whose(state: Mapping[str, Any], network: nn.Module, *, strict: bool) -> None:
    """Refuse a state dict that is the network's own, or, if strict, one without a mask.

    Raises: UsageError that says how to load it.
    """
    if state and not any(key.startswith((MODEL, MASK, INITIAL, ROUNDS)) for key in state):
        key = next(iter(state))
        hint = "wrapper.model.load_state_dict loads that of the network alone"
        if key not in network.state_dict():
            hint = "a wrapper inside another module is loaded by that module's load_state_dict"
        raise UsageError(
            f"it is not of a PruningWrapper: it has '{key}' and nothing under '{MODEL}'; {hint}.", "state_dict"
        )
    if strict and state and not part(state, MASK):
        raise UsageError(
            "it has no mask (mask.<name>), so pruned weights would grow back. "
            "With strict=False, the wrapper keeps its own mask; set `wrapper.mask` to another one.",
            "state_dict",
        )
