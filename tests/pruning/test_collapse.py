"""Layer collapse, and SynFlow's promise that there is none before it must be (Tanaka et al. 2020, section 3)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruning.masks.mask import Mask
from pruning.paths.connectivity import effective
from pruning.paths.graph import trace
from pruning.prune import prune
from tests.pruning.nets import VGG, ResNet

LAYERS = 5

pytestmark = pytest.mark.filterwarnings("ignore::pruning.prune.CollapseWarning")


def initialized(model: nn.Module, seed: int) -> nn.Module:
    """Return the model as the paper initializes it: normal weights, no biases, batchnorm the identity."""
    source = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter, generator=source)
        else:
            nn.init.constant_(parameter, 1.0 if "bn" in name and name.endswith("weight") else 0.0)
    return model


def chain(seed: int = 0) -> nn.Module:
    return initialized(VGG([8, "M", 12, "M", 16, "M", 128], 512, 10), seed)


def empty_layers(mask: Mask) -> int:
    return sum(kept == 0 for kept in mask.kept_per_layer().values())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("keep", [LAYERS, 8, 20, 100])
def test_iterative_synflow_keeps_every_layer_of_a_chain_alive_up_to_one_weight_a_layer(keep: int, seed: int) -> None:
    mask = prune(chain(seed), "synflow", keep=keep, iterations=100, input_shape=(3, 32, 32))
    assert mask.kept == keep
    assert empty_layers(mask) == 0


def test_at_its_maximum_compression_synflow_keeps_one_path() -> None:
    model = chain()
    mask = prune(model, "synflow", keep=LAYERS, iterations=100, input_shape=(3, 32, 32))
    assert list(mask.kept_per_layer().values()) == [1] * LAYERS
    assert effective(trace(model, (3, 32, 32)), mask) == mask


def test_magnitude_and_snip_collapse_where_synflow_does_not() -> None:
    model = chain()
    x, y = torch.randn(50, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 10
    assert empty_layers(prune(model, "magnitude", density=0.01)) > 0
    assert empty_layers(prune(model, "snip5", density=0.002, examples=(x, y))) > 0
    assert empty_layers(prune(model, "synflow", density=0.002, iterations=100, input_shape=(3, 32, 32))) == 0


def test_synflow_in_one_shot_collapses() -> None:
    assert empty_layers(prune(chain(), "synflow", density=0.002, input_shape=(3, 32, 32))) > 0


def test_on_a_resnet_synflow_gives_up_layers_that_have_a_way_around_but_never_the_path() -> None:
    model = initialized(ResNet(20, 8), 0)
    mask = prune(model, "synflow", density=0.004, iterations=100, input_shape=(3, 32, 32))
    empty = [name for name, kept in mask.kept_per_layer().items() if kept == 0]
    assert empty
    assert not {"conv.weight", "fc.weight"} & set(empty)
    assert effective(trace(model, (3, 32, 32)), mask).kept >= 0.9 * mask.kept
