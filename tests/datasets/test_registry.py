"""A dataset declared as an object, with an augmentation and hyperparameters of its own."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.augmentations.augmentation import Augmentation, MemoryBatches
from datasets.formats.source_files import SourceFiles, Split
from datasets.hparams import DatasetHparams
from datasets.loading.loader import open_loader
from datasets.prepared import ensure_prepared
from datasets.registry import DATASETS
from datasets.spec import DatasetSpec
from foundations.description.hparams import hparam
from foundations.errors import UsageError
from tests.conftest import REPOSITORY
from tests.datasets.loading import joined

IMAGES = np.random.RandomState(0).randint(256, size=(24, 1, 4, 4)).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class NoiseHparams(DatasetHparams):
    """The hyperparameters of `noise`."""

    roll: int = hparam(1, at_least=0)
    """By how many pixels images are rolled."""


class Roll(Augmentation):
    """Images are rolled upwards."""

    def draw(self, count: int, stored: Tensor, hparams: DatasetHparams, stream: torch.Generator) -> MemoryBatches:
        assert isinstance(hparams, NoiseHparams)
        return lambda numbers, _: stored[numbers].roll(-hparams.roll, 2)


def read(_: SourceFiles) -> dict[str, Split]:
    labels = np.arange(24, dtype=np.int64) % 2
    names = ("even", "odd")
    return {"train": Split(IMAGES[:16], labels[:16], names, ""), "test": Split(IMAGES[16:], labels[16:], names, "")}


NOISE = DatasetSpec(
    spelling="noise",
    num_train=16,
    num_test=8,
    num_classes=2,
    input_shape=(1, 4, 4),
    mean=(0.0,),
    std=(1.0,),
    augmentation=Roll(spelling="roll"),
    read=read,
    origin="made up",
    hparams=NoiseHparams,
    is_added=True,
)


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Register the dataset and prepare it; return the folder of all datasets."""
    DATASETS.replace_added([NOISE])
    ensure_prepared("noise", tmp_path, allow_download=False, report=print)
    return tmp_path


def test_a_dataset_can_have_an_augmentation_of_its_own(noise: Path) -> None:
    hparams = DatasetHparams.of({"dataset_name": "noise", "roll": 3})

    x, _ = joined(open_loader(hparams, noise).train_batches(0))
    plain, _ = joined(open_loader(hparams.replaced({"do_not_augment": True}), noise).train_batches(0))

    assert torch.equal(x, plain.roll(-3, 2))
    assert not torch.equal(x, plain)


@pytest.mark.usefixtures("noise")
def test_a_dataset_can_have_hyperparameters_of_its_own() -> None:
    hparams = DatasetHparams.of({"dataset_name": "noise", "roll": 3, "lr": 0.1})

    assert hparams.normalized(1).canonical()["roll"] == 3
    assert type(hparams.replaced({"dataset_name": "mnist"})) is DatasetHparams
    with pytest.raises(UsageError, match="^roll: -1"):
        DatasetHparams.of({"dataset_name": "noise", "roll": -1})


def test_an_unknown_dataset_is_refused_when_its_hyperparameters_are_built() -> None:
    with pytest.raises(UsageError, match="^dataset_name: 'noise' is not a valid value"):
        DatasetHparams.of({"dataset_name": "noise"})


def test_finding_a_dataset_imports_nothing_heavy() -> None:
    code = (
        "import sys, datasets.added.added; from datasets.hparams import DatasetHparams\n"
        "assert DatasetHparams(dataset_name='imagenet').normalized(1).iterations_per_epoch\n"
        "sys.exit(str({'torch', 'numpy', 'torchvision', 'urllib.request', 'tarfile'} & set(sys.modules) or ''))"
    )

    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False, capture_output=True, text=True)

    assert result.stderr.strip() == ""
