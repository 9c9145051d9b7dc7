"""Recipes of networks without a recipe in another file: the 8x8 digits, wide ResNets, torchvision's networks.

Zagoruyko & Komodakis 2016 for wide ResNets, torchvision's reference training for ImageNet, OpenLTH's for the rest.
"""

from __future__ import annotations

from models.families import cifar_resnet, imagenet_resnet, lenet, torchvision_models, wideresnet
from training.recipes import Recipe, openlth

_DIGITS = {
    **openlth.CIFAR,
    "dataset_name": "digits",
    "batch_size": 64,
    "milestone_steps": "6ep,9ep",
    "training_steps": "12ep",
}
_WIDERESNET = {
    "dataset_name": "cifar10",
    "batch_size": 128,
    "model_init": "kaiming_normal",
    "batchnorm_init": "fixed",
    "bias_init": "zero",
    "optimizer_name": "sgd",
    "lr": 0.1,
    "nesterov_momentum": 0.9,
    "milestone_steps": "60ep,120ep,160ep",
    "gamma": 0.2,
    "training_steps": "200ep",
    "weight_decay": 5e-4,
}
TORCHVISION = {
    **openlth.IMAGENET,
    "crop_scale": 0.08,
    "crop_ratio": 4 / 3,
    "model_init": "as_built",
    "batchnorm_init": "fixed",
    "batch_size": 256,
    "lr": 0.1,
    "milestone_steps": "30ep,60ep",
    "warmup_steps": "0it",
}

DIGITS_LENET = Recipe.of_family(lenet.DIGITS_LENET, _DIGITS)
DIGITS_RESNET = Recipe.of_family(cifar_resnet.DIGITS_RESNET, _DIGITS)
CIFAR_WIDERESNET = Recipe.of_family(wideresnet.CIFAR_WIDERESNET, _WIDERESNET)
CIFAR_MODIFIEDRESNET = Recipe.of_family(imagenet_resnet.CIFAR_MODIFIEDRESNET, openlth.CIFAR)
CIFAR_RESNET_A = Recipe.of_family(cifar_resnet.CIFAR_RESNET_A, openlth.CIFAR)
CIFAR_BOTTLENECKRESNET = Recipe.of_family(cifar_resnet.CIFAR_BOTTLENECKRESNET, openlth.CIFAR)
IMAGENET_WIDERESNET = Recipe.of_family(imagenet_resnet.IMAGENET_WIDERESNET, TORCHVISION)
TORCHVISION_NETWORK = Recipe.of_family(torchvision_models.TORCHVISION, TORCHVISION)
