"""Measures of the masks of two runs, against sets and counts."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.measures.results import measure
from foundations.errors import UsageError
from tests.analysis.conftest import Family
from tests.analysis.measures.opened import opened

LAYERS = ["fc_layers.0.weight", "fc.weight"]


def kept(family: Family) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the masks of the branch and of the lottery's first level, by layer."""
    masks = [opened(family, run).mask() for run in (family.branch, family.levels[0])]
    first, second = ([mask[layer].numpy() for layer in LAYERS] for mask in masks if mask is not None)
    return first, second


def test_overlap_is_that_of_sets_and_chance_that_of_the_densities_of_layers(family: Family) -> None:
    first, second = kept(family)
    both = [int((a & b).sum()) for a, b in zip(first, second, strict=True)]
    expected = [a.sum() * b.sum() / a.size for a, b in zip(first, second, strict=True)]
    either = sum(int((a | b).sum()) for a, b in zip(first, second, strict=True))
    sizes = sum(a.sum() for a in first), sum(b.sum() for b in second)

    found = measure("mask_overlap", opened(family, family.branch), opened(family, family.levels[0]))

    assert found.table["layer"] == LAYERS
    assert found.table["both"] == both
    assert found.table["both_by_chance"] == pytest.approx(expected)
    assert found.values["jaccard"] == pytest.approx(sum(both) / either)
    assert found.values["of_smaller"] == pytest.approx(sum(both) / min(sizes))
    assert found.values["of_smaller_by_chance"] == pytest.approx(sum(expected) / min(sizes))
    assert found.values["over_chance"] == pytest.approx(sum(both) / sum(expected))
    assert found.values["standard_score"] > 3  # both are large weights of one training


def test_the_hamming_distance_counts_the_weights_that_just_one_keeps(family: Family) -> None:
    first, second = kept(family)
    differing = [int((a != b).sum()) for a, b in zip(first, second, strict=True)]

    found = measure("hamming_distance", opened(family, family.branch), opened(family, family.levels[0]))

    assert found.table["distance"] == differing
    assert found.table["fraction"] == pytest.approx([d / a.size for d, a in zip(differing, first, strict=True)])
    assert found.values == {"distance": sum(differing), "fraction": sum(differing) / sum(a.size for a in first)}


def test_a_run_without_a_mask_keeps_everything_but_one_must_have_a_mask(family: Family) -> None:
    training, branch = opened(family, family.training), opened(family, family.branch)
    mask = branch.mask()
    assert mask is not None

    assert measure("hamming_distance", training, branch).values["distance"] == mask.pruned
    with pytest.raises(UsageError, match="neither .* nor .* has a mask"):
        measure("mask_overlap", training, training)
