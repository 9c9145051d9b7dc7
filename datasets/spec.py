"""The specification of a dataset, known before its images are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets.augmentations.augmentation import Augmentation
from datasets.augmentations.none import NONE
from foundations.errors import UsageError
from foundations.registry import Registered

if TYPE_CHECKING:
    from datasets.formats.source_files import Index, SourceFiles, Split
    from datasets.hparams import DatasetHparams


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
    """The augmentation of training images."""
    read: Callable[[SourceFiles], Mapping[str, Split | Index]]
    """Reads the published files: {"train": ..., "test": ...}."""
    origin: str
    """The source of the data, for users."""
    prepared_as: str = ""
    """The folder of the prepared files, if it is not named like the dataset."""
    in_memory: bool = True
    """Whether prepared files hold the images; otherwise they hold an index of image files."""
    hparams: type[DatasetHparams] | None = None
    """A subclass of `DatasetHparams` with its own hyperparameters, if it has any."""
    is_added: bool = False
    """Whether a user added it with `datasets add`."""

    def check_declared(self) -> None:
        """Check that the sizes and constants are valid and consistent."""
        for name in ("num_train", "num_test", "num_classes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        channels, height, width = self.input_shape
        if min(channels, height, width) < 1:
            raise UsageError(f"input_shape is {self.input_shape}; it must be (channels, height, width), of 1 or more.")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != channels:
                raise UsageError(f"{name} has {len(getattr(self, name))} numbers, for images of {channels} channels.")
        if min(self.std) <= 0:
            raise UsageError(f"std is {self.std}; it must be above 0.")
        if self.augmentation.channels not in (None, channels):
            needed = self.augmentation.channels
            raise UsageError(f"{self.augmentation.spelling} needs images of {needed} channels, not of {channels}.")
        if not self.in_memory and not self.augmentation.can_stream:
            raise UsageError(f"{self.augmentation.spelling} works only on datasets in memory.")

    @property
    def folder(self) -> str:
        """The name of the folder of the prepared files; different for each version of a plug-in's file."""
        name = self.prepared_as or self.spelling
        return name if self.plugin is None else f"{name}_{self.plugin.sha256[:8]}"
