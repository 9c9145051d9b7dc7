"""Networks that torchvision has too."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision import models as theirs
from torchvision.models.resnet import Bottleneck

from foundations.inputs import Inputs
from models.build import build_model, construct
from models.dropout import Dropout
from models.families.torchvision_models import TORCHVISION
from models.hparams import ModelHparams

PAIRS = [
    ("imagenet_resnet_18", theirs.resnet18),
    ("imagenet_resnet_50", theirs.resnet50),
    ("imagenet_wideresnet_50", theirs.wide_resnet50_2),
]


@pytest.mark.parametrize(("name", "builder"), PAIRS)
def test_residual_networks_have_torchvisions_names_and_values(name: str, builder: Callable[..., nn.Module]) -> None:
    reference = builder(num_classes=7)
    model = build_model(ModelHparams(model_name=name), outputs=7, inputs=Inputs((3, 64, 64)), seed_keys=(0,))
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    model.load_state_dict({f"model.{key}": value for key, value in reference.state_dict().items()})

    assert list(model.state_dict()) == [f"model.{key}" for key in reference.state_dict()]
    torch.testing.assert_close(model.eval()(x), reference.eval()(x), atol=1e-5, rtol=1e-5)


def test_the_members_are_networks_of_torchvision() -> None:
    assert set(TORCHVISION.members) <= set(theirs.list_models(module=theirs))


def test_a_network_of_torchvision_keeps_its_own_initial_values() -> None:
    hparams = ModelHparams(model_name="torchvision_squeezenet1_1", model_init="as_built", batchnorm_init="fixed")

    one, again = (build_model(hparams, outputs=5, inputs=Inputs((3, 64, 64)), seed_keys=(3,)) for _ in range(2))

    weight = one.get_parameter("classifier.1.weight")
    assert weight.std().item() == pytest.approx(0.01, rel=0.1)  # its own rule for the last layer
    assert torch.equal(weight, again.get_parameter("classifier.1.weight"))


def test_auxiliary_heads_are_left_out() -> None:
    hparams = ModelHparams(model_name="torchvision_googlenet", model_init="as_built", batchnorm_init="fixed")
    with torch.device("meta"):
        model = construct(hparams, 5, Inputs((3, 224, 224))).train()

        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 5)


def test_the_widest_network_for_tiny_imagenet_has_torchvisions_blocks_after_its_own_stem() -> None:
    with torch.device("meta"):
        reference = theirs.ResNet(Bottleneck, [3, 8, 36, 3], num_classes=200, width_per_group=128)
        reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model = construct(ModelHparams(model_name="tinyimagenet_wideresnet_152"), 200, Inputs((3, 64, 64)))

    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == {
        f"model.{name}": tensor.shape for name, tensor in reference.state_dict().items()
    }


OF_EACH_KIND = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5"),
    *("squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg16_bn", "vit_b_16", "wide_resnet50_2"),
)


@pytest.mark.parametrize("name", ["tinyimagenet_vgg_11", "cifar_vgg_11", *map("torchvision_{}".format, OF_EACH_KIND)])
def test_a_family_says_whether_its_networks_have_dropout(name: str) -> None:
    hparams = ModelHparams(model_name=name, model_init="as_built", batchnorm_init="fixed")
    with torch.device("meta"):
        model = construct(hparams, 5, Inputs((3, 224, 224)))
    assert hparams.has_dropout == any(isinstance(module, Dropout) for module in model.modules())
