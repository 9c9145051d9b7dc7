"""Outputs of activations that are nearly zero, against forward passes written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from analysis.measures.results import measure
from analysis.rows.run import StoredRun
from models.activations import activation
from models.networks.soft_activation import FadingAct, activation_layers
from tests.analysis.conftest import Family
from tests.analysis.measures.opened import batches_of, opened


@pytest.mark.parametrize(("threshold", "examples"), [(1e-2, None), (0.5, 100), (0.0, 300)])
def test_of_a_perceptron_the_outputs_of_its_hidden_units_count(
    family: Family, threshold: float, examples: int | None
) -> None:
    run = opened(family, family.branch)
    state = {name: part.double().numpy() for name, part in run.state().items()}
    images = np.concatenate([images.flatten(1).numpy() for images, _ in batches_of(run, "test")])[:examples]
    hidden = np.maximum(images @ state["fc_layers.0.weight"].T + state["fc_layers.0.bias"], 0)
    near_zero = int((np.abs(hidden) <= threshold).sum())

    found = measure("activation_sparsity", run, threshold=threshold, examples=examples, device="cpu")

    assert found.values["outputs"] == hidden.size
    # An output that is at the threshold but for rounding may fall on either side.
    assert found.values["near_zero"] == pytest.approx(near_zero, abs=2)
    assert found.values["sparsity"] == found.values["near_zero"] / hidden.size
    assert found.table["activation"] == ["act"]


def test_each_call_of_an_activation_in_a_block_counts_by_itself(resnets: tuple[StoredRun, StoredRun]) -> None:
    run = resnets[0]
    model: Any = run.model().double()
    counts: list[list[int]] = []
    for images, _ in batches_of(run, "test"):
        with torch.no_grad():
            outputs = [F.relu(model.bn(model.conv(images)))]
            for block in model.blocks:
                outputs.append(F.relu(block.bn1(block.conv1(outputs[-1]))))
                outputs.append(F.relu(block.bn2(block.conv2(outputs[-1])) + block.shortcut(outputs[-2])))
        counts.append([int((output.abs() <= 1e-2).sum()) for output in outputs])

    found = measure("activation_sparsity", run, device="cpu")

    assert found.table["near_zero"] == pytest.approx(np.sum(counts, 0), abs=2)
    assert found.table["call"] == [1, 1, 2, 1, 2, 1, 2]
    assert found.table["activation"] == ["act", *(f"blocks.{block}.act" for block in (0, 0, 1, 1, 2, 2))]
    assert found.values["accuracy"] == pytest.approx(run.results["test_accuracy"])


def test_activations_that_fade_or_are_layers_are_watched_as_a_whole() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), FadingAct(activation("swish")), torch.nn.ReLU6(), torch.nn.ELU())

    layers = activation_layers(model)

    assert list(layers.values()) == list(model)[1:]
    assert model[1].function is activation("swish")  # no layer of its own
