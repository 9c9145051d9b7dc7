"""Descriptions of trainings."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundations.errors import UsageError
from tests.training.small_runs import oneshot_desc, train_desc
from training.desc import TrainDesc
from training.recipes import recipe

flags = st.fixed_dictionaries(
    {},
    optional={
        "dataset_name": st.sampled_from(("digits", "mnist", "cifar10")),
        "batch_size": st.integers(1, 512),
        "validation_examples": st.integers(0, 100),
        "subsample_fraction": st.floats(0.1, 1),
        "random_labels_fraction": st.none() | st.floats(0, 1),
        "transformation_seed": st.integers(0, 9),
        "model_name": st.sampled_from(("digits_lenet_16", "digits_resnet_8_4", "cifar_vgg_11")),
        "model_init": st.sampled_from(("kaiming_normal", "kaiming_uniform", "orthogonal")),
        "outputs": st.integers(10, 20),
        "output_frozen": st.booleans(),
        "optimizer_name": st.sampled_from(("sgd", "adam", "adamw")),
        "lr": st.floats(1e-6, 10),
        "momentum": st.floats(0, 0.99),
        "weight_decay": st.floats(0, 1) | st.just(0),
        "warmup_steps": st.integers(0, 30).map("{}it".format),
        "label_smoothing": st.floats(0, 0.9),
        "data_order_seed": st.none() | st.integers(0, 9),
        "precision": st.sampled_from(("float32", "tf32", "bf16", "fp16")),
        "training_steps": st.integers(0, 40).map("{}ep".format) | st.integers(0, 900).map("{}it".format),
    },
)


@settings(deadline=None)
@given(flags)
def test_a_training_reads_back_from_its_record(values: dict[str, Any]) -> None:
    desc = train_desc(**values)

    read = TrainDesc.from_record(json.loads(json.dumps(desc.record())), None, {})

    assert (read, read.digest, read.record()) == (desc, desc.digest, desc.record())


def test_fewer_outputs_than_classes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^outputs: 9 outputs are too few for the 10 classes of 'digits'\.$"):
        train_desc(outputs=9)


def test_as_many_outputs_as_classes_are_what_there_is_anyway() -> None:
    assert train_desc(outputs=10) == train_desc()
    assert train_desc(outputs=10).digest == train_desc().digest
    assert (train_desc().outputs, train_desc(outputs=11).outputs) == (10, 11)
    assert train_desc(outputs=11).digest != train_desc().digest


def test_a_training_lies_in_a_directory_of_its_kind_and_digest() -> None:
    desc = train_desc()

    assert str(desc.location(2)) == f"train_{desc.digest}/replicate_2/main"
    assert (desc.main, desc.as_trained, desc.mask_step, desc.sources()) == (desc, desc, None, {})


def test_an_epoch_has_a_last_batch_of_what_is_left() -> None:
    assert train_desc(batch_size=256).iterations_per_epoch == 6  # of 1,437 examples
    assert train_desc(batch_size=479).iterations_per_epoch == 3
    assert train_desc(validation_examples=157).iterations_per_epoch == 5
    assert (train_desc().start.iteration, train_desc().end.iteration) == (0, 18)


def test_a_flag_of_no_group_is_of_another_description() -> None:
    assert TrainDesc.of({"strategy": "snip10"}) == TrainDesc.of({})


def test_a_description_survives_pickling_with_the_classes_that_its_values_select() -> None:
    desc = oneshot_desc("phew", density=0.2, phew_bias="inverse", technique="gmp,soft_activation", gmp_strategy="snip1")

    found = pickle.loads(pickle.dumps(desc))

    assert found == desc
    assert [type(part) for part in found.fields().values()] == [type(part) for part in desc.fields().values()]


def test_synchronized_batchnorm_is_part_of_the_address_where_there_is_batchnorm() -> None:
    def digest(**flags: Any) -> str:
        return train_desc(**flags).digest

    assert digest(sync_batchnorm=True) == digest()
    assert digest(sync_batchnorm=True, model_name="digits_resnet_8") != digest(model_name="digits_resnet_8")


def test_trainings_go_together_where_network_data_and_precision_are_the_same() -> None:
    desc, values = (
        train_desc(),
        {"lr": 0.7, "training_steps": "5it", "optimizer_name": "adam", "technique": "smoothing"},
    )
    others = [train_desc(model_name="digits_lenet_9"), train_desc(batch_size=7), train_desc(precision="bf16")]

    assert train_desc(**values).together_key == desc.together_key
    assert all(other.together_key != desc.together_key for other in others)
    assert TrainDesc.of(recipe("imagenet_resnet_50")).together_key is None
