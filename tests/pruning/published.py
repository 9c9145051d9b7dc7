"""Scoring and counting of published code: for each method of each, the factor to our scores and the counting rule.

A rule repeats the floating point arithmetic of its source, so that it gives the source's count at any level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

Description = Mapping[str, Any]
"""The contents of a case.json."""


# Factors: ours = factor * theirs.


def same(_: Description) -> float:
    """Both compute the same number, not only the same ranking."""
    return 1.0


def normalized_sum_of_batches(case: Description) -> float:
    """Ours: |w Σ_b g_b| / B, of B batches that count alike. Theirs: |w Σ_b g_b| / norm, of sum 1."""
    return case["norm"] / len(case["options"]["batch_sizes"])


def negated_normalized_product_of_sums(case: Description) -> float:
    """Ours: -w (Σ_b H_b / B) (Σ_b g_b / B). Theirs: +w (Σ_b H_b) (Σ_b g_b) / norm, and the lowest are pruned."""
    return -case["norm"] / len(case["options"]["batch_sizes"]) ** 2


def product_of_sums(case: Description) -> float:
    """Ours: -w H g of the mean loss of all. Theirs: H and g are each summed over the parts, all of one size."""
    return 1 / len(case["options"]["batch_sizes"]) ** 2


# Counting rules: (number of weights, options) -> how many are kept after each iteration, if no scores are equal.


def kept_by_ours(total: int, fraction: float) -> int:
    """Prune the whole number nearest to N F, a half rounded up, whatever the number of iterations."""
    return total - math.floor(total * Fraction(str(fraction)) + Fraction(1, 2))


def kept_by_openlth(kept: int, fraction: float, highest: bool = False) -> int:
    """Prune the ceiling of R f of R weights, and the weight at the threshold too, unless the highest are pruned."""
    return kept - math.ceil(kept * fraction) - (0 if highest else 1)


def kept_by_fork(total: int, options: Mapping[str, Any]) -> list[int]:
    """In each of T iterations, prune f = 1 - (1 - F)^(1/T) of the remaining weights, as OpenLTH does."""
    iterations = options["prune_iterations"]
    fraction = 1 - (1 - options["prune_fraction"]) ** (1 / iterations)
    counts = [total]
    for _ in range(iterations):
        counts.append(kept_by_openlth(counts[-1], fraction, options["prune_highest"]))
    return counts[1:]


def kept_by_synaptic_flow(total: int, options: Mapping[str, Any]) -> list[int]:
    """In iteration e of E, prune the floor of (1 - d^(e/E)) N. ToST does the same."""
    iterations = options.get("epochs", 1)
    return [total - int((1 - options["density"] ** (e / iterations)) * total) for e in range(1, iterations + 1)]


def kept_by_grasp(total: int, options: Mapping[str, Any]) -> list[int]:
    """Prune one fewer than the floor of N F: the weight at the threshold stays."""
    return [total - int(total * (1 - (1 - options["prune_fraction"]))) + 1]


def kept_by_phew(total: int, options: Mapping[str, Any]) -> list[int]:
    """In iteration i of T, prune the scores that are not above the percentile 100 (1 - d^(i/T)) of all N."""
    iterations = options["prune_iterations"]
    shares = [1 - options["density"] ** (i / iterations) for i in range(1, iterations + 1)]
    return [total - 1 - int(share * (total - 1)) for share in shares]


@dataclass(frozen=True)
class Published:
    """A method in a published code base, in terms of ours."""

    strategy: str
    """Its name here; N stands for the examples of each class."""
    kept: Callable[[int, Mapping[str, Any]], list[int]]
    factor: Callable[[Description], float] = same
    options: Mapping[str, Any] = field(default_factory=dict)


FORK, SYNAPTIC_FLOW, PHEW = "123Bailey123/Pruning", "ganguli-lab/Synaptic-Flow", "ShreyasMalakarjunPatil/PHEW"
ALIKE = {"score_batches_equally": True}
AS_CODED = {"synflowl2_as_published": True, "synflow_means": "stored"}

PUBLISHED = {
    (FORK, "magnitude"): Published("magnitude", kept_by_fork),
    (FORK, "snip"): Published("snipN", kept_by_fork, options={"score_per_batch": True}),
    (FORK, "grasp"): Published("graspN", kept_by_fork, options={"score_per_batch": True}),
    (FORK, "grasp_abs"): Published("graspabsN", kept_by_fork, options={"score_per_batch": True}),
    (FORK, "synflow"): Published("synflow", kept_by_fork, options={"synflow_means": "stored"}),
    (SYNAPTIC_FLOW, "magnitude"): Published("magnitude", kept_by_synaptic_flow),
    (SYNAPTIC_FLOW, "snip"): Published("snipN", kept_by_synaptic_flow, normalized_sum_of_batches, ALIKE),
    (SYNAPTIC_FLOW, "grasp"): Published("graspN", kept_by_synaptic_flow, negated_normalized_product_of_sums, ALIKE),
    (SYNAPTIC_FLOW, "synflow"): Published("synflow", kept_by_synaptic_flow),
    ("alecwangcq/GraSP", "grasp"): Published("graspN", kept_by_grasp, product_of_sums),
    ("VITA-Group/ToST", "taylor"): Published("taylorN", kept_by_synaptic_flow),
    (PHEW, "synflow_l2"): Published("synflowl2", kept_by_phew, options=AS_CODED),
}
