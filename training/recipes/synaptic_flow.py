"""Recipes of the code of SynFlow (Tanaka et al. 2020)."""

from __future__ import annotations

from models.families import convnets, imagenet_resnet, lenet, vgg
from models.family import DEPTH
from training.recipes import Recipe, standard

_SMALL = {
    "dataset_name": "mnist",
    "normalization": "synflow",
    "batch_size": 64,
    "model_init": "as_built",
    "batchnorm_init": "fixed",
    "optimizer_name": "adam",
    "lr": 0.001,
    "training_steps": "10ep",
}
_DATA = {"normalization": "synflow", "augmentation_order": "crop_flip", "batch_size": 128}
CIFAR = {
    **_DATA,
    "dataset_name": "cifar10",
    "model_init": "kaiming_normal",
    "bias_init": "zero",
    "batchnorm_init": "fixed",
    "optimizer_name": "sgd",
    "lr": 0.1,
    "nesterov_momentum": 0.9,
    "milestone_steps": "60ep,120ep",
    "gamma": 0.1,
    "training_steps": "160ep",
    "weight_decay": 1e-4,
}
_TINY = {
    **_DATA,
    "dataset_name": "tinyimagenet2",
    "optimizer_name": "sgd",
    "lr": 0.01,
    "nesterov_momentum": 0.9,
    "milestone_steps": "30ep,60ep,80ep",
    "gamma": 0.1,
    "training_steps": "100ep",
    "weight_decay": 1e-4,
}
_TINY_VGG_INIT = {
    "model_init": "kaiming_normal_fan_out",
    "linear_init": "small_normal",
    "bias_init": "zero",
    "batchnorm_init": "fixed",
}
_TINY_RESNET_INIT = {"model_init": "kaiming_normal_fan_out", "linear_init": "as_built", "batchnorm_init": "fixed"}
# torchvision's networks and its own initialization of them, with the augmentation of its loader. It gives no training
# for ImageNet: this is torchvision's.
_IMAGENET = {**standard.TORCHVISION, "outputs": 1000, "augment_as": "resized_crop_jitter_flip", "crop_scale": 0.2}
_IMAGENET_VGG = {**_IMAGENET, **_TINY_VGG_INIT}
_IMAGENET_RESNET = {**_IMAGENET, **_TINY_RESNET_INIT}
_CIFAR_RESNET_18 = {
    **CIFAR,
    **_TINY_RESNET_INIT,
    "bias_init": "as_built",
    "lr": 0.01,
    "gamma": 0.2,
    "weight_decay": 5e-4,
}

SYNFLOW_FC = Recipe.of_family(lenet.SYNFLOW_FC, _SMALL)
SYNFLOW_CONV = Recipe.of_family(convnets.SYNFLOW_CONV, _SMALL)
TINYIMAGENET_WIDERESNET = Recipe.of_family(imagenet_resnet.TINYIMAGENET_WIDERESNET, {**_TINY, **_TINY_RESNET_INIT})
TINYIMAGENET_VGG = Recipe.of_family(vgg.TINYIMAGENET_VGG, {**_TINY, **_TINY_VGG_INIT})
SYNFLOW_VGG_BN = Recipe(
    spelling="synflow_vgg_D_bn",
    pattern=f"synflow_vgg{DEPTH}_bn",
    model="cifar_vgg_{depth}",
    source="Synaptic-Flow",
    hparams=CIFAR,
    examples=("synflow_vgg_11_bn", "synflow_vgg_16_bn", "synflow_vgg_19_bn"),
)
SYNFLOW_VGG = Recipe(
    spelling="synflow_vgg_D",
    pattern=f"synflow_vgg{DEPTH}",
    model="cifar_vgg_{depth}",
    source="Synaptic-Flow",
    hparams={**CIFAR, "no_batchnorm": True},
    examples=("synflow_vgg_11", "synflow_vgg_16", "synflow_vgg_19"),
)
SYNFLOW_RESNET = Recipe(
    spelling="synflow_resnet_D",
    pattern=r"synflow_resnet_(?P<depth>20|32|44|56|110|1202)",
    model="cifar_resnet_{depth}",
    source="Synaptic-Flow",
    hparams=CIFAR,
    examples=("synflow_resnet_20", "synflow_resnet_32", "synflow_resnet_56", "synflow_resnet_110"),
)
SYNFLOW_WIDE_RESNET = Recipe(
    spelling="synflow_wide_resnet_D",
    pattern=r"synflow_wide_resnet_(?P<depth>20|32|44|56|110|1202)",
    model="cifar_resnet_{depth}_32",
    source="Synaptic-Flow",
    hparams=CIFAR,
    examples=("synflow_wide_resnet_20", "synflow_wide_resnet_32"),
)
SYNFLOW_MODIFIEDRESNET = Recipe(
    spelling="synflow_resnet_18",
    pattern=r"synflow_resnet_(?P<depth>18|34|50|101|152)",
    model="cifar_modifiedresnet_{depth}",
    source="Synaptic-Flow",
    hparams=_CIFAR_RESNET_18,
    examples=("synflow_resnet_18",),
)
SYNFLOW_TINYIMAGENET_RESNET = Recipe(
    spelling="synflow_tinyimagenet_resnet_D",
    pattern=f"synflow_tinyimagenet_resnet{DEPTH}",
    model="tinyimagenet_modifiedresnet_{depth}",
    source="Synaptic-Flow",
    hparams={**_TINY, **_TINY_RESNET_INIT},
    examples=("synflow_tinyimagenet_resnet_18", "synflow_tinyimagenet_resnet_50"),
)
SYNFLOW_TINYIMAGENET_WIDE_RESNET = Recipe(  # its width is that of bottlenecks, and these have none
    spelling="synflow_tinyimagenet_wide_resnet_D",
    pattern=r"synflow_tinyimagenet_wide_resnet_(?P<depth>18|34)",
    model="tinyimagenet_modifiedresnet_{depth}",
    source="Synaptic-Flow",
    hparams={**_TINY, **_TINY_RESNET_INIT},
    examples=("synflow_tinyimagenet_wide_resnet_18", "synflow_tinyimagenet_wide_resnet_34"),
)
SYNFLOW_TINYIMAGENET_VGG_BN = Recipe(
    spelling="synflow_tinyimagenet_vgg_D_bn",
    pattern=f"synflow_tinyimagenet_vgg{DEPTH}_bn",
    model="tinyimagenet_vgg_{depth}",
    source="Synaptic-Flow",
    hparams={**_TINY, **_TINY_VGG_INIT},
    examples=("synflow_tinyimagenet_vgg_16_bn",),
)
SYNFLOW_TINYIMAGENET_VGG = Recipe(
    spelling="synflow_tinyimagenet_vgg_D",
    pattern=f"synflow_tinyimagenet_vgg{DEPTH}",
    model="tinyimagenet_vgg_{depth}",
    source="Synaptic-Flow",
    hparams={**_TINY, **_TINY_VGG_INIT, "no_batchnorm": True},
    examples=("synflow_tinyimagenet_vgg_16",),
)
SYNFLOW_IMAGENET_VGG_BN = Recipe(
    spelling="synflow_imagenet_vgg_D_bn",
    pattern=f"synflow_imagenet_vgg{DEPTH}_bn",
    model="torchvision_vgg{depth}_bn",
    source="Synaptic-Flow; training: torchvision",
    hparams=_IMAGENET_VGG,
    examples=("synflow_imagenet_vgg_16_bn", "synflow_imagenet_vgg_19_bn"),
)
SYNFLOW_IMAGENET_VGG = Recipe(
    spelling="synflow_imagenet_vgg_D",
    pattern=f"synflow_imagenet_vgg{DEPTH}",
    model="torchvision_vgg{depth}",
    source="Synaptic-Flow; training: torchvision",
    hparams=_IMAGENET_VGG,
    examples=("synflow_imagenet_vgg_11", "synflow_imagenet_vgg_16", "synflow_imagenet_vgg_19"),
)
SYNFLOW_IMAGENET_RESNET = Recipe(
    spelling="synflow_imagenet_resnet_D",
    pattern=r"synflow_imagenet_resnet_(?P<depth>18|34|50|101|152)",
    model="torchvision_resnet{depth}",
    source="Synaptic-Flow; training: torchvision",
    hparams=_IMAGENET_RESNET,
    examples=("synflow_imagenet_resnet_18", "synflow_imagenet_resnet_50"),
)
SYNFLOW_IMAGENET_WIDE_RESNET = Recipe(
    spelling="synflow_imagenet_wide_resnet_D",
    pattern=r"synflow_imagenet_wide_resnet_(?P<depth>50|101)",
    model="torchvision_wide_resnet{depth}_2",
    source="Synaptic-Flow; training: torchvision",
    hparams=_IMAGENET_RESNET,
    examples=("synflow_imagenet_wide_resnet_50", "synflow_imagenet_wide_resnet_101"),
)
