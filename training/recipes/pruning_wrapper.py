"""The demo of PruningWrapper: ResNet-50 on CIFAR-100 and SVHN, 45 epochs, 25 rounds that each prune a fifth.

    lottery --default_hparams=pruningwrapper_cifar100                       magnitude, rewound
    lottery --default_hparams=pruningwrapper_svhn --strategy=random         random pruning
    lottery --default_hparams=pruningwrapper_svhn --reinitialize            a new initialization in each round

Its page gives network, data, epochs and rounds, but no optimizer: these are OpenLTH's for CIFAR, with the drops of the
learning rate at the same parts of the training.
"""

from __future__ import annotations

from training.recipes import Recipe, openlth

_SOURCE = "PruningWrapper's demo; optimizer: OpenLTH"
_TRAINING = {
    **openlth.CIFAR,
    "batchnorm_init": "fixed",
    "milestone_steps": "23ep,34ep",
    "training_steps": "45ep",
}
_ROUNDS = {"levels": "25", "pruning_fraction": 0.2}

CIFAR100 = Recipe(
    spelling="pruningwrapper_cifar100",
    source=_SOURCE,
    model="cifar_modifiedresnet_50",
    hparams={**_TRAINING, "dataset_name": "cifar100"},
    lottery=_ROUNDS,
)
SVHN = Recipe(
    spelling="pruningwrapper_svhn",
    source=_SOURCE,
    model="cifar_modifiedresnet_50",
    hparams={**_TRAINING, "dataset_name": "svhn"},
    lottery=_ROUNDS,
)
