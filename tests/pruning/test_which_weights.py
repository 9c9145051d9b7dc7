"""Options that set the prunable weights, tested by the tensors and counts of masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from foundations.errors import UsageError
from pruning.compute_mask import mask_from_hparams
from pruning.hparams import PruningHparams
from pruning.level import kept_of
from pruning.masks.mask import Mask
from pruning.report import sparsity_report
from pruning.scoring.inputs import ScoringInputs

CONVS = {"0.weight", "3.weight"}
NORMS = {"1.weight"}
WEIGHTS = {*CONVS, "6.weight"}


def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )
    nn.init.uniform_(made.get_parameter("1.weight"))
    nn.init.uniform_(made.get_parameter("1.bias"))
    return made


def pruned(**flags: Any) -> Mask:
    mask = flags.pop("mask", None)
    return mask_from_hparams(
        network(), PruningHparams.of(flags), ScoringInputs(seed=0, input_shape=(1, 8, 8)), mask=mask
    )


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ({}, WEIGHTS),
        ({"prunable_layers": "convolutions"}, CONVS),
        ({"prunable_layers": "all_but_classifier"}, CONVS),
        ({"prunable_layers": "all_but_classifier", "prune_bias": True}, {*CONVS, "0.bias", "3.bias"}),
        ({"prune_batchnorm": True}, WEIGHTS | NORMS),
        ({"prune_bias": True}, {*WEIGHTS, "0.bias", "3.bias", "6.bias"}),
        ({"prune_bias": True, "prune_batchnorm": True}, {*WEIGHTS, *NORMS, "1.bias", "0.bias", "3.bias", "6.bias"}),
        ({"prunable_layers": "convolutions", "prune_bias": True}, {*CONVS, "0.bias", "3.bias"}),
    ],
)
@pytest.mark.parametrize("strategy", ["magnitude", "synflow", "random"])
def test_what_is_prunable_is_in_the_mask_and_counts_in_the_level(
    strategy: str, flags: dict[str, Any], names: set[str]
) -> None:
    mask = pruned(strategy=strategy, density=0.3, **flags)

    assert set(mask) == names
    assert mask.total == sum(network().get_parameter(name).numel() for name in names)
    assert mask.kept == kept_of(mask.total, 0.7)


def test_scales_of_batchnorm_compete_with_weights() -> None:
    mask = pruned(density=0.2, prune_batchnorm=True)

    parameters = {name: p.detach().abs() for name, p in network().named_parameters() if name in mask}
    threshold = torch.cat([p.flatten() for p in parameters.values()]).sort().values[-mask.kept]
    assert all(torch.equal(mask[name], parameters[name] >= threshold) for name in mask)
    assert bool(mask["1.weight"].any())


@pytest.mark.parametrize("allocation", ["uniform", "er", "erk", "balanced", "smart_ratio"])
def test_every_allocation_gives_scales_and_biases_a_share(allocation: str) -> None:
    mask = pruned(density=0.5, allocation=allocation, prune_bias=True, prune_batchnorm=True)

    assert mask.kept == round(0.5 * mask.total)
    if allocation == "uniform":  # the same percentage of every tensor
        assert mask.kept_per_layer()["1.weight"] == 3


def test_a_network_without_convolutions_has_nothing_to_prune_among_them() -> None:
    with pytest.raises(UsageError, match="has no prunable weights"):
        mask_from_hparams(nn.Linear(3, 3), PruningHparams(prunable_layers="convolutions"), ScoringInputs(seed=0))


@pytest.mark.parametrize("flag", [{"prune_bias": True}, {"prune_batchnorm": True}, {"prunable_layers": "convolutions"}])
def test_walks_are_of_all_layers(flag: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(flag))}: phew builds its mask"):
        PruningHparams.of({"strategy": "phew", **flag})


def test_patterns_spare_all_tensors_that_they_match() -> None:
    ignoring = pruned(density=0.5, pruning_layers_to_ignore="[03].*")
    named = pruned(density=0.5, pruning_layers_to_ignore="0.weight,3.weight")

    assert ignoring == named
    assert all(bool(ignoring[name].all()) for name in CONVS)
    assert ignoring.kept == round(0.5 * ignoring.total)


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"pruning_layers_to_ignore: '\*conv_jump\*'"):
        pruned(density=0.5, pruning_layers_to_ignore="*conv_jump*")


def test_biases_and_scales_of_connected_units_are_effective() -> None:
    mask = Mask.to_prune(network(), PruningHparams(prune_bias=True, prune_batchnorm=True))
    tensors = {name: tensor.clone() for name, tensor in mask.items()}
    tensors["0.weight"][2] = False  # nothing reaches the third channel

    report = sparsity_report(Mask(tensors), model=network(), input_shape=(1, 8, 8))

    assert report["layers"]["1.weight"]["effective_kept"] == 5
    assert report["layers"]["0.bias"]["effective_kept"] == 5
    assert report["layers"]["3.bias"]["effective_kept"] == 4
