"""Recipes of the code of PHEW (Patil & Dovrolis 2021)."""

from __future__ import annotations

from models.family import DEPTH
from training.recipes import Recipe, synaptic_flow

_RESNET = {**synaptic_flow.CIFAR, "milestone_steps": "80ep,120ep"}
_VGG = {**_RESNET, "linear_init": "small_normal"}
_MODIFIED_RESNET = {**_RESNET, "model_init": "kaiming_normal_fan_out", "bias_init": "as_built"}
_TINY = {"dataset_name": "tinyimagenet2"}
_TINY_VGG = {**_VGG, **_TINY, "model_init": "kaiming_normal_fan_out"}

PHEW_VGG_BN = Recipe(
    spelling="phew_vgg_D_bn",
    pattern=f"phew_vgg{DEPTH}_bn",
    model="cifar_vgg_{depth}",
    source="PHEW",
    hparams=_VGG,
    examples=("phew_vgg_11_bn", "phew_vgg_16_bn", "phew_vgg_19_bn"),
)
PHEW_VGG = Recipe(
    spelling="phew_vgg_D",
    pattern=f"phew_vgg{DEPTH}",
    model="cifar_vgg_{depth}",
    source="PHEW",
    hparams={**_VGG, "no_batchnorm": True},
    examples=("phew_vgg_11", "phew_vgg_16", "phew_vgg_19"),
)
PHEW_TINYIMAGENET_VGG_BN = Recipe(
    spelling="phew_tinyimagenet_vgg_D_bn",
    pattern=f"phew_tinyimagenet_vgg{DEPTH}_bn",
    model="tinyimagenet_vgg_{depth}",
    source="PHEW",
    hparams=_TINY_VGG,
    examples=("phew_tinyimagenet_vgg_11_bn", "phew_tinyimagenet_vgg_16_bn", "phew_tinyimagenet_vgg_19_bn"),
)
PHEW_TINYIMAGENET_VGG = Recipe(
    spelling="phew_tinyimagenet_vgg_D",
    pattern=f"phew_tinyimagenet_vgg{DEPTH}",
    model="tinyimagenet_vgg_{depth}",
    source="PHEW",
    hparams={**_TINY_VGG, "no_batchnorm": True},
    examples=("phew_tinyimagenet_vgg_19",),
)
PHEW_TINYIMAGENET_RESNET = Recipe(
    spelling="phew_tinyimagenet_resnet_D",
    pattern=r"phew_tinyimagenet_resnet_(?P<depth>18|34)",
    model="tinyimagenet_modifiedresnet_{depth}",
    source="PHEW",
    hparams={**_MODIFIED_RESNET, **_TINY},
    examples=("phew_tinyimagenet_resnet_18", "phew_tinyimagenet_resnet_34"),
)
PHEW_RESNET = Recipe(
    spelling="phew_resnet_D",
    pattern=r"phew_resnet_(?P<depth>20|32)",
    model="cifar_resnet_{depth}",
    source="PHEW",
    hparams=_RESNET,
    examples=("phew_resnet_20", "phew_resnet_32"),
)
PHEW_WIDE_RESNET_20 = Recipe(spelling="phew_wide_resnet_20", model="cifar_resnet_20_32", source="PHEW", hparams=_RESNET)
PHEW_MODIFIEDRESNET = Recipe(
    spelling="phew_resnet_18",
    pattern=r"phew_resnet_(?P<depth>18|34|50|101|152)",
    model="cifar_modifiedresnet_{depth}",
    source="PHEW",
    hparams=_MODIFIED_RESNET,
    examples=("phew_resnet_18", "phew_resnet_34", "phew_resnet_50"),
)
