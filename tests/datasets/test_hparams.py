import pytest

from datasets.hparams import DatasetHparams
from datasets.registry import datasets, find_dataset
from foundations.errors import UsageError


def normalized(**hparams):
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
def test_an_epoch_counts_what_is_left_of_the_training_set(hparams, num_train, iterations):
    assert DatasetHparams(**hparams).num_train == num_train
    assert DatasetHparams(**hparams).iterations_per_epoch == iterations


def test_classes_and_shape_are_those_of_the_batches():
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
    ],
)
def test_what_cannot_change_the_result_is_not_in_the_address(hparams):
    name = hparams.get("dataset_name", "cifar10")

    assert normalized(**hparams) == DatasetHparams(dataset_name=name)


def test_labels_that_rotation_replaces_are_not_in_the_address():
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
    ],
)
def test_what_changes_the_data_is_in_the_address(change):
    assert normalized(**change).canonical() != normalized().canonical()


@pytest.mark.parametrize(
    "change", [{"subsample_fraction": 0.5}, {"random_labels_fraction": 0.5}, {"unsupervised_labels": "rotation"}]
)
def test_the_seed_counts_where_it_is_drawn_from(change):
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
    ],
)
def test_impossible_values_are_refused_with_their_flag(change, flag):
    with pytest.raises(UsageError, match=f"^--{flag}: "):
        normalized(**change)


def test_a_mistyped_data_set_gets_a_suggestion_and_the_list():
    with pytest.raises(UsageError, match=r"Did you mean 'cifar100'\? Possible: digits, mnist, fashion_mnist, cifar10,"):
        find_dataset("cifar-100")


def test_every_data_set_is_found_by_its_name_and_is_consistent():
    for spec in datasets():
        assert find_dataset(spec.name) is spec
        assert len(spec.mean) == len(spec.std) == spec.input_shape[0]
