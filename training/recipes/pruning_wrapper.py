"""The demo of PruningWrapper: torchvision's ResNet-50 on CIFAR-100 and SVHN, 45 epochs, 25 networks.

    lottery --default_hparams=pruningwrapper_cifar100                       magnitude, rewound
    lottery --default_hparams=pruningwrapper_svhn --strategy=random         random pruning (-rp)
    lottery --default_hparams=pruningwrapper_svhn --reinitialize            a new initialization in each round (-ri)

Its filter takes what has `weight` in its name, and not `fc`: convolutions and the scales of batch normalization. It
prunes 25 times, the last time after the last training, so level 24 is the last one.
"""

from __future__ import annotations

from training.recipes import Recipe, openlth

_SOURCE = "PruningWrapper's demo"
_TRAINING = {
    **openlth.CIFAR,
    "model_init": "as_built",
    "batchnorm_init": "fixed",
    "batch_size": 512,
    "milestone_steps": "22ep,33ep",
    "training_steps": "45ep",
}
_ROUNDS = {"levels": "24", "pruning_fraction": 0.2, "prunable_layers": "convolutions", "prune_batchnorm": True}

CIFAR100 = Recipe(
    spelling="pruningwrapper_cifar100",
    source=_SOURCE,
    model="torchvision_resnet50",
    hparams={**_TRAINING, "dataset_name": "cifar100"},
    lottery=_ROUNDS,
)
SVHN = Recipe(
    spelling="pruningwrapper_svhn",
    source=_SOURCE,
    model="torchvision_resnet50",
    hparams={**_TRAINING, "dataset_name": "svhn"},
    lottery=_ROUNDS,
)
