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
        "analysis.measures.mask_overlap",
        "analysis.measures.hamming_distance",
        "analysis.measures.filter_zero_rates",
        "analysis.measures.kernel_maps",
        "analysis.measures.activation_sparsity",
        "analysis.measures.gradient_flow",
        "analysis.measures.sign_agreement",
        "analysis.measures.linear_mode_connectivity",
        "analysis.measures.sgd_stability",
        "analysis.measures.calibration_error",
    ),
)
