"""Batches too small for batch normalization: refused before anything is computed, and only where they fail."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.added.added import register_added
from datasets.registry import DATASETS
from foundations.description.desc import Desc
from foundations.description.step import Step
from foundations.errors import UsageError
from platforms.multi_gpu import MultiGpuHparams, MultiGpuPlatform
from tests.datasets.loading import add
from tests.training.small_runs import context, oneshot_desc, train_desc
from training.context import Context
from training.jobs.compute import complete, ensure_states

NETWORK: dict[str, Any] = {"model_name": "digits_resnet_8_2", "dataset_name": "mine", "training_steps": "1ep"}


def place(tmp_path: Path, side: int, examples: int = 20, **changes: Any) -> Context:
    """Add images of a size to a folder. digits_resnet ends with maps of 1/4 of their side."""
    images = np.random.default_rng(0).integers(0, 256, (examples, side, side), dtype=np.uint8)
    labels = np.arange(examples) % 2
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    add(tmp_path, tmp_path / "a.npz")
    return context(tmp_path / "root", tmp_path / "datasets", **changes)


@pytest.fixture(autouse=True)
def no_added_datasets_stay_registered(tmp_path: Path) -> Any:
    yield
    register_added(tmp_path / "nothing here")


def refusal(where: Context, desc: Desc) -> str:
    """Return the error of computing a run, which must leave nothing behind."""
    with pytest.raises(UsageError, match=r"^batch_size: ") as error:
        complete(desc, where)
    assert not list(where.root.glob("*/*/*/*"))
    assert len(str(error.value).splitlines()) <= 2
    return str(error.value)


def test_a_last_batch_of_one_is_refused_with_sizes_that_work(tmp_path: Path) -> None:
    where = place(tmp_path, 4)

    error = refusal(where, train_desc(**NETWORK, batch_size=19))

    assert "19 leaves a last batch of 1 of the 20 training examples of 'mine'" in error
    suggested = re.findall(r"\d+", error.partition("such as ")[2])
    assert suggested == ["18", "20"]
    for size in suggested:
        complete(train_desc(**NETWORK, batch_size=int(size)), where)


def test_batches_of_one_are_refused(tmp_path: Path) -> None:
    error = refusal(place(tmp_path, 4), train_desc(**NETWORK, batch_size=1))

    assert "batches have 1 example;" in error and "such as 2." in error


def test_a_single_training_example_is_too_few(tmp_path: Path) -> None:
    error = refusal(place(tmp_path, 4), train_desc(**NETWORK, batch_size=8, validation_examples=19))

    assert "There are too few examples" in error


@pytest.mark.parametrize("size", [1, 19])
def test_where_feature_maps_are_larger_a_batch_of_one_is_trained_on(tmp_path: Path, size: int) -> None:
    where = place(tmp_path, 8)

    complete(train_desc(**NETWORK, batch_size=size), where)


def test_a_network_without_batchnorm_trains_on_single_examples(tmp_path: Path) -> None:
    where = place(tmp_path, 4)

    complete(train_desc(**{**NETWORK, "model_name": "digits_lenet_16"}, batch_size=1), where)


def test_a_run_that_ends_before_the_batch_of_one_is_computed(tmp_path: Path) -> None:
    where = place(tmp_path, 4)

    complete(train_desc(**{**NETWORK, "training_steps": "1it"}, batch_size=19), where)
    refusal(replace(where, root=tmp_path / "other"), train_desc(**{**NETWORK, "training_steps": "2it"}, batch_size=19))


def test_a_state_before_the_batch_of_one_is_computed(tmp_path: Path) -> None:
    where = place(tmp_path, 4)
    desc = train_desc(**NETWORK, batch_size=19)

    run = ensure_states(desc, where, [Step.parse("1it", desc.iterations_per_epoch)])

    assert len(list(run.folder.glob("state_*"))) == 1


@pytest.mark.parametrize(
    "changes", [{"validation_examples": 1, "batch_size": 18}, {"subsample_fraction": 0.55, "batch_size": 10}]
)
def test_examples_that_are_not_trained_on_do_not_count(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "leaves a last batch of 1" in refusal(place(tmp_path, 4), train_desc(**NETWORK, **changes))


def test_a_branch_is_refused_before_its_parent_is_computed(tmp_path: Path) -> None:
    where = place(tmp_path, 4)
    parent = {**NETWORK, "batch_size": 10}
    branch = oneshot_desc("random", parent=parent, density=0.5)
    own = replace(branch, retrain_dataset=branch.main.dataset.replaced({"batch_size": 19}))

    refusal(where, own)
    complete(branch, where)


@pytest.mark.parametrize(
    "technique",
    [
        {"technique": "gmp", "gmp_density": 0.5, "gmp_end": "1it", "gmp_frequency": "1it"},
        {"technique": "ghost_skips"},
        {"technique": "gradinit", "gradinit_iters": 1},
    ],
)
def test_techniques_make_no_difference(tmp_path: Path, technique: dict[str, Any]) -> None:
    refusal(place(tmp_path, 4), train_desc(**NETWORK, **technique, batch_size=19))


def test_runs_that_are_trained_together_are_refused(tmp_path: Path) -> None:
    refusal(place(tmp_path, 4, together=2), train_desc(**NETWORK, batch_size=19))


def test_the_part_of_each_process_counts(tmp_path: Path) -> None:
    where = place(tmp_path, 4)
    two = MultiGpuPlatform(MultiGpuHparams(device="cpu", num_processes=2))

    error = refusal(replace(where, platform=two), train_desc(**NETWORK, batch_size=17))

    assert "leaves a last batch of 3" in error and "which 2 processes share" in error
    complete(train_desc(**NETWORK, batch_size=17), where)


def test_a_complete_run_is_reused_whatever_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = place(tmp_path, 4)
    desc = train_desc(**NETWORK, batch_size=18)
    complete(desc, where)
    monkeypatch.setattr("training.jobs.small_batches.check_small_batches", None)

    assert complete(desc, where).reused
    assert "mine" in DATASETS
