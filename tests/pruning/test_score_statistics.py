from __future__ import annotations

import json
import math

import pytest
import torch

from pruning.scoring.score_statistics import score_statistics


def test_statistics_are_those_of_their_definitions() -> None:
    scores = torch.randn(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = scores.flatten().tolist()
    expected: dict[str, float] = {}
    for prefix, these in (("", values), ("abs_", [abs(value) for value in values])):
        mean = math.fsum(these) / 35
        expected[f"{prefix}mean"] = mean
        expected[f"{prefix}variance"] = math.fsum((value - mean) ** 2 for value in these) / 35
        expected[f"{prefix}sum"] = math.fsum(these)

    assert score_statistics({"fc.weight": scores})["fc.weight"] == pytest.approx(expected, rel=1e-12)


def test_scores_of_low_precision_are_summed_in_float64() -> None:
    many = torch.full((1 << 20,), 0.1, dtype=torch.float32)

    assert score_statistics({"w": many})["w"]["sum"] == pytest.approx(float(many[0]) * (1 << 20), rel=1e-12)


def test_what_is_not_finite_is_null_in_json() -> None:
    found = score_statistics({"w": torch.tensor([1e200, -1e200], dtype=torch.float64)})

    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["w"] == {
        "mean": 0.0,
        "variance": None,
        "sum": 0.0,
        "abs_mean": 1e200,
        "abs_variance": 0.0,
        "abs_sum": 2e200,
    }
