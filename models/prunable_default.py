"""The layers that are pruned by default in a network, where they differ from the rule of `docs/prunable.md`."""

from __future__ import annotations

import contextlib
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
        """Return a network's own default, or the general one; of a network of transformers, without the head.

        There the head is that of a language model; and the linear layers of GPT-2 are of a class of their own, Conv1D.
        """
        found = getattr(network, "prunable_default", None)
        if isinstance(found, PrunableDefault):
            return found
        head_of = getattr(network, "get_output_embeddings", None)
        if not callable(head_of):
            return PrunableDefault()
        head = None
        with contextlib.suppress(NotImplementedError, AttributeError):
            head = head_of()
        names = (name for name, module in network.named_modules() if module is head)
        return PrunableDefault(also=("Conv1D",), without=tuple(names))
