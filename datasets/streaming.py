"""Batches of a data set that is too large for memory: image files are decoded as they are needed.

Worker processes read, decode, crop and resize; they get each example's number and seed from here and keep nothing, so
that order and augmentation are functions of (key, epoch) alone, whatever the number of workers. Flips and normalization
are batched on the device.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from datasets import augment
from datasets.batches import Batch, LoaderConfig, Loader
from datasets.changes import changed_examples
from datasets.decode import decode
from datasets.hparams import DatasetHparams
from datasets.prepared import load_tensors
from foundations.errors import DamagedError, UsageError

Task = tuple[int, int]
"""The number of an image in its index, and the seed of its crop, or WHOLE."""
WHOLE = -1
"""In place of a seed: the middle of the image, resized, as for testing."""
_SHORT_SIDE = 256 / 224
"""The side to which the shorter one of a test image is resized, relative to the side of its middle that is cut out."""
_PREFETCH = 4
_AT_ONCE = 32
"""Images that a worker holds decoded at their full size at a time."""
_MOST_WORKERS = 16


class Images(Dataset["Tensor | str"]):
    """Decodes and resizes the images of an index, a batch at a time. It lives in the workers."""

    def __init__(self, index: dict[str, Tensor], folder: Path, hparams: DatasetHparams) -> None:
        """Take an index (see `published.Index`). hparams: say to which size, and which crops are drawn."""
        self._files = index["files"].numpy().tobytes().decode().split("\n")
        self._file, self._offset, self._size = (index[key] for key in ("file", "offset", "size"))
        self._folder, self._shape = folder, hparams.input_shape[1:]
        self._scale, self._ratio = hparams.crop_scale, hparams.crop_ratio

    def __getitems__(self, tasks: list[Task]) -> Tensor | str:
        """Return a batch, uint8 (B, 3, H, W), or a message that names a file that is no image.

        An error is not raised here, since a DataLoader would wrap its message in a traceback.
        """
        try:
            return self.batch(tasks)
        except DamagedError as error:
            return str(error)

    def batch(self, tasks: list[Task]) -> Tensor:
        """Return a batch, uint8 (B, 3, H, W). Raises: DamagedError that names a file that is no image."""
        batch = torch.empty(len(tasks), 3, *self._shape, dtype=torch.uint8, memory_format=torch.channels_last)
        for first in range(0, len(tasks), _AT_ONCE):
            some = tasks[first : first + _AT_ONCE]
            images = [self._decoded(number) for number, _ in some]
            parts = (
                [middle(image, self._shape) for image in images]
                if some[0][1] == WHOLE
                else random_parts(images, self._shape, [seed for _, seed in some], self._scale, self._ratio)
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


def middle(image: Tensor, size: tuple[int, int], around: float = _SHORT_SIDE) -> Tensor:
    """Resize the shorter side to `around` times the size and cut out the middle, as torchvision does.

    image: uint8 (3, H, W). size: height and width of the result, uint8 too.
    """
    height, width = image.shape[1:]
    shorter = round(min(size) * around)
    if height <= width:
        resized = _resize(image, (shorter, int(shorter * width / height)))
    else:
        resized = _resize(image, (int(shorter * height / width), shorter))
    top, left = (round((have - want) / 2.0) for have, want in zip(resized.shape[1:], size, strict=True))
    return resized[:, top : top + size[0], left : left + size[1]]


def random_parts(
    images: Sequence[Tensor], size: tuple[int, int], seeds: Sequence[int], scale: float, ratio: float
) -> list[Tensor]:
    """Cut a random box (see `augment.random_boxes`) out of each image and resize it. uint8 (3, H, W)."""
    draws = [
        torch.rand(augment.BOX_DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    ]
    heights, widths = (torch.tensor([image.shape[axis] for image in images]) for axis in (1, 2))
    boxes = augment.random_boxes(torch.stack(draws), heights, widths, scale, ratio).tolist()
    return [
        _resize(image[:, top : top + height, left : left + width], size)
        for image, (top, left, height, width) in zip(images, boxes, strict=True)
    ]


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize with PyTorch's kernel for uint8, which is what torchvision uses, several times faster than in float.

    The kernel is fastest on channels_last, the format in which images are decoded.
    """
    one = image[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(one, size=size, mode="bilinear", align_corners=False, antialias=True)[0]


class _Tasks:
    """The batches of tasks that a DataLoader works off: set anew for each epoch, so that the workers can stay."""

    def __init__(self) -> None:
        self.batches: list[list[Task]] = []

    def __iter__(self) -> Iterator[list[Task]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Crew:
    """Workers that decode batches of images. They start with the first batch and stay."""

    def __init__(self, images: Images, device: torch.device, workers: int) -> None:
        self._device = device
        self._tasks = _Tasks()
        self._loader: DataLoader[Tensor | str] = DataLoader(
            images,
            batch_sampler=self._tasks,
            num_workers=workers,
            collate_fn=_unchanged,
            worker_init_fn=_outlive_interrupts,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            prefetch_factor=_PREFETCH if workers else None,
            generator=torch.Generator(),  # else it would draw from the global one
        )

    def decode(self, batches: list[list[Task]]) -> Iterator[Tensor]:
        """Yield batches uint8 (B, 3, H, W) on the device. Raises: DamagedError that names a file that is no image."""
        self._tasks.batches = batches
        for images in self._loader:
            if isinstance(images, str):
                raise DamagedError(images)
            yield images.to(self._device, non_blocking=True)


class StreamingLoader(Loader):
    """A loader that decodes image files in worker processes. At most one iterator of each kind is in use at a time."""

    def __init__(self, hparams: DatasetHparams, folder: Path, feed: LoaderConfig, workers: int | None = None) -> None:
        """Open a prepared index in the folder of all data sets.

        workers: processes that decode, by default one for each core that this process may use, shared by
        `feed.world_size`. Raises: UsageError for hyperparameters that only work on data sets in memory.
        """
        super().__init__(hparams, feed)
        if self._hparams.unsupervised_labels is not None:
            name = hparams.dataset_name
            raise UsageError(f"not possible with '{name}', which is not in memory.", "unsupervised_labels")
        workers = _fair_share(feed.world_size) if workers is None else workers
        train, test = (load_tensors(hparams.dataset_name, split, folder) for split in ("train", "test"))
        held_out = self._hparams.validation_examples
        self._train_numbers, self._train_labels = changed_examples(
            torch.arange(held_out, len(train["labels"])), train["labels"][held_out:], self._hparams
        )
        self._validation_labels, self._test_labels = train["labels"][:held_out], test["labels"]
        self._train_images, test_images = (Images(index, folder, hparams) for index in (train, test))
        self._train_crew, self._validation_crew, self._test_crew = (
            _Crew(images, self._device, workers) for images in (self._train_images, self._train_images, test_images)
        )

    @property
    def num_train(self) -> int:
        """Training examples in an epoch, after subsampling."""
        return len(self._train_labels)

    @property
    def num_test(self) -> int:
        """Test examples."""
        return len(self._test_labels)

    def train_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch `first` on: the same as if those before had been skipped."""
        order, stream = self._order(epoch), self._augmentation_stream(epoch)
        seeds = torch.randint(0, 2**62, (self.num_train,), generator=stream)
        flips = torch.randint(0, 2, (self.num_train,), generator=stream).bool()
        augmented = self._hparams.augmentation != "none"
        seeds = seeds if augmented else torch.full_like(seeds, WHOLE)
        parts = list(self._parts(self.num_train, first))
        numbers = self._train_numbers[order]
        tasks = [list(zip(numbers[part].tolist(), seeds[part].tolist(), strict=True)) for part in parts]
        for part, images in zip(parts, self._train_crew.decode(tasks), strict=True):
            flipped = augment.flip(images, flips[part].to(self._device)) if augmented else images
            labels = self._train_labels[order[part]].to(self._device, non_blocking=True)
            yield self._finished(flipped, blurred=True), labels

    def test_batches(self) -> Iterator[Batch]:
        """Yield the test set in its order, in batches of the training batch size."""
        return self._in_order(self._test_crew, self._test_labels)

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the held out training examples in their order, as `test_batches` does."""
        return self._in_order(self._validation_crew, self._validation_labels)

    def examples(self, per_class: int, seed: int) -> Batch:
        """Return exactly `per_class` training examples of each class; every process gets all of them."""
        chosen = self._scoring_examples(self._train_labels, per_class, seed)
        tasks = [(number, WHOLE) for number in self._train_numbers[chosen].tolist()]
        images = self._train_images.batch(tasks).to(self._device)
        return self._finished(images, blurred=True), self._train_labels[chosen].to(self._device)

    def _in_order(self, crew: _Crew, labels: Tensor) -> Iterator[Batch]:
        parts = list(self._parts(len(labels)))
        tasks = [[(number, WHOLE) for number in range(part.start, part.stop)] for part in parts]
        for part, images in zip(parts, crew.decode(tasks), strict=True):
            yield self._finished(images, blurred=False), labels[part].to(self._device, non_blocking=True)


def _outlive_interrupts(_worker: int) -> None:
    """Let a worker serve on when a terminal or a scheduler signals all processes of the job, not the main one alone.

    The main process then still gets the batches that it needs to reach its checkpoint. It ends its workers by a SIGTERM
    of its own, which is told from others by its sender.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()


def _obey_parent(parent: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)


def _unchanged(batch: Any) -> Any:
    return batch


def _fair_share(world_size: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, cores // world_size))
