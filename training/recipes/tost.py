"""Recipes of the code of ToST (Jaiswal et al. 2022) and of its lottery tickets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.families import convnets, imagenet_resnet
from training.recipes import Recipe, openlth

_PRUNING = {
    **openlth.CIFAR,
    "normalization": "tost",
    "augmentation_order": "crop_flip",
    "model_init": "as_built",
    "batchnorm_init": "fixed",
    "milestone_steps": "90ep,135ep",
    "training_steps": "182ep",
    "weight_decay": 2e-4,
}
# Its training techniques hold out examples by which the best epoch is chosen.
_TRAINING = {**_PRUNING, "validation_examples": 5000}
_TINY = {**_PRUNING, "dataset_name": "tinyimagenet2", "normalization": "synflow"}
_RESNET_A = {**_PRUNING, "normalization": "tost_resnet_a", "model_init": "kaiming_normal"}
_ORESNET = {**_TRAINING, "model_init": "kaiming_normal_fan_out", "linear_init": "as_built"}
_VGG = {**_RESNET_A, "model_init": "kaiming_normal_fan_out", "linear_init": "small_normal", "bias_init": "zero"}
# The lottery-ticket code: no augmentation, MNIST's constants for every dataset, biases from N(0, 1).
_LTH = {
    "dataset_name": "mnist",
    "do_not_augment": True,
    "normalization": "tost_lth",
    "batch_size": 60,
    "model_init": "xavier_normal",
    "bias_init": "standard_normal",
    "batchnorm_init": "nearly_one",
    "optimizer_name": "adam",
    "lr": 0.0012,
    "training_steps": "100ep",
    "weight_decay": 1e-4,
}
_LTH_CIFAR = {**_LTH, "dataset_name": "cifar10"}
# Its lottery: every tensor that is called weight, batchnorm's scales included, loses a tenth of what it has in each of
# 34 prunings; weights are rewound, running statistics are not. Its first training uses Adam's default learning rate.
_ROUNDS = {
    "levels": "34",
    "pruning_fraction": 0.1,
    "dense_lr": 0.001,
    "keep_statistics": True,
    "allocation": "uniform",
    "prune_batchnorm": True,
}

CIFAR_JUMPRESNET = Recipe.of_family(imagenet_resnet.CIFAR_JUMPRESNET, _TRAINING)
TOST_LENET5_MNIST = Recipe.of_family(convnets.TOST_LENET5_MNIST, _LTH)
TOST_LENET5_CIFAR = Recipe.of_family(convnets.TOST_LENET5_CIFAR, _LTH_CIFAR)
TOST_ALEXNET = Recipe.of_family(convnets.TOST_ALEXNET, _LTH_CIFAR)
TOST_RESNET = Recipe(
    spelling="tost_resnet_D",
    pattern=r"tost_resnet_(?P<depth>18|34|50|101|152)",
    model="cifar_modifiedresnet_{depth}",
    source="ToST",
    hparams=_TRAINING,
    examples=("tost_resnet_18", "tost_resnet_34", "tost_resnet_50", "tost_resnet_101"),
)
TOST_TINYIMAGENET_RESNET = Recipe(
    spelling="tost_tinyimagenet_resnet_D",
    pattern=r"tost_tinyimagenet_resnet_(?P<depth>18|34|50|101|152)",
    model="tinyimagenet_modifiedresnet_{depth}",
    source="ToST",
    hparams=_TINY,
    examples=("tost_tinyimagenet_resnet_18", "tost_tinyimagenet_resnet_50"),
)
TOST_ORESNET = Recipe(
    spelling="tost_oresnet_D",
    pattern=r"tost_oresnet_(?P<depth>20|32|44)",
    model="cifar_resnet_{depth}",
    source="ToST",
    hparams=_ORESNET,
    examples=("tost_oresnet_20", "tost_oresnet_32", "tost_oresnet_44"),
)
TOST_BOTTLENECKRESNET = Recipe(
    spelling="tost_oresnet_56",
    pattern=r"tost_oresnet_(?P<depth>56|110)",
    model="cifar_bottleneckresnet_{depth}",
    source="ToST",
    hparams=_ORESNET,
    examples=("tost_oresnet_56", "tost_oresnet_110"),
)
TOST_RESNETS = Recipe(
    spelling="tost_resnets_D",
    pattern=r"tost_resnets_(?P<depth>20|44|56)",
    model="cifar_resnet_a_{depth}",
    source="ToST",
    hparams=_RESNET_A,
    examples=("tost_resnets_20", "tost_resnets_44", "tost_resnets_56"),
)
TOST_VGG_16_BN = Recipe(spelling="tost_vgg_16_bn", model="cifar_vgg_16", source="ToST", hparams=_VGG)
TOST_LTH_VGG_16 = Recipe(spelling="tost_lth_vgg_16", model="torchvision_vgg16", source="ToST", hparams=_LTH_CIFAR)
TOST_LTH_RESNET_18 = Recipe(
    spelling="tost_lth_resnet_18", model="cifar_modifiedresnet_18", source="ToST", hparams=_LTH_CIFAR
)
TOST_LTH_DENSENET_121 = Recipe(
    spelling="tost_lth_densenet_121", model="torchvision_densenet121", source="ToST", hparams=_LTH_CIFAR
)
TOST_FC1 = Recipe(spelling="tost_fc1", model="mnist_lenet_300_100", source="ToST", hparams=_LTH)


def _lottery(name: str, model: str, hparams: Mapping[str, Any]) -> Recipe:
    return Recipe(
        spelling=f"tost_lt_{name}",
        model=model,
        source="ToST's lottery, --prune_type=lt",
        hparams=hparams,
        lottery=_ROUNDS,
    )


TOST_LT_FC1 = _lottery("fc1", "mnist_lenet_300_100", _LTH)
TOST_LT_LENET5_MNIST = _lottery("lenet5_mnist", "tost_lenet5_mnist", _LTH)
TOST_LT_LENET5_CIFAR = _lottery("lenet5_cifar", "tost_lenet5_cifar", _LTH_CIFAR)
TOST_LT_ALEXNET = _lottery("alexnet", "tost_alexnet", _LTH_CIFAR)
TOST_LT_VGG_16 = _lottery("vgg_16", "torchvision_vgg16", _LTH_CIFAR)
TOST_LT_RESNET_18 = _lottery("resnet_18", "cifar_modifiedresnet_18", _LTH_CIFAR)
TOST_LT_DENSENET_121 = _lottery("densenet_121", "torchvision_densenet121", _LTH_CIFAR)
