"""Batches of a dataset that is too large for memory: image files are decoded when they are needed.

Worker processes read, decode, crop and resize; they get each example's number and seed from the main process and keep
no state, so that order and augmentation are functions of (key, epoch) alone, for any number of workers. Flips and
normalization are batched on the device.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets.augmentations.augmentation import WHOLE
from datasets.augmentations.transforms import resized_middle
from datasets.decode import decode
from datasets.hparams import DatasetHparams
from datasets.loading.batches import LoaderConfig, Part
from datasets.loading.changes import changed_examples
from datasets.loading.examples import ImageLoader
from datasets.prepared import load_tensors
from foundations.errors import DamagedError, UsageError

Task = tuple[int, int]
"""The number of an image in its index, and the seed of its cut, or WHOLE."""
_SHORT_SIDE = 256 / 224
"""The shorter side of a resized test image, relative to the side of its center crop."""
_PREFETCH = 4
_AT_ONCE = 32
"""Images that a worker holds decoded at their full size at a time."""
_MAX_WORKERS = 16


class _IndexedImages(Dataset["Tensor | str"]):
    """The images of an index, decoded and resized a batch at a time, in the workers."""

    def __init__(self, index: dict[str, Tensor], folder: Path, hparams: DatasetHparams) -> None:
        """Take the tensors of an index (see `source_files.Index`)."""
        self._files = index["files"].numpy().tobytes().decode(errors="surrogateescape").split("\n")
        self._file, self._offset, self._size = (index[key] for key in ("file", "offset", "size"))
        self._folder = folder
        height, width = hparams.input_shape[1:]
        self._image_size = height, width
        self._hparams = hparams
        self._augmentation = hparams.augmentation  # a worker may not know an added dataset by its name

    def __getitems__(self, tasks: list[Task]) -> Tensor | str:
        """Return a batch, uint8 (B, 3, H, W), or a message that names a file that is not an image.

        Raises no error, since a DataLoader would wrap its message in a traceback.
        """
        try:
            return self.batch(tasks)
        except DamagedError as error:
            return str(error)

    def batch(self, tasks: list[Task]) -> Tensor:
        """Return a batch, uint8 (B, 3, H, W). Raises: DamagedError that names a file that is not an image."""
        batch = torch.empty(len(tasks), 3, *self._image_size, dtype=torch.uint8, memory_format=torch.channels_last)
        for first in range(0, len(tasks), _AT_ONCE):
            some = tasks[first : first + _AT_ONCE]
            images = [self._decoded(number) for number, _ in some]
            parts = (
                [resized_middle(image, self._image_size, _SHORT_SIDE) for image in images]
                if some[0][1] == WHOLE
                else self._augmentation.cut(images, self._image_size, [seed for _, seed in some], self._hparams)
            )
            for place, part in enumerate(parts, start=first):
                batch[place] = part
        return batch

    def _decoded(self, number: int) -> Tensor:
        path = self._folder / self._files[int(self._file[number])]
        try:
            with path.open("rb") as file:
                file.seek(int(self._offset[number]))
                return decode(file.read(int(self._size[number])))
        except (OSError, ValueError) as error:
            raise DamagedError(f"{path}: {error}.\nPut a whole image there.") from error


class _DecodingWorkers:
    """Processes that decode batches of images. They start with the first batch and stay."""

    def __init__(self, images: _IndexedImages, device: torch.device, workers: int) -> None:
        self._device = device
        self._batches: list[list[Task]] = []  # replaced for each epoch, so that the workers can stay
        self._loader: DataLoader[Tensor | str] = DataLoader(
            images,
            batch_sampler=self._batches,
            num_workers=workers,
            collate_fn=_unchanged,
            worker_init_fn=_ignore_signals,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            prefetch_factor=_PREFETCH if workers else None,
            generator=torch.Generator(),  # otherwise it would use the global one
        )

    def decode(self, batches: list[list[Task]]) -> Iterator[Tensor]:
        """Yield batches uint8 (B, 3, H, W) on the device. Raises: DamagedError that names a file without an image."""
        self._batches[:] = batches
        for images in self._loader:
            if isinstance(images, str):
                raise DamagedError(images)
            yield images.to(self._device, non_blocking=True)


class StreamingLoader(ImageLoader):
    """A loader that decodes image files in worker processes. At most one iterator of each kind is in use at a time."""

    def __init__(self, hparams: DatasetHparams, folder: Path, config: LoaderConfig, workers: int | None = None) -> None:
        """Open a prepared index in the folder of all datasets.

        workers: processes that decode, by default one for each core that this process may use, divided among
        `config.world_size`. Raises: UsageError for hyperparameters that only work on datasets in memory.
        """
        super().__init__(hparams, config)
        if self._hparams.unsupervised_labels is not None:
            name = hparams.dataset_name
            raise UsageError(f"it does not work with '{name}', which is not in memory.", "unsupervised_labels")
        if not self._hparams.augmentation.can_stream:
            spelling = self._hparams.augmentation.spelling
            raise UsageError(f"its augmentation, '{spelling}', works only on datasets in memory.", "dataset_name")
        workers = _fair_share(config.world_size) if workers is None else workers
        train, test = (load_tensors(hparams.spec.spelling, split, folder) for split in ("train", "test"))
        held_out = self._hparams.validation_examples
        self._train_numbers, train_labels = changed_examples(
            torch.arange(held_out, len(train["labels"])), train["labels"][held_out:], self._hparams
        )
        labels: dict[Part, Tensor] = {
            "train": train_labels,
            "validation": train["labels"][:held_out],
            "test": test["labels"],
        }
        self._labels = {part: own.to(self._device) for part, own in labels.items()}
        self._train, test_images = (_IndexedImages(index, folder, self._hparams) for index in (train, test))
        images: dict[Part, _IndexedImages] = {"train": self._train, "validation": self._train, "test": test_images}
        self._workers = {part: _DecodingWorkers(own, self._device, workers) for part, own in images.items()}

    def _augmented(self, order: Tensor, slices: list[slice], stream: torch.Generator) -> Iterator[Tensor]:
        seeds, finish = self._hparams.augmentation.draw_streamed_by(self.num_train, self._device, self._hparams, stream)
        numbers = self._train_numbers[order]
        tasks = [list(zip(numbers[part].tolist(), seeds[part].tolist(), strict=True)) for part in slices]
        decoded = self._workers["train"].decode(tasks)
        return (finish(images, part) for images, part in zip(decoded, slices, strict=True))

    def _train_inputs(self, numbers: Tensor) -> Tensor:
        return self._train.batch([(number, WHOLE) for number in self._train_numbers[numbers].tolist()]).to(self._device)

    def _unaugmented(self, which: Part, batches: list[slice]) -> Iterator[Tensor]:
        if which == "train":
            return (self._train_inputs(torch.arange(part.start, part.stop)) for part in batches)
        return self._workers[which].decode(
            [[(number, WHOLE) for number in range(part.start, part.stop)] for part in batches]
        )


def _ignore_signals(_worker: int) -> None:
    """Keep a worker running when a terminal or a scheduler signals all processes of the job, not only the main one.

    So the main process still gets the batches that it needs to reach its checkpoint. It ends its workers by a SIGTERM,
    which workers recognize by its sender.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_exit_on_sigterm_from, args=(os.getppid(),), daemon=True).start()


def _exit_on_sigterm_from(parent: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)


def _unchanged(batch: Any) -> Any:
    return batch


def _fair_share(world_size: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MAX_WORKERS, cores // world_size))
