from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.report import sparsity_report
from pruning.scoring.score_statistics import score_statistics
from tests.pruning.nets import LeNet, TinyNet


def test_a_report_counts_requested_and_achieved_in_total_and_by_layer() -> None:
    mask = Mask({"a": torch.tensor([[1, 0, 0, 1]]), "b": torch.zeros(2, 2)})
    report = json.loads(json.dumps(sparsity_report(mask, requested_kept=3)))
    assert report == {
        "total": 8,
        "requested": {"kept": 3, "density": 0.375, "sparsity": 0.625},
        "achieved": {"kept": 2, "density": 0.25, "sparsity": 0.75},
        "collapsed_layers": ["b"],
        "layers": {
            "a": {"shape": [1, 4], "total": 4, "kept": 2, "density": 0.5, "sparsity": 0.5},
            "b": {"shape": [2, 2], "total": 4, "kept": 0, "density": 0.0, "sparsity": 1.0},
        },
    }


def test_with_its_model_a_report_tells_what_is_effective_and_the_degrees_of_units() -> None:
    model = LeNet([2], 2, 3)
    mask = Mask(
        {"fc_layers.0.weight": torch.tensor([[1, 1, 0], [0, 0, 0]]), "fc.weight": torch.tensor([[1, 1], [0, 0]])}
    )
    report = json.loads(json.dumps(sparsity_report(mask, model=model, input_shape=(3,))))
    assert report["effective"] == {"kept": 3, "density": 0.3, "sparsity": 0.7}
    assert report["layers"]["fc.weight"]["effective_kept"] == 1
    assert report["layers"]["fc.weight"]["effective_density"] == 0.25
    assert report["layers"]["fc_layers.0.weight"]["in_degree"] == {"mean": 1.0, "min": 0, "max": 2, "units_without": 1}
    assert report["layers"]["fc_layers.0.weight"]["out_degree"] == {
        "mean": 2 / 3,
        "min": 0,
        "max": 1,
        "units_without": 1,
    }


def test_degrees_count_every_kept_weight_once_on_either_side() -> None:
    model = TinyNet(width=6)
    mask = prune(model, "random", density=0.3)
    layers = sparsity_report(mask, model=model, input_shape=(2, 6, 6))["layers"]
    for name, tensor in mask.items():
        assert layers[name]["in_degree"]["mean"] * tensor.shape[0] == layers[name]["kept"]
        assert round(layers[name]["out_degree"]["mean"] * tensor.shape[1]) == layers[name]["kept"]


def test_a_network_whose_units_cannot_be_followed_has_no_effective_density_but_a_reason() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    report = sparsity_report(prune(model, "magnitude", density=0.5), model=model, input_shape=(3, 8))
    assert report["effective"] is None
    assert "cannot be followed through" in report["effective_unknown"]
    assert report["achieved"]["density"] == 0.5
    assert report["multiply_adds"]["total"] == 3 * (3 * 8 * 8 + 8 * 8 + 2 * 8 * 16)


def test_a_report_counts_multiply_adds_of_kept_weights_in_total_and_by_layer() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))  # 3 x 3 -> 2 x 2
    mask = Mask({"0.weight": torch.tensor([1, 0, 0, 1, 0, 0, 0, 1]).reshape(2, 1, 2, 2), "3.weight": torch.eye(3, 8)})
    report = json.loads(json.dumps(sparsity_report(mask, model=model, input_shape=(1, 3, 3))))
    assert report["layers"]["0.weight"]["multiply_adds"] == {"total": 8 * 4, "kept": 3 * 4}
    assert report["layers"]["3.weight"]["multiply_adds"] == {"total": 24, "kept": 3}
    assert report["multiply_adds"] == {"total": 56, "kept": 15, "density": 15 / 56, "others": 2 * 4 + 2 * 2 * 4 + 3}


def test_the_multiply_adds_of_a_layer_that_never_runs_itself_are_unknown() -> None:
    class Borrowed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.called = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.called(x @ self.used.weight)
            return found

    report = sparsity_report(Mask.ones(Borrowed()), model=Borrowed(), input_shape=(3,))
    assert report["multiply_adds"] is None
    assert report["layers"]["used.weight"]["multiply_adds"] is None
    assert report["layers"]["called.weight"]["multiply_adds"] == {"total": 6, "kept": 6}


def test_a_report_has_the_statistics_of_scores() -> None:
    mask = Mask({"a": torch.tensor([1, 0]), "b": torch.ones(2)})
    report = sparsity_report(mask, scores=score_statistics({"a": torch.tensor([1.0, 3.0])}))
    assert report["layers"]["a"]["scores"]["mean"] == 2.0
    assert "scores" not in report["layers"]["b"]


@pytest.mark.parametrize("wrong", [nn.Linear(2, 2), {"a": torch.ones(2, 2)}, None])
def test_a_report_of_something_other_than_a_mask_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="^mask: it takes a Mask, and this is a "):
        sparsity_report(wrong)
