import pytest

from foundations.errors import UsageError
from models.registry import canonical_model_name, families, find_family, recipe


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("cifar_resnet_20", "cifar_resnet_20"),
        ("cifar_resnet_20_16", "cifar_resnet_20"),
        ("cifar_resnet_20_32", "cifar_resnet_20_32"),
        ("digits_resnet_8_16", "digits_resnet_8"),
        ("mnist_lenet_300_100", "mnist_lenet_300_100"),
        ("mnist_lenet_16", "mnist_lenet_16"),
    ],
)
def test_a_network_has_one_spelling(written, canonical):
    assert canonical_model_name(written) == canonical


def test_every_listed_example_is_canonical_and_has_a_recipe_for_itself():
    for family in families():
        assert family.examples
        for name in family.examples:
            assert canonical_model_name(name) == name
            assert recipe(name)["model_name"] == name


@pytest.mark.parametrize("name", ["cifar_resnet_21", "cifar_resnet_2", "cifar_resnet_9"])
def test_a_depth_that_does_not_exist_says_which_do(name):
    with pytest.raises(UsageError, match=rf"^--model_name: there is no '{name}': in cifar_resnet_D\[_W\], D is 8, 14"):
        canonical_model_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "cifar_resnet", "cifar_resnet_020", "cifar_resnet_20_0", "mnist_lenet", "mnist_lenet_0", "CIFAR_resnet_20"],
)
def test_an_unknown_name_lists_the_possible_ones(name):
    with pytest.raises(UsageError, match=r"^--model_name: '.*' is not known\..*Possible: .*cifar_resnet_D\[_W\]"):
        canonical_model_name(name)


def test_a_mistyped_name_gets_a_suggestion():
    with pytest.raises(UsageError, match=r"Did you mean 'cifar_resnet_20'\?"):
        canonical_model_name("cifar_resnt_20")


def test_an_unknown_recipe_is_about_its_own_flag():
    with pytest.raises(UsageError, match=r"^--default_hparams: 'resnet' is not known"):
        recipe("resnet")


def test_a_name_is_taken_apart_into_numbers():
    _, resnet = find_family("cifar_resnet_32")
    _, lenet = find_family("mnist_lenet_300_100")

    assert (resnet.depth, resnet.width, resnet.units) == (32, 16, ())
    assert (lenet.depth, lenet.width, lenet.units) == (None, None, (300, 100))


def test_openlth_recipes():
    assert recipe("mnist_lenet_300_100") == {
        "model_name": "mnist_lenet_300_100",
        "model_init": "kaiming_normal",
        "batchnorm_init": "uniform",
        "dataset_name": "mnist",
        "batch_size": 128,
        "optimizer_name": "sgd",
        "lr": 0.1,
        "training_steps": "40ep",
    }
    assert recipe("cifar_resnet_20_16") == {
        "model_name": "cifar_resnet_20",
        "model_init": "kaiming_normal",
        "batchnorm_init": "uniform",
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
