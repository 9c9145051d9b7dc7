"""Effective sparsity (Vysogorets and Kempe 2023): weights that cannot change the output count as pruned.

A kept weight is effective if it lies on a path of kept weights from the input to the output. With the prunable weights
n, the kept ones k and the effective ones e,

    direct sparsity = 1 - k / n,   effective sparsity = 1 - e / n.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.measures.measure import Measure, Measured, NoOptions

if TYPE_CHECKING:
    from analysis.measures.inputs import MeasuredRun, Measuring


def compute(_: Measuring, options: NoOptions, run: MeasuredRun) -> Measured:  # noqa: ARG001 (it has none)
    """Return density, effective_density and their complements, over all prunable weights, and by layer.

    A run without a mask keeps everything. Raises: UsageError for a network whose units cannot be traced.
    """
    from pruning.paths.connectivity import effective
    from pruning.paths.graph import trace

    model = run.network()
    mask = run.mask_of(model)
    on_paths = effective(trace(model, run.inputs), mask)
    density, effective_density = mask.density, on_paths.density
    layers = [name for name, _ in model.named_parameters() if name in mask]
    kept, left = mask.kept_per_layer(), on_paths.kept_per_layer()
    return Measured(
        values={
            "density": density,
            "effective_density": effective_density,
            "sparsity": 1 - density,
            "effective_sparsity": 1 - effective_density,
        },
        table={
            "layer": layers,
            "size": [mask[name].numel() for name in layers],
            "kept": [kept[name] for name in layers],
            "effective": [left[name] for name in layers],
        },
    )


EFFECTIVE_SPARSITY = Measure(
    spelling="effective_sparsity",
    summary="share of the weights that are pruned or on no path from input to output",
    paper="Vysogorets and Kempe 2023, Connectivity Matters: Neural Network Pruning through Effective Sparsity",
    compute=compute,
)
