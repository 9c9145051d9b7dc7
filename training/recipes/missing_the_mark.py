"""Recipes of 'Pruning Neural Networks at Initialization: Why Are We Missing the Mark?' (Frankle et al. 2021)."""

from __future__ import annotations

from models.families import imagenet_resnet
from training.recipes import Recipe, openlth

# Its code builds Tiny ImageNet networks with 1,000 outputs, and so does its recipe here.
_TINYIMAGENET = {
    **openlth.INIT,
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

TINYIMAGENET_RESNET = Recipe.of_family(imagenet_resnet.TINYIMAGENET_RESNET, _TINYIMAGENET)
TINYIMAGENET_MODIFIEDRESNET = Recipe.of_family(imagenet_resnet.TINYIMAGENET_MODIFIEDRESNET, _TINYIMAGENET)
