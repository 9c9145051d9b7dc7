"""Scales on identity shortcuts: they change nothing until they are pruned, and then cut the shortcut of a channel."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from foundations.errors import UsageError
from foundations.inputs import Inputs
from models.build import build_model
from models.hparams import ModelHparams
from models.networks.shortcut_scales import ShortcutScale, add_shortcut_scales
from pruning.hparams import PruningHparams
from pruning.weights.prunable import weights_to_prune


def built(name: str) -> nn.Module:
    hparams = ModelHparams(model_name=name)
    return build_model(hparams, outputs=10, inputs=Inputs((3, 32, 32)), seed_keys=(1,)).eval()


# Synaptic-Flow's networks have a scale for each channel of an identity shortcut: the numbers of its published code.
@pytest.mark.parametrize(
    ("name", "shortcuts", "scales"),
    [
        ("cifar_resnet_20", 7, 240),
        ("cifar_modifiedresnet_18", 5, 1024),
        ("cifar_modifiedresnet_50", 12, 11264),
        ("torchvision_resnet18", 5, 1024),
        ("cifar_vgg_11", 0, 0),
        ("cifar_wideresnet_10_1", 0, 0),
    ],
)
def test_each_identity_shortcut_gets_the_scales_of_synaptic_flow(name: str, shortcuts: int, scales: int) -> None:
    model = built(name)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = model(images)

    assert add_shortcut_scales(model) == shortcuts
    assert sum(p.numel() for m in model.modules() if isinstance(m, ShortcutScale) for p in m.parameters()) == scales
    assert torch.equal(model(images), before)
    assert add_shortcut_scales(model) == 0


def test_a_scale_of_zero_cuts_the_shortcut_of_its_channel() -> None:
    model = built("cifar_resnet_8")
    add_shortcut_scales(model)
    block = model.get_submodule("blocks.0")
    x = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = block(x)
    with torch.no_grad():
        block.get_parameter("shortcut.weight")[3] = 0

    cut = block(x)

    assert torch.equal(cut[:, :3], whole[:, :3])
    assert torch.equal(cut[:, 4:], whole[:, 4:])
    residual = block.get_submodule("bn2")(
        block.get_submodule("conv2")(torch.relu(block.get_submodule("bn1")(block.get_submodule("conv1")(x))))
    )
    assert torch.allclose(cut[:, 3], torch.relu(residual)[:, 3])


def test_scales_are_prunable_where_they_are_asked_for_and_there() -> None:
    model, asked = built("cifar_resnet_8"), PruningHparams(prune_residual=True)
    with pytest.raises(UsageError, match=r"^prune_residual: .* shortcut_scales"):
        weights_to_prune(model, asked)
    add_shortcut_scales(model)

    added = set(weights_to_prune(model, asked)) - set(weights_to_prune(model, PruningHparams()))

    assert added == {"blocks.0.shortcut.weight"}
