"""Overlap of two masks, compared with chance.

With A and B the kept weights of the masks,

    jaccard = |A ∩ B| / |A ∪ B|,   of_smaller = |A ∩ B| / min(|A|, |B|),

and the expectation for random masks that keep as many weights of each layer: see `pruning.masks.overlap`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.measures.layers import overlap_of
from analysis.measures.measure import Measure, Measured, NoOptions

if TYPE_CHECKING:
    from analysis.measures.inputs import MeasuredRun, Measuring

_FIGURES = (
    "both",
    "both_by_chance",
    "jaccard",
    "jaccard_by_chance",
    "of_smaller",
    "of_smaller_by_chance",
    "beyond_chance",
    "over_chance",
    "standard_score",
)


def compute(_: Measuring, options: NoOptions, first: MeasuredRun, second: MeasuredRun) -> Measured:  # noqa: ARG001
    """Return `pruning.masks.overlap.Overlap`'s counts and figures over all weights; the table has them for each tensor.

    over_chance: |A ∩ B| divided by its expectation, 1 for random masks. standard_score: the excess of |A ∩ B| over its
    expectation, in standard deviations. beyond_chance: from the Jaccard index, 0 by chance and 1 for equal masks.
    Raises: as `layers.overlap_of`.
    """
    from pruning.masks.overlap import total_overlap

    layers, _mask = overlap_of(first, second)
    total = total_overlap(layers.values())
    return Measured(
        values={name: getattr(total, name) for name in _FIGURES},
        table={"layer": list(layers)}
        | {
            name: [getattr(layer, name) for layer in layers.values()] for name in ("size", "first", "second", *_FIGURES)
        },
    )


MASK_OVERLAP = Measure(
    spelling="mask_overlap",
    summary="what two masks have in common, against chance by the densities of layers",
    takes="two runs",
    compute=compute,
)
