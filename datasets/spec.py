"""What is known of a dataset before its images are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets.augmentations.augmentation import Augmentation
from datasets.augmentations.none import NONE
from foundations.registry import Registered

if TYPE_CHECKING:
    from datasets.hparams import DatasetHparams
    from datasets.source_files import Index, SourceFiles, Split


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetSpec(Registered):
    """A dataset: its sizes and constants, its augmentation, and the function that reads its published files."""

    num_train: int
    num_test: int
    num_classes: int
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    mean: tuple[float, ...]
    """The mean that is subtracted from each channel, for pixels in [0, 1]."""
    std: tuple[float, ...]
    """The deviation by which each channel is then divided."""
    augmentation: Augmentation = NONE
    """How training images vary."""
    read: Callable[[SourceFiles], Mapping[str, Split | Index]]
    """Reads the published files: {"train": ..., "test": ...}."""
    origin: str
    """Where the data come from, for people."""
    prepared_as: str = ""
    """The folder of the prepared files, where it is not named like the dataset."""
    in_memory: bool = True
    """Whether prepared files hold the images; otherwise they hold an index of image files."""
    hparams: type[DatasetHparams] | None = None
    """The class of its hyperparameters, where it adds some of its own to those of `DatasetHparams`."""
    is_added: bool = False
    """Whether a user added it with `datasets add`."""

    @property
    def folder(self) -> str:
        """The name of the folder of the prepared files; another one for each version of a plug-in's file."""
        name = self.prepared_as or self.spelling
        return name if self.plugin is None else f"{name}_{self.plugin.sha256[:8]}"
