"""Neuron: all weights of a neuron, or of an output channel, stay or go together."""

from __future__ import annotations

from pruning.structure.structure import Structure, by_neuron

NEURON = Structure(
    spelling="neuron",
    summary="all weights of a neuron, or of an output channel, stay or go together",
    groups=by_neuron,
    is_whole=True,
)
