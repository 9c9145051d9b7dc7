"""The families of networks by name. Nothing here needs torch."""

from __future__ import annotations

from foundations.errors import UsageError
from foundations.inputs import Inputs
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
        "models.families.vision_transformers",
        "models.families.language_transformers",
        "models.families.timm_models",
        "models.families.hugging_face",
        "models.families.recurrent",
        "models.families.series_resnet",
    ),
)

_MOST_NAMED = 8
"""The most families that a message names."""


def find_family(name: str) -> tuple[Family, NameParts]:
    """Return the family of a name, and the parts of the name.

    Raises: UsageError about `model_name` for a name, a depth or a member that does not exist.
    """
    family, groups = FAMILIES.match(name)
    return family, family.parts(name, groups)


def check_takes(name: str, inputs: Inputs, dataset_name: str) -> None:
    """Check that a network takes the inputs of a dataset, and answers as its task needs it.

    Raises: UsageError with the families that do.
    """
    family, _ = FAMILIES.match(name)
    if family.takes(inputs):
        return
    answers = {True: " with an answer for each token", False: " with one answer for each example"}
    needed = answers[inputs.per_token] if family.per_token != {True, False} else ""
    own = answers[True] if family.per_token == {True} else answers[False] if needed else ""
    fitting = [other.spelling for other in FAMILIES if other.takes(inputs)]
    shown = ", ".join(fitting[:_MOST_NAMED]) + (", ... (see `models`)" if len(fitting) > _MOST_NAMED else "")
    raise UsageError(
        f"{name} takes {' or '.join(sorted(family.inputs))}{own}; '{dataset_name}' needs a network of {inputs.kind}"
        f"{needed}: {shown or 'no family does this'}.",
        "model_name",
        "dataset_name",
    )


def canonical_model_name(name: str) -> str:
    """Return the canonical name of a network: `cifar_resnet_20` for `cifar_resnet_20_16`.

    Raises: as `find_family`.
    """
    family, groups = FAMILIES.match(name)
    family.parts(name, groups)
    width = groups.get("width")
    return name.removesuffix(f"_{width}") if width == str(family.width) else name
