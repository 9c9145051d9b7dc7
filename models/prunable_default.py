"""The layers that are pruned by default in a network, where they differ from the rule of `docs/prunable.md`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class PrunableDefault:
    """The difference between `prunable_layers=all` in a network and convolutions, linear layers and attention.

    A network holds it in its attribute `prunable_default`.
    """

    also: tuple[str, ...] = ()
    """The names of further types of layers, such as LSTM."""
    without: tuple[str, ...] = ()
    """The names of layers whose tensors are left out, such as the output layer of a language model."""

    @staticmethod
    def of(network: nn.Module) -> PrunableDefault:
        """Return a network's own default, or the general one."""
        found = getattr(network, "prunable_default", None)
        return found if isinstance(found, PrunableDefault) else PrunableDefault()
