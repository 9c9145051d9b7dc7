import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foundations.errors import UsageError
from models.hparams import ModelHparams


def test_spellings_of_one_network_are_normalized_to_the_same_hyperparameters() -> None:
    written = ModelHparams(model_name="cifar_resnet_20_16", others_frozen_exceptions="fc.weight,conv.weight")

    assert written.normalized(1) == ModelHparams(model_name="cifar_resnet_20")


def test_exceptions_are_a_set_where_others_are_frozen() -> None:
    one = ModelHparams(others_frozen=True, others_frozen_exceptions="b,a,b")
    two = ModelHparams(others_frozen=True, others_frozen_exceptions="a,b")

    assert one.normalized(1) == two.normalized(1)
    assert one.normalized(1).others_frozen_exceptions == "a,b"


def test_hyperparameters_of_batchnorm_vanish_where_the_family_has_none() -> None:
    written = ModelHparams(model_name="mnist_lenet_5", batchnorm_init="fixed", batchnorm_frozen=True)

    assert written.normalized(1) == ModelHparams(model_name="mnist_lenet_5")


@pytest.mark.parametrize(
    "change",
    [
        {"model_name": "cifar_resnet_8"},
        {"model_init": "binary"},
        {"batchnorm_init": "fixed"},
        {"batchnorm_frozen": True},
        {"output_frozen": True},
        {"others_frozen": True},
        {"outputs": 1000},
        {"linear_init": "small_normal"},
        {"bias_init": "zero"},
        {"activation": "swish"},
        {"model_name": "cifar_vgg_16", "no_batchnorm": True},
        {"model_name": "cifar_vgg_16", "no_conv_bias": True},
    ],
)
def test_what_changes_a_network_stays_in_its_address(change: dict[str, Any]) -> None:
    plain = {"model_name": change.get("model_name", "cifar_resnet_20")} if len(change) > 1 else {}

    assert ModelHparams(**change).normalized(1).canonical() != ModelHparams(**plain).normalized(1).canonical()


def test_a_linear_initializer_vanishes_where_it_is_that_of_all_weights() -> None:
    assert ModelHparams(linear_init="kaiming_normal").normalized(1) == ModelHparams()


def test_hyperparameters_of_batchnorm_vanish_where_it_is_left_out() -> None:
    bare = ModelHparams(model_name="cifar_vgg_11", no_batchnorm=True)

    assert dataclasses.replace(bare, batchnorm_init="fixed", batchnorm_frozen=True).normalized(1) == bare


def test_name_and_initializers_always_stand_in_the_address() -> None:
    assert ModelHparams().canonical() == {
        "model_name": "cifar_resnet_20",
        "model_init": "kaiming_normal",
        "batchnorm_init": "uniform",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_name": "cifar_vgg"}, "model_name: 'cifar_vgg' is not a valid value"),
        ({"model_name": "cifar_vgg_12"}, r"in cifar_vgg_D\[_W\], D is 11, 13, 16 or 19"),
        ({"model_name": "torchvision_resnet19"}, "Did you mean 'resnet18'"),
        ({"no_batchnorm": True}, "no_batchnorm: cifar_resnet_20 has no such option"),
        ({"no_conv_bias": True}, "no_conv_bias: cifar_resnet_20 has no such option"),
        (
            {"model_name": "torchvision_resnet18", "activation": "mish"},
            "activation: torchvision_resnet18 has no",
        ),
        ({"activation": "tanh"}, "activation: 'tanh' is not a valid value; choose from relu, swish,"),
        ({"model_init": "kaiming"}, "model_init: 'kaiming' is not a valid value"),
        ({"batchnorm_init": "oneones"}, "Did you mean 'oneone'"),
        ({"linear_init": "kaiming"}, "^linear_init: 'kaiming' is not a valid value"),
        ({"outputs": 0}, "outputs: 0 is not a valid value; it must be at least 1"),
    ],
)
def test_values_that_are_not_valid_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ModelHparams(**change)


def test_listing_and_describing_networks_import_no_torch() -> None:
    code = (
        "import sys\n"
        "from models.hparams import ModelHparams\n"
        "from models.registry import FAMILIES\n"
        "from training.recipes import recipe, recipes\n"
        "assert [ModelHparams.of(recipe(name)).normalized(1) for entry in recipes() for name in entry.names]\n"
        "assert FAMILIES.spellings()\n"
        "sys.exit(bool({'torch', 'numpy', 'torchvision'} & set(sys.modules)))"
    )

    result = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)

    assert result.returncode == 0
