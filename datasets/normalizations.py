"""The constants by which the code bases of the papers normalize images: (mean, std) of pixels in [0, 1].

They differ, and results depend on them: the hyperparameter `normalization` selects another code base's constants than
the dataset's own, which are OpenLTH's if it has the dataset.
"""

from __future__ import annotations

Constants = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of each channel."""

IMAGENET: Constants = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MNIST: Constants = ((0.1307,), (0.3081,))
CINIC10: Constants = ((0.47889522, 0.47227842, 0.43047404), (0.24205776, 0.23828046, 0.25874835))
_CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
SYNFLOW_CIFAR100: Constants = ((0.507, 0.487, 0.441), (0.267, 0.256, 0.276))

NORMALIZATIONS: dict[str, dict[str, Constants]] = {
    "synflow": {
        "mnist": MNIST,
        "cifar10": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
        "cifar100": SYNFLOW_CIFAR100,
        "tinyimagenet": ((0.480, 0.448, 0.397), (0.276, 0.269, 0.282)),
        "imagenet": IMAGENET,
    },
    "grasp": {
        "mnist": ((0.5,), (0.5,)),
        "cifar10": (_CIFAR_MEAN, (0.2023, 0.1994, 0.2010)),
        "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
        "cinic10": CINIC10,
        "tinyimagenet": ((0.480246, 0.448072, 0.397548), (0.276986, 0.269064, 0.282082)),
        "imagenet": IMAGENET,
    },
    "tost": {
        "cifar10": (_CIFAR_MEAN, (0.2023, 0.1994, 0.2010)),
        "cifar100": (_CIFAR_MEAN, (0.2023, 0.1994, 0.2010)),
    },
    "tost_resnet_a": {  # part of the network there
        "cifar10": (_CIFAR_MEAN, (0.2470, 0.2435, 0.2616)),
        "cifar100": (_CIFAR_MEAN, (0.2470, 0.2435, 0.2616)),
    },
    "tost_lth": {  # MNIST's for every dataset
        "mnist": MNIST,
        "fashion_mnist": MNIST,
        "cifar10": ((0.1307,) * 3, (0.3081,) * 3),
        "cifar100": ((0.1307,) * 3, (0.3081,) * 3),
    },
}
"""By code base and dataset (the name of its folder)."""
