"""Datasets in place of a recipe's: whether the network takes them comes first, and only given values are blamed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.commands.jobs import train_request
from datasets.registry import DATASETS
from foundations.environment import Environment
from foundations.errors import UsageError
from models.registry import FAMILIES
from training.desc import TrainDesc
from training.recipes import recipe, recipes

NAMES = [name for each in recipes() for name in each.names if name != each.spelling or not each.pattern]


def described(tmp_path: Path, *flags: str) -> tuple[TrainDesc, str]:
    """Return the training of a command line, and the line that is printed before it."""
    request = train_request(flags, Environment(tmp_path, tmp_path, no_download=True))
    desc = request.targets[""].desc
    assert isinstance(desc, TrainDesc)
    return desc, request.first_line


@pytest.mark.parametrize("dataset", ["digits", "breast_cancer", "diabetes", "kjv", "modular_arithmetic"])
def test_every_recipe_with_another_dataset_is_possible_or_the_network_and_the_dataset_are_named(
    tmp_path: Path, dataset: str
) -> None:
    inputs = DATASETS.find(dataset).inputs_of(DATASETS.find(dataset).input_shape)
    for name in NAMES:
        takes = FAMILIES.match(recipe(name)["model_name"])[0].takes(inputs)
        try:
            described(tmp_path, f"--default_hparams={name}", f"--dataset_name={dataset}")
        except UsageError as error:
            assert not takes or "dataset_name" in error.hparams or error.hparams == ("hf_config",), (name, error)
            assert takes or error.hparams == ("model_name", "dataset_name"), (name, error)
        else:
            assert takes, name


def test_values_of_a_recipe_that_the_dataset_does_not_take_are_left_out_and_named(tmp_path: Path) -> None:
    desc, line = described(tmp_path, "--default_hparams=synflow_fc", "--dataset_name=breast_cancer")

    assert desc.dataset.normalization is None
    assert "not possible with dataset_name=breast_cancer: --normalization=synflow" in line


def test_values_that_were_given_are_not_left_out(tmp_path: Path) -> None:
    flags = ("--default_hparams=synflow_fc", "--dataset_name=breast_cancer", "--normalization=synflow")

    with pytest.raises(UsageError, match="normalization: it changes images; 'breast_cancer' has vectors"):
        described(tmp_path, *flags)


def test_a_recipe_with_its_own_dataset_is_taken_whole(tmp_path: Path) -> None:
    desc, line = described(tmp_path, "--default_hparams=synflow_fc")

    assert desc == TrainDesc.of(recipe("synflow_fc"))
    assert "Of the recipe" not in line
