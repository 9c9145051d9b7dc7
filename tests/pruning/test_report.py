from __future__ import annotations

import json

import torch
from torch import nn

from pruning.mask import Mask
from pruning.prune import prune
from pruning.report import sparsity_report
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
