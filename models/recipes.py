"""The recipes that several families and presets share: hyperparameters by flag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Recipe = Mapping[str, Any]

OPENLTH_INIT: Recipe = {"model_init": "kaiming_normal", "batchnorm_init": "uniform"}

LENET: Recipe = {
    **OPENLTH_INIT,
    "dataset_name": "mnist",
    "batch_size": 128,
    "optimizer_name": "sgd",
    "lr": 0.1,
    "training_steps": "40ep",
}
CIFAR: Recipe = {
    **OPENLTH_INIT,
    "dataset_name": "cifar10",
    "batch_size": 128,
    "optimizer_name": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "milestone_steps": "80ep,120ep",
    "gamma": 0.1,
    "training_steps": "160ep",
    "weight_decay": 1e-4,
}
DIGITS: Recipe = {
    **CIFAR,
    "dataset_name": "digits",
    "batch_size": 64,
    "milestone_steps": "6ep,9ep",
    "training_steps": "12ep",
}
IMAGENET: Recipe = {
    **OPENLTH_INIT,
    "dataset_name": "imagenet",
    "batch_size": 1024,
    "optimizer_name": "sgd",
    "lr": 0.4,
    "momentum": 0.9,
    "milestone_steps": "30ep,60ep,80ep",
    "gamma": 0.1,
    "training_steps": "90ep",
    "weight_decay": 1e-4,
    "warmup_steps": "5ep",
}
# 'Missing the Mark' builds its Tiny ImageNet networks with 1,000 outputs, and so does its recipe here.
TINYIMAGENET: Recipe = {
    **OPENLTH_INIT,
    "dataset_name": "tinyimagenet",
    "batch_size": 256,
    "outputs": 1000,
    "optimizer_name": "sgd",
    "lr": 0.2,
    "momentum": 0.9,
    "milestone_steps": "100ep,150ep",
    "gamma": 0.1,
    "training_steps": "200ep",
    "weight_decay": 1e-4,
    "warmup_steps": "5ep",
}
WIDERESNET: Recipe = {
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
TORCHVISION: Recipe = {
    **IMAGENET,
    "crop_scale": 0.08,
    "crop_ratio": 4 / 3,
    "model_init": "as_built",
    "batchnorm_init": "fixed",
    "batch_size": 256,
    "lr": 0.1,
    "milestone_steps": "30ep,60ep",
    "warmup_steps": "0it",
}

# Synaptic-Flow (Tanaka et al. 2020).
SYNFLOW_SMALL: Recipe = {
    "dataset_name": "mnist",
    "normalization": "synflow",
    "batch_size": 64,
    "model_init": "as_built",
    "batchnorm_init": "fixed",
    "optimizer_name": "adam",
    "lr": 0.001,
    "training_steps": "10ep",
}
SYNFLOW_DATA: Recipe = {"normalization": "synflow", "augmentation_order": "crop_flip", "batch_size": 128}
SYNFLOW_CIFAR: Recipe = {
    **SYNFLOW_DATA,
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
SYNFLOW_TINY_VGG_INIT: Recipe = {
    "model_init": "kaiming_normal_fan_out",
    "linear_init": "small_normal",
    "bias_init": "zero",
    "batchnorm_init": "fixed",
}
SYNFLOW_TINY_RESNET_INIT: Recipe = {
    "model_init": "kaiming_normal_fan_out",
    "linear_init": "as_built",
    "batchnorm_init": "fixed",
}
SYNFLOW_TINY: Recipe = {
    **SYNFLOW_DATA,
    "dataset_name": "tinyimagenet2",
    "optimizer_name": "sgd",
    "lr": 0.01,
    "nesterov_momentum": 0.9,
    "milestone_steps": "30ep,60ep,80ep",
    "gamma": 0.1,
    "training_steps": "100ep",
    "weight_decay": 1e-4,
}
SYNFLOW_CIFAR_RESNET_18: Recipe = {
    **SYNFLOW_CIFAR,
    **SYNFLOW_TINY_RESNET_INIT,
    "bias_init": "as_built",
    "lr": 0.01,
    "gamma": 0.2,
    "weight_decay": 5e-4,
}

# PHEW (Patil and Dovrolis 2021).
PHEW_RESNET: Recipe = {**SYNFLOW_CIFAR, "milestone_steps": "80ep,120ep"}
PHEW_VGG: Recipe = {**PHEW_RESNET, "linear_init": "small_normal"}
PHEW_MODIFIED_RESNET: Recipe = {**PHEW_RESNET, "model_init": "kaiming_normal_fan_out"}
PHEW_TINY: Recipe = {"dataset_name": "tinyimagenet2"}

# GraSP (Wang et al. 2020).
GRASP: Recipe = {
    **CIFAR,
    "normalization": "grasp",
    "augmentation_order": "crop_flip",
    "model_init": "kaiming_normal_fan_out",
    "linear_init": "small_normal",
    "bias_init": "zero",
    "batchnorm_init": "fixed",
}
GRASP_VGG: Recipe = {**GRASP, "no_conv_bias": True, "weight_decay": 5e-4}
GRASP_TINY: Recipe = {"dataset_name": "tinyimagenet2", "milestone_steps": "150ep,225ep", "training_steps": "300ep"}
GRASP_IMAGENET: Recipe = {
    **TORCHVISION,
    "model_init": "kaiming_normal_fan_out",
    "linear_init": "as_built",
    "normalization": "grasp",
}

# ToST (Jaiswal et al. 2022).
TOST_PRUNING: Recipe = {
    **CIFAR,
    "normalization": "tost",
    "augmentation_order": "crop_flip",
    "model_init": "as_built",
    "batchnorm_init": "fixed",
    "milestone_steps": "90ep,135ep",
    "training_steps": "182ep",
    "weight_decay": 2e-4,
}
# Its training techniques hold out examples by which the best epoch is chosen.
TOST: Recipe = {**TOST_PRUNING, "validation_examples": 5000}
TOST_TINY: Recipe = {**TOST_PRUNING, "dataset_name": "tinyimagenet2", "normalization": "synflow"}
TOST_RESNET_A: Recipe = {**TOST_PRUNING, "normalization": "tost_resnet_a", "model_init": "kaiming_normal"}
TOST_ORESNET: Recipe = {**TOST, "model_init": "kaiming_normal_fan_out", "linear_init": "as_built"}
TOST_VGG: Recipe = {
    **TOST_RESNET_A,
    "model_init": "kaiming_normal_fan_out",
    "linear_init": "small_normal",
    "bias_init": "zero",
}
# Its lottery-ticket code: no augmentation, MNIST's constants for every data set, biases from N(0, 1).
TOST_LTH: Recipe = {
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
TOST_LTH_CIFAR: Recipe = {**TOST_LTH, "dataset_name": "cifar10"}
