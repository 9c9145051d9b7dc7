"""The measures by name: a line for each file that declares one. Imports no torch."""

from __future__ import annotations

from analysis.measures.measure import Measure
from foundations.registry import Registry

MEASURES = Registry(
    Measure,
    "measure",
    (
        "analysis.measures.unit_conservation",
        "analysis.measures.layer_conservation",
        "analysis.measures.lottery_layer_conservation",
        "analysis.measures.synaptic_flow_ratio",
        "analysis.measures.path_kernel_trace",
        "analysis.measures.effective_sparsity",
        "analysis.measures.degree_statistics",
    ),
)
