"""Calibration errors, against bins that are filled one example at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.measures.calibration_error import by_bin
from analysis.measures.results import measure
from tests.analysis.conftest import Family
from tests.analysis.measures.opened import batches_of, opened


@pytest.mark.parametrize("bins", [15, 4])
def test_errors_are_those_of_bins_of_equal_width(family: Family, bins: int) -> None:
    run = opened(family, family.branch)
    state = {name: part.double().numpy() for name, part in run.state().items()}
    confidences, hits = [], []
    for images, labels in batches_of(run, "test"):
        hidden = np.maximum(images.flatten(1).numpy() @ state["fc_layers.0.weight"].T + state["fc_layers.0.bias"], 0)
        logits = hidden @ state["fc.weight"].T + state["fc.bias"]
        for row, label in zip(logits, labels.tolist(), strict=True):
            probabilities = [math.exp(x - max(row)) for x in row]
            confidences.append(max(probabilities) / sum(probabilities))
            hits.append(int(np.argmax(row)) == label)
    members = [[i for i, c in enumerate(confidences) if low / bins < c <= (low + 1) / bins] for low in range(bins)]
    gaps = [abs(sum(hits[i] - confidences[i] for i in bin_)) / len(bin_) if bin_ else 0.0 for bin_ in members]

    found = measure("calibration_error", run, bins=bins, device="cpu")

    assert found.table["examples"] == [len(bin_) for bin_ in members]
    expected = sum(len(bin_) / len(hits) * gap for bin_, gap in zip(members, gaps, strict=True))
    assert found.values["expected_calibration_error"] == pytest.approx(expected, abs=1e-6)
    assert found.values["maximum_calibration_error"] == pytest.approx(max(gaps), abs=1e-5)
    assert found.values["accuracy"] == pytest.approx(run.results["test_accuracy"])
    for row, bin_ in enumerate(members):
        accuracy = sum(hits[i] for i in bin_) / len(bin_) if bin_ else math.nan
        assert found.table["accuracy"][row] == pytest.approx(accuracy, nan_ok=True)


def test_a_confidence_at_a_bound_belongs_to_the_bin_below() -> None:
    found = by_bin(torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64), torch.tensor([True] * 4), 4)

    assert found.table["examples"] == [1, 1, 1, 1]
    assert found.values["expected_calibration_error"] == pytest.approx(0.375)
    assert found.values["maximum_calibration_error"] == pytest.approx(0.75)


def test_a_network_that_is_as_right_as_it_is_sure_is_calibrated() -> None:
    found = by_bin(torch.full((10,), 0.7, dtype=torch.float64), torch.arange(10) < 7, 15)

    assert found.values["expected_calibration_error"] == pytest.approx(0)
