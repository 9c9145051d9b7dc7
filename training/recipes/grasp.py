"""Recipes of the code of GraSP (Wang et al. 2020)."""

from __future__ import annotations

from models.family import DEPTH
from training.recipes import Recipe, openlth, standard

_RESNET = {
    **openlth.CIFAR,
    "normalization": "grasp",
    "augmentation_order": "crop_flip",
    "model_init": "kaiming_normal_fan_out",
    "linear_init": "small_normal",
    "bias_init": "zero",
    "batchnorm_init": "fixed",
}
_VGG = {**_RESNET, "no_conv_bias": True, "weight_decay": 5e-4}
_TINY = {"dataset_name": "tinyimagenet2", "milestone_steps": "150ep,225ep", "training_steps": "300ep"}
_IMAGENET = {
    **standard.TORCHVISION,
    "model_init": "kaiming_normal_fan_out",
    "linear_init": "as_built",
    "normalization": "grasp",
}

GRASP_VGG = Recipe(
    spelling="grasp_vgg_D",
    pattern=f"grasp_vgg{DEPTH}",
    model="cifar_vgg_{depth}",
    source="GraSP",
    hparams=_VGG,
    examples=("grasp_vgg_11", "grasp_vgg_16", "grasp_vgg_19"),
)
GRASP_RESNET = Recipe(
    spelling="grasp_resnet_D",
    pattern=f"grasp_resnet{DEPTH}",
    model="cifar_resnet_{depth}_32",
    source="GraSP",
    hparams=_RESNET,
    examples=("grasp_resnet_20", "grasp_resnet_32", "grasp_resnet_56"),
)
GRASP_TINYIMAGENET_VGG = Recipe(
    spelling="grasp_tinyimagenet_vgg_D",
    pattern=f"grasp_tinyimagenet_vgg{DEPTH}",
    model="cifar_vgg_{depth}",
    source="GraSP",
    hparams={**_VGG, **_TINY},
    examples=("grasp_tinyimagenet_vgg_19",),
)
GRASP_TINYIMAGENET_RESNET = Recipe(
    spelling="grasp_tinyimagenet_resnet_D",
    pattern=f"grasp_tinyimagenet_resnet{DEPTH}",
    model="cifar_resnet_{depth}_32",
    source="GraSP",
    hparams={**_RESNET, **_TINY},
    examples=("grasp_tinyimagenet_resnet_32",),
)
GRASP_IMAGENET_RESNET_50 = Recipe(
    spelling="grasp_imagenet_resnet_50", model="imagenet_resnet_50", source="GraSP", hparams=_IMAGENET
)
