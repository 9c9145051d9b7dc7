from typing import Any

import pytest

from datasets.hparams import DatasetHparams
from datasets.registry import DATASETS
from foundations.errors import UsageError


def normalized(**hparams: Any) -> DatasetHparams:
    return DatasetHparams(**hparams).normalized(1)


@pytest.mark.parametrize(
    ("hparams", "num_train", "iterations"),
    [
        ({}, 50_000, 391),
        ({"batch_size": 125}, 50_000, 400),
        ({"dataset_name": "mnist"}, 60_000, 469),
        ({"subsample_fraction": 0.3}, 15_000, 118),
        ({"dataset_name": "digits", "subsample_fraction": 0.001, "batch_size": 3}, 2, 1),
        ({"subsample_fraction": 1.0}, 50_000, 391),
    ],
)
def test_an_epoch_counts_what_is_left_of_the_training_set(
    hparams: dict[str, Any], num_train: int, iterations: int
) -> None:
    assert DatasetHparams(**hparams).num_train == num_train
    assert DatasetHparams(**hparams).iterations_per_epoch == iterations


def test_classes_and_shape_are_those_of_the_batches() -> None:
    assert DatasetHparams(dataset_name="cifar100").num_classes == 100
    assert DatasetHparams(dataset_name="cifar100", unsupervised_labels="rotation").num_classes == 4
    assert DatasetHparams(dataset_name="digits").input_shape == (1, 8, 8)


@pytest.mark.parametrize(
    "hparams",
    [
        {"subsample_fraction": 1.0},
        {"random_labels_fraction": 0.0},
        {"blur_factor": 1},
        {"transformation_seed": 7},
        {"dataset_name": "mnist", "do_not_augment": True},
        {"dataset_name": "digits", "transformation_seed": 3, "subsample_fraction": 1},
        {"dataset_name": "mnist", "augmentation_order": "crop_flip"},
        {"dataset_name": "mnist", "normalization": "synflow"},
        {"dataset_name": "cifar100", "normalization": "synflow"},
        {"dataset_name": "tinyimagenet", "augmentation_order": "crop_flip"},
        {"crop_scale": 0.08, "crop_ratio": 4 / 3},
        {"augment_as": "pad4_crop_flip"},
        {"dataset_name": "mnist", "augment_as": "none"},
        {"dataset_name": "mnist", "augment_as": "pad4_crop_flip", "do_not_augment": True},
        {"dataset_name": "tinyimagenet2", "crop_scale": 0.08},
    ],
)
def test_what_cannot_change_the_result_is_not_in_the_address(hparams: dict[str, Any]) -> None:
    name = hparams.get("dataset_name", "cifar10")

    assert normalized(**hparams) == DatasetHparams(dataset_name=name)


def test_labels_that_rotation_replaces_are_not_in_the_address() -> None:
    both = normalized(unsupervised_labels="rotation", random_labels_fraction=0.5, transformation_seed=3)

    assert both == normalized(unsupervised_labels="rotation", transformation_seed=3)


@pytest.mark.parametrize(
    "change",
    [
        {"dataset_name": "cifar100"},
        {"batch_size": 127},
        {"do_not_augment": True},
        {"subsample_fraction": 0.5},
        {"random_labels_fraction": 0.5},
        {"unsupervised_labels": "rotation"},
        {"blur_factor": 2},
        {"normalization": "grasp"},
        {"augmentation_order": "crop_flip"},
        {"dataset_name": "tinyimagenet2"},
        {"validation_examples": 5000},
        {"augment_as": "resized_crop_jitter_flip"},
        {"augment_as": "none"},
    ],
)
def test_what_changes_the_data_is_in_the_address(change: dict[str, Any]) -> None:
    assert normalized(**change).canonical() != normalized().canonical()


@pytest.mark.parametrize("change", [{"crop_scale": 0.08}, {"crop_ratio": 4 / 3}, {"do_not_augment": True}])
def test_crops_count_where_they_are_drawn(change: dict[str, Any]) -> None:
    tiny = {"dataset_name": "tinyimagenet"}

    assert normalized(**tiny, **change).canonical() != normalized(**tiny).canonical()


@pytest.mark.parametrize(
    "change", [{"subsample_fraction": 0.5}, {"random_labels_fraction": 0.5}, {"unsupervised_labels": "rotation"}]
)
def test_the_seed_counts_where_it_is_drawn_from(change: dict[str, Any]) -> None:
    assert normalized(**change, transformation_seed=1).canonical() != normalized(**change).canonical()


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"subsample_fraction": 0.0}, "subsample_fraction"),
        ({"subsample_fraction": 1.1}, "subsample_fraction"),
        ({"random_labels_fraction": -0.1}, "random_labels_fraction"),
        ({"transformation_seed": -1}, "transformation_seed"),
        ({"transformation_seed": 2**32}, "transformation_seed"),
        ({"unsupervised_labels": "jigsaw"}, "unsupervised_labels"),
        ({"blur_factor": 0}, "blur_factor"),
        ({"blur_factor": 33}, "blur_factor"),
        ({"dataset_name": "cifar11"}, "dataset_name"),
        ({"normalization": "openlth"}, "normalization"),
        ({"dataset_name": "svhn", "normalization": "tost"}, "normalization"),
        ({"augmentation_order": "crop"}, "augmentation_order"),
        ({"crop_scale": 0.0}, "crop_scale"),
        ({"augment_as": "crop"}, "augment_as"),
        ({"dataset_name": "mnist", "augment_as": "resized_crop_jitter_flip"}, "augment_as"),
        ({"dataset_name": "imagenet", "augment_as": "pad4_crop_flip"}, "augment_as"),
        ({"crop_ratio": 0.8}, "crop_ratio"),
        ({"validation_examples": -1}, "validation_examples"),
        ({"validation_examples": 50_000}, "validation_examples"),
    ],
)
def test_impossible_values_are_refused_by_name(change: dict[str, Any], flag: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag}: "):
        normalized(**change)


CONSTANTS = [  # (code base, dataset, mean and deviation of the first channel)
    (None, "cifar10", 0.485, 0.229),
    (None, "tinyimagenet2", -0.021, 1.21),
    ("synflow", "cifar10", 0.491, 0.247),
    ("synflow", "tinyimagenet", 0.480, 0.276),
    ("grasp", "mnist", 0.5, 0.5),
    ("grasp", "cifar10", 0.4914, 0.2023),
    ("grasp", "cifar100", 0.5071, 0.2675),
    ("grasp", "tinyimagenet2", 0.480246, 0.276986),
    ("tost", "cifar100", 0.4914, 0.2023),
    ("tost_resnet_a", "cifar10", 0.4914, 0.2470),
    ("tost_lth", "cifar10", 0.1307, 0.3081),
]


@pytest.mark.parametrize(("code_base", "name", "mean", "std"), CONSTANTS)
def test_each_code_base_has_its_own_constants(code_base: str | None, name: str, mean: Any, std: Any) -> None:
    means, stds = DatasetHparams(dataset_name=name, normalization=code_base).constants

    assert (means[0], stds[0]) == (mean, std)


def test_a_mistyped_dataset_gets_a_suggestion_and_the_list() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'cifar100'\? Choose from digits, .*mnist, fashion_mnist,"):
        DATASETS.find("cifar-100")


def test_every_dataset_is_found_by_its_name_and_is_consistent() -> None:
    for spec in DATASETS:
        assert DATASETS.find(spec.spelling) is spec
        spec.check_declared()
        assert len(spec.mean) == len(spec.std) == (0 if spec.inputs == "tokens" else spec.input_shape[0])
