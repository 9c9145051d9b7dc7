"""torchvision's classification networks by their names there (`torchvision_vgg16_bn`), without pretrained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foundations.errors import UsageError
from models.family import Family, NetworkSpec
from models.library_errors import built_by_library

if TYPE_CHECKING:
    from torch import nn

# A literal list, so that listing the names does not import torchvision.
_NAMES = """
alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169
densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5
efficientnet_b6 efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3
maxvit_t mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small
regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf
regnet_y_128gf regnet_y_16gf regnet_y_1_6gf regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf
regnet_y_8gf resnet101 resnet152 resnet18 resnet34 resnet50 resnext101_32x8d resnext101_64x4d resnext50_32x4d
shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b
swin_s swin_t swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16
vit_b_32 vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2
"""
_WITH_DROPOUT = (
    *("alexnet", "convnext", "efficientnet", "googlenet", "inception", "maxvit", "mnasnet", "mobilenet"),
    *("squeezenet", "swin", "vgg"),
)
_WITH_LAYER_NORM = ("convnext", "maxvit", "swin", "vit")
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
_OF_ONE_SIZE = {"vit": "image_size", "maxvit": "input_size"}
"""The networks that are built for one size of images, by the first part of their names, and the argument for it."""


def torchvision_model(spec: NetworkSpec) -> nn.Module:
    """Build `torchvision_NAME`, without auxiliary heads and with dropout that resumes.

    Raises: UsageError for images that do not have three channels, or a size that the network is not for.
    """
    from torchvision import models

    from models.dropout import make_repeatable

    name = spec.member
    if spec.channels != 3:
        raise UsageError(f"torchvision_{name} takes images of 3 channels, not {spec.channels}.", "model_name")
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in _WITH_AUXILIARY_HEADS else {}
    if (argument := _OF_ONE_SIZE.get(name.partition("_")[0])) is not None:
        height, width = spec.input_shape[1:]
        if height != width:
            raise UsageError(f"torchvision_{name} takes square images, not {height} x {width}.", "model_name")
        options[argument] = (height, width) if argument == "input_size" else height
    with built_by_library(f"torchvision_{name} cannot be built for images of {spec.inputs}", "model_name"):
        model: nn.Module = models.get_model(name, weights=None, num_classes=spec.outputs, **options)
    make_repeatable(model)
    return model


TORCHVISION = Family(
    spelling="torchvision_NAME",
    pattern="torchvision_(?P<member>[a-z0-9_]+)",
    builder=torchvision_model,
    source="torchvision",
    examples=("torchvision_vgg16", "torchvision_vgg16_bn", "torchvision_densenet121", "torchvision_mobilenet_v2"),
    members=tuple(_NAMES.split()),
    dropout_members=_WITH_DROPOUT,
    linearized_members=_WITH_LAYER_NORM,
    options=frozenset(),
)
