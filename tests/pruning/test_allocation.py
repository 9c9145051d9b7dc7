from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundations.errors import UsageError
from pruning.registry import ALLOCATIONS

SHAPES = {
    "conv": (8, 3, 3, 3),
    "deep": (64, 8, 3, 3),
    "point": (64, 8, 1, 1),
    "fc": (10, 64),
}
SIZES = {name: math.prod(shape) for name, shape in SHAPES.items()}
TOTAL = sum(SIZES.values())
OF_LAYERS = [allocation.spelling for allocation in ALLOCATIONS if allocation.kept_per_layer is not None]


def kept_per_layer(
    allocation: str, keep: int, shapes: dict[str, tuple[int, ...]] = SHAPES, room: dict[str, int] = SIZES
) -> dict[str, int]:
    function = ALLOCATIONS.find(allocation).kept_per_layer
    assert function is not None
    return function(shapes, room, keep)


def densities(allocation: str, keep: int) -> dict[str, float]:
    return {name: kept / SIZES[name] for name, kept in kept_per_layer(allocation, keep).items()}


@pytest.mark.parametrize("allocation", ["uniform", "layerwise"])
def test_uniform_gives_every_layer_the_same_density(allocation: str) -> None:
    found = densities(allocation, TOTAL // 4)
    assert all(abs(density - 0.25) < 0.005 for density in found.values())


def test_er_and_erk_scale_density_by_their_formulas() -> None:
    er, erk = densities("er", 900), densities("erk", 900)
    assert er["deep"] / er["conv"] == pytest.approx(((64 + 8) / (64 * 8)) / ((8 + 3) / (8 * 3)), rel=0.03)
    assert er["deep"] == pytest.approx(er["point"], rel=0.03)  # the same channels: ER does not look at kernels
    deep, conv = (64 + 8 + 3 + 3) / (64 * 8 * 9), (8 + 3 + 3 + 3) / (8 * 3 * 9)
    assert erk["deep"] / erk["conv"] == pytest.approx(deep / conv, rel=0.03)


def test_layers_that_would_be_more_than_dense_are_dense_and_the_others_share_the_rest() -> None:
    found = densities("erk", 4000)
    assert found["conv"] == 1
    assert max(found.values()) <= 1


def test_balanced_gives_every_layer_the_same_number_as_far_as_it_has_them() -> None:
    assert kept_per_layer("balanced", 400) == {"conv": 100, "deep": 100, "point": 100, "fc": 100}
    assert kept_per_layer("balanced", 1216)["conv"] == 216


def test_what_rounding_leaves_goes_to_the_largest_remainders_and_then_to_the_first_names() -> None:
    assert kept_per_layer("balanced", 402) == {"conv": 101, "deep": 101, "point": 100, "fc": 100}
    assert kept_per_layer("uniform", 10, {"a": (3,), "b": (5,), "c": (4,)}, {"a": 3, "b": 5, "c": 4}) == {
        "a": 3,
        "b": 4,
        "c": 3,
    }


def test_smart_ratio_falls_with_depth_and_keeps_three_tenths_of_the_last_layer() -> None:
    found = densities("smart_ratio", 1200)
    assert found["fc"] == 0.3
    assert found["deep"] / found["conv"] == pytest.approx((3**2 + 3) / (4**2 + 4), rel=0.02)
    assert found["point"] / found["conv"] == pytest.approx((2**2 + 2) / (4**2 + 4), rel=0.02)


@given(
    st.sampled_from(OF_LAYERS),
    st.dictionaries(
        st.sampled_from("abcdef"), st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)), min_size=1
    ),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_counts_add_up_and_stay_within_what_there_is(
    allocation: str, shapes: dict[str, tuple[int, ...]], share: float, seed: int
) -> None:
    source = random.Random(seed)
    room = {name: source.randint(0, math.prod(shape)) for name, shape in shapes.items()}
    keep = int(share * sum(room.values()))
    try:
        counts = kept_per_layer(allocation, keep, shapes, room)
    except UsageError as error:
        assert allocation == "uniform_plus" and "the level leaves" in str(error)
        return
    assert sum(counts.values()) == keep
    assert all(0 <= counts[name] <= room[name] for name in shapes)
