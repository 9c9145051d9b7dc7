"""Batches of data, against the usual DataLoader with PIL transforms.

Random images of the right sizes stand in for CIFAR-10 and MNIST; the time does not depend on the pixels.
The JPEG files are generated with the size and detail of ImageNet's. The plain side has two worker
processes, and so has ours for the JPEG files; the main process has one thread, as when it feeds a GPU.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.made_runs import make_noise, prepare
from benchmarks.timing import Row, median_ratio
from datasets.added.added import add_dataset
from datasets.added.options import AddOptions
from datasets.augmentations.pad4_crop_flip import PAD4_CROP_FLIP
from datasets.hparams import DatasetHparams
from datasets.loading.batches import Loader, LoaderConfig
from datasets.loading.loader import open_loader
from datasets.prepared import load_split, load_tensors
from datasets.registry import DATASETS

BATCH = 128
STREAMED_BATCH = 32
WORKERS = 2
REPEATS = 3
SEQUENCE = 128


class PlainImages(Dataset[Any]):
    """Arrays as PIL images under a transform, one at a time."""

    def __init__(self, images: np.ndarray[Any, Any], labels: list[int], transform: Callable[[Any], Any]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class PlainTokens:
    """Sequences of a joined text in a random order, sliced one by one, as training scripts of decoders read them."""

    def __init__(self, tokens: Tensor, length: int, batch_size: int) -> None:
        self.tokens, self.length, self.batch_size = tokens, length, batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        starts = torch.randperm((len(self.tokens) - 1) // self.length) * self.length
        for part in torch.split(starts, self.batch_size):
            inputs, targets = (
                torch.stack(
                    [self.tokens[start + after : start + after + self.length].long() for start in part.tolist()]
                )
                for after in (0, 1)
            )
            yield inputs, targets


class GatheredTokens(PlainTokens):
    """The same sequences, a batch gathered at once: documents stay joined in one order, which ours draws each epoch."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        starts = torch.randperm((len(self.tokens) - 1) // self.length) * self.length
        steps = torch.arange(self.length + 1)
        for part in torch.split(starts, self.batch_size):
            sequences = self.tokens[part[:, None] + steps].long()
            yield sequences[:, :-1], sequences[:, 1:]


def rate(batches: Iterable[Any], most_batches: int, skip: int = 3) -> float:
    """Return images per second, without the first batches, while workers start."""
    count, start = 0, 0.0
    for number, (x, _) in enumerate(batches):
        if number == skip:
            start = time.perf_counter()
        elif number > skip:
            count += len(x)
        if number == most_batches + skip:
            break
    return count / (time.perf_counter() - start)


def compare(
    what: str, aim: str, ours: Loader, plain: Iterable[Any], plain_batches: int, repeats: int, unit: str = "images"
) -> Row:
    """Measure both in turn, and return the median of the ratios."""
    rates = [(rate(ours.train_batches(0), 10_000), rate(plain, plain_batches)) for _ in range(repeats)]
    ours_rates, plain_rates = zip(*rates, strict=True)
    detail = f"{statistics.median(ours_rates):,.0f} {unit}/s, plain {statistics.median(plain_rates):,.0f}"
    return Row(what, median_ratio(ours_rates, plain_rates), aim, detail)


def memory(name: str, folder: Path, repeats: int) -> list[Row]:
    """Compare training batches of a dataset in memory, and time the first one."""
    spec = DATASETS.find(name)
    hparams = DatasetHparams(dataset_name=name, batch_size=BATCH)
    start = time.perf_counter()
    loader = open_loader(hparams, folder, LoaderConfig(memory_format=torch.channels_last))
    next(loader.train_batches(0))
    first_batch = time.perf_counter() - start
    steps: list[Any] = [transforms.ToTensor(), transforms.Normalize(spec.mean, spec.std)]
    if spec.augmentation is PAD4_CROP_FLIP:
        side = spec.input_shape[1]
        steps = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(side, padding=4), *steps]
    images, labels = load_split(name, "train", folder)
    pixels = images.permute(0, 2, 3, 1).squeeze(3).numpy()
    plain = PlainImages(pixels, labels.tolist(), transforms.Compose(steps))
    plain_loader = DataLoader(plain, BATCH, shuffle=True, num_workers=WORKERS)
    return [
        Row(f"first batch of {name} ready", first_batch, "below 0.5", "prepared files in the page cache", "s"),
        compare(f"{name} batches / PIL DataLoader", "at least 20", loader, plain_loader, 60, repeats),
    ]


def text(folder: Path, repeats: int) -> Iterator[Row]:
    """Compare training sequences of the shipped text."""
    prepare("kjv", folder)
    hparams = DatasetHparams.of({"dataset_name": "kjv", "batch_size": 64, "sequence_length": SEQUENCE})
    tokens = load_tensors("kjv", "train", folder)["tokens"]
    for kind, way in ((PlainTokens, "slices one by one"), (GatheredTokens, "a gather from one tensor")):
        what = f"sequences of {SEQUENCE} bytes of kjv / {way}"
        ours, plain = open_loader(hparams, folder), kind(tokens, SEQUENCE, 64)
        yield compare(what, "at least 0.95", ours, plain, 10_000, repeats, "sequences")


def write_jpegs(folder: Path, classes: int = 4, per_class: int = 96) -> None:
    """Write JPEG files of 500 x 375, as noisy as photographs, of about 110 kB each, as ImageNet's are."""
    random = np.random.RandomState(0)
    for label in range(classes):
        for number in range(per_class):
            coarse = Image.fromarray(random.randint(256, size=(24, 32, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
            noisy = np.clip(smooth + random.randint(-24, 24, size=smooth.shape), 0, 255).astype(np.uint8)
            stream = io.BytesIO()
            Image.fromarray(noisy).save(stream, "JPEG", quality=90)
            for split in ("train", "test")[: 1 + (number < 2)]:
                path = folder / split / f"class{label}" / f"{number}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(stream.getvalue())


def streamed(folder: Path, repeats: int) -> Row:
    """Compare training batches of ImageNet-sized JPEG files."""
    write_jpegs(folder / "jpegs")
    options = AddOptions(augmentation="resized_crop_flip", image_size=224, stream=True)
    add_dataset("bench", folder / "jpegs", folder, options, report=lambda _: None)
    spec = DATASETS.find("bench")
    hparams = DatasetHparams(dataset_name="bench", batch_size=STREAMED_BATCH)
    loader = open_loader(hparams, folder, LoaderConfig(memory_format=torch.channels_last), workers=WORKERS)
    ratio = (1 / hparams.crop_ratio, hparams.crop_ratio)
    steps = [
        transforms.RandomResizedCrop(224, scale=(hparams.crop_scale, 1), ratio=ratio),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(spec.mean, spec.std),
    ]
    plain = ImageFolder(str(folder / "jpegs" / "train"), transforms.Compose(steps))
    plain_loader = DataLoader(plain, STREAMED_BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    what = "JPEG files of 500 x 375 / PIL DataLoader"
    return compare(what, "at least 1.5", loader, plain_loader, 10_000, repeats)


def rows(repeats: int = REPEATS) -> Iterator[Row]:
    """Measure two datasets of images in memory, a text, and one that is streamed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for name in ("cifar10", "mnist"):
                make_noise(name, Path(scratch))
                yield from memory(name, Path(scratch), repeats)
            yield from text(Path(scratch), repeats)
            yield streamed(Path(scratch), repeats)
    finally:
        torch.set_num_threads(threads)
