"""Constant fan-in: as many weights stay in each neuron of a layer (Lasby et al. 2024)."""

from __future__ import annotations

from pruning.structure.structure import Structure, by_neuron

CONSTANT_FAN_IN = Structure(
    spelling="constant_fan_in",
    summary="as many weights stay in each neuron of a layer",
    paper="Lasby et al. 2024, Dynamic Sparse Training with Structured Sparsity",
    groups=by_neuron,
)
