"""OpenLTH's recipes (Frankle et al. 2020)."""

from __future__ import annotations

from models.families import cifar_resnet, imagenet_resnet, lenet, vgg
from training.recipes import Recipe

INIT = {"model_init": "kaiming_normal", "batchnorm_init": "uniform"}
LENET = {
    **INIT,
    "dataset_name": "mnist",
    "batch_size": 128,
    "optimizer_name": "sgd",
    "lr": 0.1,
    "training_steps": "40ep",
}
CIFAR = {
    **INIT,
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
IMAGENET = {
    **INIT,
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

# The lottery leaves the output layer of these whole, which still counts in the sparsity.
_WHOLE_OUTPUT = {"pruning_layers_to_ignore": "fc.weight"}

MNIST_LENET = Recipe.of_family(lenet.MNIST_LENET, LENET, _WHOLE_OUTPUT)
CIFAR_RESNET = Recipe.of_family(cifar_resnet.CIFAR_RESNET, CIFAR)
CIFAR_VGG = Recipe.of_family(vgg.CIFAR_VGG, CIFAR, _WHOLE_OUTPUT)
IMAGENET_RESNET = Recipe.of_family(imagenet_resnet.IMAGENET_RESNET, IMAGENET)
