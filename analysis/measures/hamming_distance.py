"""The Hamming distance of two masks (Jaiswal et al. 2022, ToST): the number of weights at which they differ.

    d(m, m') = Σ_i [m_i ≠ m'_i],   fraction = d / n,

over all prunable weights, and over those of convolutions alone, as in the figures of ToST.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from analysis.measures.layers import overlap_of
from analysis.measures.measure import Measure, Measured, NoOptions

if TYPE_CHECKING:
    from analysis.measures.inputs import MeasuredRun, Measuring
    from pruning.masks.overlap import Overlap


def compute(_: Measuring, options: NoOptions, first: MeasuredRun, second: MeasuredRun) -> Measured:  # noqa: ARG001
    """Return distance and fraction over all weights and, in a network with convolutions, over their weights.

    The table has a row for each tensor of the masks. Raises: as `layers.overlap_of`.
    """
    layers, mask = overlap_of(first, second)
    values = _distance("", layers.values())
    convolutions = [layer for name, layer in layers.items() if mask[name].dim() > 2]  # (out, in, height, ...)
    if convolutions:
        values |= _distance("convolutions_", convolutions)
    return Measured(
        values=values,
        table={
            "layer": list(layers),
            "size": [layer.size for layer in layers.values()],
            "distance": [layer.differing for layer in layers.values()],
            "fraction": [layer.differing / layer.size for layer in layers.values()],
        },
    )


def _distance(prefix: str, layers: Iterable[Overlap]) -> dict[str, float]:
    from pruning.masks.overlap import total_overlap

    total = total_overlap(layers)
    return {f"{prefix}distance": total.differing, f"{prefix}fraction": total.differing / total.size}


HAMMING_DISTANCE = Measure(
    spelling="hamming_distance",
    summary="number and share of the weights at which two masks differ",
    paper="Jaiswal et al. 2022, Training Your Sparse Neural Network Better with Any Mask (ToST)",
    takes="two runs",
    compute=compute,
)
