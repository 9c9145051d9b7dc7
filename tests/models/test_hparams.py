import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from foundations.errors import UsageError
from models.hparams import ModelHparams


def test_spellings_of_one_network_are_normalized_to_the_same_hyperparameters():
    written = ModelHparams(model_name="cifar_resnet_20_16", others_frozen_exceptions="fc.weight,conv.weight")

    assert written.normalized(1) == ModelHparams(model_name="cifar_resnet_20")


def test_exceptions_are_a_set_where_others_are_frozen():
    one = ModelHparams(others_frozen=True, others_frozen_exceptions="b,a,b")
    two = ModelHparams(others_frozen=True, others_frozen_exceptions="a,b")

    assert one.normalized(1) == two.normalized(1)
    assert one.normalized(1).others_frozen_exceptions == "a,b"


def test_batchnorm_does_not_tell_networks_without_it_apart():
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
def test_what_changes_a_network_stays_in_its_address(change):
    plain = {"model_name": change.get("model_name", "cifar_resnet_20")} if len(change) > 1 else {}

    assert ModelHparams(**change).normalized(1).canonical() != ModelHparams(**plain).normalized(1).canonical()


def test_a_linear_initializer_that_is_the_models_is_not_told_apart():
    assert ModelHparams(linear_init="kaiming_normal").normalized(1) == ModelHparams()


def test_batchnorm_left_out_does_not_tell_networks_apart():
    bare = ModelHparams(model_name="cifar_vgg_11", no_batchnorm=True)

    assert dataclasses.replace(bare, batchnorm_init="fixed", batchnorm_frozen=True).normalized(1) == bare


def test_name_and_initializers_always_stand_in_the_address():
    assert ModelHparams().canonical() == {
        "model_name": "cifar_resnet_20",
        "model_init": "kaiming_normal",
        "batchnorm_init": "uniform",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_name": "cifar_vgg"}, "--model_name: 'cifar_vgg' is not known"),
        ({"model_name": "cifar_vgg_12"}, "in cifar_vgg_D, D is 11, 13, 16 or 19"),
        ({"model_name": "torchvision_resnet19"}, "Did you mean 'resnet18'"),
        ({"no_batchnorm": True}, "--no_batchnorm: cifar_resnet_20 has no such option"),
        ({"no_conv_bias": True}, "--no_conv_bias: cifar_resnet_20 has no such option"),
        (
            {"model_name": "torchvision_resnet18", "activation": "mish"},
            "--activation: torchvision_resnet18 has no",
        ),
        ({"activation": "tanh"}, "--activation: 'tanh' is not possible"),
        ({"model_init": "kaiming"}, "--model_init: 'kaiming' is not possible"),
        ({"batchnorm_init": "oneones"}, "Did you mean 'oneone'"),
        ({"outputs": 0}, "--outputs: 0 is not possible"),
    ],
)
def test_impossible_values_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        ModelHparams(**change)


def test_hyperparameters_and_names_need_no_torch():
    code = (
        "import sys, models.hparams, models.registry, datasets.hparams, datasets.registry, datasets.prepared\n"
        "sys.exit(bool({'torch', 'numpy', 'torchvision'} & set(sys.modules)))"
    )

    result = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)

    assert result.returncode == 0
