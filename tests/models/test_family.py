"""A family that a researcher declares beside its network, in a file that imports torch."""

import sys
from dataclasses import dataclass
from typing import cast

import pytest
from torch import nn

from foundations.description.hparams import hparam
from foundations.errors import UsageError
from foundations.inputs import Inputs
from models.build import build_model
from models.family import DEPTH, Family, NetworkSpec
from models.hparams import ModelHparams
from models.registry import FAMILIES
from training.recipes import recipe, recipes


@dataclass(frozen=True, kw_only=True)
class PatchHparams(ModelHparams):
    patch_size: int = hparam(4, at_least=1)
    """The side of a patch."""


def patches(spec: NetworkSpec) -> nn.Module:
    side = cast(PatchHparams, spec.hparams).patch_size
    hidden = [nn.Conv2d(6, 6, 1) for _ in range(spec.depth)]
    features = 6 * (spec.input_shape[1] // side) * (spec.input_shape[2] // side)
    return nn.Sequential(
        nn.Conv2d(spec.channels, 6, side, side), *hidden, nn.Flatten(), nn.Linear(features, spec.outputs)
    )


PATCHES = Family(
    spelling="patches_D",
    pattern=f"patches{DEPTH}",
    builder=patches,
    source="these tests",
    examples=("patches_2",),
    depths=range(1, 4),
    options=frozenset(),
    batchnorm=False,
    hparams=PatchHparams,
)


@pytest.fixture(scope="module", autouse=True)
def _declared() -> None:
    if "patches_2" not in FAMILIES:
        FAMILIES.register(sys.modules[__name__])


def test_hyperparameters_of_a_family_reach_its_builder_and_the_address() -> None:
    hparams = ModelHparams.of({"model_name": "patches_2", "patch_size": 8, "lr": 0.1})

    model = build_model(hparams, outputs=10, inputs=Inputs((3, 32, 32)), seed_keys=(1,))

    assert hparams.normalized(1).canonical()["patch_size"] == 8
    assert model.get_parameter("0.weight").shape == (6, 3, 8, 8)


def test_a_network_is_built_with_its_familys_defaults_where_none_are_given() -> None:
    model = build_model(ModelHparams(model_name="patches_2"), outputs=10, inputs=Inputs((3, 32, 32)), seed_keys=(1,))

    assert model.get_parameter("0.weight").shape == (6, 3, 4, 4)


def test_hyperparameters_of_a_family_are_gone_with_the_family() -> None:
    hparams = ModelHparams.of({"model_name": "patches_2", "patch_size": 8})

    assert hparams.replaced({"model_name": "cifar_resnet_20"}) == ModelHparams()


def test_a_default_of_a_familys_hyperparameter_is_not_in_the_address() -> None:
    assert "patch_size" not in ModelHparams.of({"model_name": "patches_2"}).normalized(1).canonical()


def test_depths_that_a_family_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match="'patches_4' is not a valid value; in patches_D, D is 1, 2 or 3"):
        ModelHparams.of({"model_name": "patches_4"})


def test_a_family_without_a_recipe_has_one_that_sets_the_network_alone() -> None:
    assert recipe("patches_3") == {"model_name": "patches_3"}
    assert "patches_2" in [name for entry in recipes() for name in entry.names]
