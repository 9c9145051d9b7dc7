"""Every recipe makes a description that can be trained, and stays as it is."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from branches.desc import BranchDesc, trained_of
from branches.lottery.lottery import Lottery, LotteryHparams
from datasets.registry import DATASETS
from foundations.description.address import canonical_json
from foundations.description.desc import RunRef, StateOf
from foundations.errors import UsageError
from foundations.inputs import Inputs
from models.build import build_model, construct
from models.hparams import ModelHparams
from models.registry import FAMILIES, find_family
from pruning.hparams import PruningHparams
from pruning.weights.prunable import weights_to_prune
from training.desc import TrainDesc
from training.recipes import lottery_recipe, recipe, recipes

NAMES = [name for entry in recipes() for name in entry.names]
FROZEN: dict[str, str] = json.loads((Path(__file__).parent / "digests.json").read_text())


MEMBERS: dict[str, dict[str, Any]] = {
    "timm_NAME": {"model_name": "timm_resnet18"},
    "hf_TYPE": {"model_name": "hf_gpt2", "hf_config": '{"model_type": "gpt2", "vocab_size": 257}'},
}
"""A network for each name that stands for many."""


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_flags_that_exist_and_make_a_description(name: str) -> None:
    flags = recipe(name) | MEMBERS.get(name, {})
    family, _ = find_family(flags["model_name"])
    if not any(family.takes(spec.inputs_of(spec.input_shape)) for spec in DATASETS):
        assert "dataset_name" not in flags
        pytest.skip("no dataset that comes with the project fits the network")
    desc = TrainDesc.of(flags)
    known = {*desc.dataset.names(), *desc.model.names(), *desc.training.names()}

    assert set(flags) <= known
    assert {"dataset_name", "batch_size", "model_name", "model_init", "lr", "training_steps"} <= set(flags)
    assert desc.iterations_per_epoch > 0


def test_no_two_recipes_have_one_name() -> None:
    assert len(NAMES) == len(set(NAMES))


def test_every_recipe_is_what_it_always_was() -> None:
    digests = {name: hashlib.sha256(canonical_json(recipe(name)).encode()).hexdigest()[:16] for name in FROZEN}

    assert digests == FROZEN
    assert set(NAMES) <= set(FROZEN)


def test_a_recipe_with_the_names_of_a_family_is_for_the_network_of_that_name() -> None:
    for family in FAMILIES:
        for name in family.examples or (family.spelling,):
            assert recipe(name)["model_name"] == name


PUBLISHED = [
    ("cifar_vgg_16", {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "training_steps": "160ep"}),
    ("imagenet_resnet_50", {"batch_size": 1024, "lr": 0.4, "training_steps": "90ep", "warmup_steps": "5ep"}),
    ("tinyimagenet_resnet_18", {"batch_size": 256, "lr": 0.2, "milestone_steps": "100ep,150ep", "outputs": 1000}),
    ("grasp_resnet_32", {"model_name": "cifar_resnet_32_32", "weight_decay": 1e-4, "normalization": "grasp"}),
    ("grasp_vgg_19", {"model_name": "cifar_vgg_19", "no_conv_bias": True, "weight_decay": 5e-4}),
    ("phew_wide_resnet_20", {"model_name": "cifar_resnet_20_32", "nesterov_momentum": 0.9}),
    ("synflow_vgg_16", {"model_name": "cifar_vgg_16", "no_batchnorm": True, "milestone_steps": "60ep,120ep"}),
    ("synflow_resnet_20", {"model_name": "cifar_resnet_20", "bias_init": "zero", "augmentation_order": "crop_flip"}),
    ("grasp_tinyimagenet_vgg_19", {"dataset_name": "tinyimagenet2", "training_steps": "300ep", "weight_decay": 5e-4}),
    ("grasp_tinyimagenet_resnet_32", {"milestone_steps": "150ep,225ep", "weight_decay": 1e-4}),
    ("grasp_imagenet_resnet_50", {"crop_scale": 0.08, "crop_ratio": 4 / 3, "batch_size": 256, "lr": 0.1}),
    ("phew_tinyimagenet_resnet_18", {"model_name": "tinyimagenet_modifiedresnet_18", "normalization": "synflow"}),
    ("tost_vgg_16_bn", {"model_name": "cifar_vgg_16", "normalization": "tost_resnet_a", "bias_init": "zero"}),
    ("tost_lth_densenet_121", {"optimizer_name": "adam", "batchnorm_init": "nearly_one", "do_not_augment": True}),
    ("tost_resnet_18", {"model_name": "cifar_modifiedresnet_18", "weight_decay": 2e-4, "validation_examples": 5000}),
    ("tost_resnets_20", {"model_name": "cifar_resnet_a_20", "weight_decay": 2e-4, "training_steps": "182ep"}),
]


@pytest.mark.parametrize(("name", "flags"), PUBLISHED)
def test_recipes_are_those_of_their_papers(name: str, flags: dict[str, Any]) -> None:
    assert recipe(name).items() >= flags.items()


def initialized(name: str) -> nn.Module:
    return build_model(ModelHparams.of(recipe(name)), outputs=200, inputs=Inputs((3, 64, 64)), seed_keys=(1,))


@pytest.mark.parametrize("name", ["phew_tinyimagenet_vgg_11_bn", "phew_tinyimagenet_vgg_11"])
def test_phews_vgg_of_tiny_imagenet_is_initialized_by_fan_out_and_its_classifier_by_a_small_normal(name: str) -> None:
    weights = [parameter for parameter in initialized(name).parameters() if parameter.dim() > 1]

    expected = [math.sqrt(2 / (len(weight) * 9)) if weight.dim() == 4 else 0.01 for weight in weights]
    assert [weight.detach().std().item() for weight in weights] == pytest.approx(expected, rel=0.1)
    assert expected[0] == pytest.approx(0.0589, abs=1e-4)


@pytest.mark.parametrize("name", ["phew_tinyimagenet_resnet_18", "phew_resnet_18"])
def test_phews_resnets_of_18_layers_and_more_keep_pytorchs_bias_of_the_output(name: str) -> None:
    model = initialized(name)

    (bias,) = (p for n, p in model.named_parameters() if n.endswith("fc.bias"))
    assert bias.count_nonzero() == len(bias)
    assert float(bias.abs().max()) <= 1 / math.sqrt(512)


def test_a_recipe_for_a_depth_that_does_not_exist_says_which_do() -> None:
    with pytest.raises(UsageError, match=r"^default_hparams: .*D is 11, 13, 16 or 19"):
        recipe("grasp_vgg_12")


def test_an_unknown_recipe_gets_a_suggestion() -> None:
    with pytest.raises(
        UsageError, match=r"^default_hparams: 'grasp_resnt_20' is not .* Did you mean 'grasp_resnet_20'"
    ):
        recipe("grasp_resnt_20")


def test_openlth_recipes() -> None:
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


@pytest.mark.parametrize("depth", [18, 34])
def test_wide_networks_of_basic_blocks_are_those_of_synaptic_flow_that_are_not_wide(depth: int) -> None:
    wide, plain = recipe(f"synflow_tinyimagenet_wide_resnet_{depth}"), recipe(f"synflow_tinyimagenet_resnet_{depth}")

    assert TrainDesc.of(wide).digest == TrainDesc.of(plain).digest


def test_pruning_wrappers_demo_prunes_what_has_weight_and_not_fc_in_its_name() -> None:
    values = lottery_recipe("pruningwrapper_svhn")
    with torch.device("meta"):
        model = construct(ModelHparams.of(values), 10, Inputs((3, 32, 32)))

    found = weights_to_prune(model, PruningHparams.of(values))

    assert set(found) == {name for name, _ in model.named_parameters() if "weight" in name and "fc" not in name}
    assert values["levels"] == "24"


@pytest.mark.parametrize("name", ["tost_lt_fc1", "tost_lt_resnet_18"])
def test_tosts_lottery_is_one_preset(name: str) -> None:
    values = lottery_recipe(name)
    described = Lottery(TrainDesc.of(values), PruningHparams.of(values), LotteryHparams.of(values))

    levels = [desc for _, desc in described.levels(int(described.hparams.levels))]

    assert len(levels) == 35
    assert [trained_of(RunRef(each)).training.lr for each in levels] == [0.001, *[0.0012] * 34]
    last = levels[-1]
    assert isinstance(last, BranchDesc)
    assert last.pruning is not None
    assert last.pruning.level == pytest.approx(1 - 0.9**34)
    assert last.statistics == StateOf(RunRef(levels[-2]), levels[-2].end)
    assert last.state == StateOf(RunRef(levels[0]), levels[0].start)


@pytest.mark.parametrize("name", ["synflow_imagenet_resnet_18", "synflow_imagenet_vgg_11"])
def test_synaptic_flow_initializes_torchvisions_convolutions_by_fan_out(name: str) -> None:
    model = build_model(ModelHparams.of(recipe(name)), outputs=10, inputs=Inputs((3, 64, 64)), seed_keys=(1,))
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    linear = next(module for module in model.modules() if isinstance(module, nn.Linear))

    expected = [math.sqrt(2 / (conv.out_channels * conv.kernel_size[0] ** 2)) for conv in convs]
    assert [conv.weight.detach().std().item() for conv in convs] == pytest.approx(expected, rel=0.05)
    is_vgg = "vgg" in name
    assert linear.weight.detach().std().item() == pytest.approx(0.01 if is_vgg else 1 / math.sqrt(3 * 512), rel=0.05)
    assert linear.bias.count_nonzero().item() == (0 if is_vgg else 1000)
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)
