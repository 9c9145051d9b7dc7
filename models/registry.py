"""The families of networks by name. Nothing here needs torch."""

from __future__ import annotations

from foundations.registry import Registry
from models.family import Family, NameParts

FAMILIES = Registry(
    Family,
    "model_name",
    (
        "models.families.lenet",
        "models.families.cifar_resnet",
        "models.families.vgg",
        "models.families.wideresnet",
        "models.families.imagenet_resnet",
        "models.families.convnets",
        "models.families.torchvision_models",
    ),
)


def find_family(name: str) -> tuple[Family, NameParts]:
    """Return the family of a name, and the parts of the name.

    Raises: UsageError about `model_name` for a name, a depth or a member that does not exist.
    """
    family, groups = FAMILIES.match(name)
    return family, family.parts(name, groups)


def canonical_model_name(name: str) -> str:
    """Return the canonical name of a network: `cifar_resnet_20` for `cifar_resnet_20_16`.

    Raises: as `find_family`.
    """
    family, groups = FAMILIES.match(name)
    family.parts(name, groups)
    width = groups.get("width")
    return name.removesuffix(f"_{width}") if width == str(family.width) else name
