"""Checks that the scripts of this folder share; they run where open_prune is installed, and import it from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from open_prune import Mask, OpenPruneError


def weights_of(model: nn.Module) -> Mapping[str, Tensor]:
    """Return all weights, whole, by their names in the network; all processes must call it."""
    found: Any = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def assert_pruned_are_zero(model: nn.Module, mask: Mask | None) -> None:
    """Assert that a network has exactly zeros where its mask prunes."""
    assert mask is not None
    assert mask.kept > 0
    weights = weights_of(model)
    assert [name for name, kept in mask.items() if weights[name][~kept].any()] == []


def assert_same(one: nn.Module, other: nn.Module) -> None:
    """Assert that two networks have the same bytes."""
    mine, others = weights_of(one), weights_of(other)
    assert [name for name in mine if not torch.equal(mine[name], others[name])] == []


def refused(call: Any, *words: str) -> None:
    """Assert that a call ends with an error of two lines at most, which contains some words."""
    try:
        call()
    except OpenPruneError as error:
        assert all(word in str(error) for word in words), error
        assert len(str(error).splitlines()) <= 2
        return
    raise AssertionError(f"nothing refused a call that needs {words}")
