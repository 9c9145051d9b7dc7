import pytest

from foundations.errors import UsageError
from models.registry import FAMILIES, canonical_model_name, find_family


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
def test_a_network_has_one_spelling(written: str, canonical: str) -> None:
    assert canonical_model_name(written) == canonical


def test_every_listed_example_is_canonical() -> None:
    for family in FAMILIES:
        for name in family.examples or (family.spelling,):
            assert canonical_model_name(name) == name


@pytest.mark.parametrize("name", ["cifar_resnet_21", "cifar_resnet_2", "cifar_resnet_9"])
def test_a_depth_that_does_not_exist_says_which_do(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^model_name: '{name}' is not .*; in cifar_resnet_D\[_W\], D is 8, 14, 20"):
        canonical_model_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "cifar_resnet", "cifar_resnet_020", "cifar_resnet_20_0", "mnist_lenet", "mnist_lenet_0", "CIFAR_resnet_20"],
)
def test_an_unknown_name_gets_a_suggestion_or_the_list_of_valid_ones(name: str) -> None:
    suggestion, listed = r"\. Did you mean '.*'\? \(\d+ names are possible\.\)", r"; choose from .*cifar_resnet_D\[_W\]"
    with pytest.raises(UsageError, match=rf"^model_name: '.*' is not a valid value({suggestion}|{listed})"):
        canonical_model_name(name)


def test_a_mistyped_name_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'cifar_resnet_20'\?"):
        canonical_model_name("cifar_resnt_20")


def test_a_name_is_taken_apart_into_numbers() -> None:
    _, resnet = find_family("cifar_resnet_32")
    _, lenet = find_family("mnist_lenet_300_100")

    assert (resnet.depth, resnet.width, resnet.units) == (32, 16, ())
    assert (lenet.depth, lenet.width, lenet.units) == (0, 0, (300, 100))
