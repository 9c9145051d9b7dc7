"""Batches of vectors and series: float32 tensors, standardized as they are read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from datasets.hparams import DatasetHparams
from datasets.loading.batches import LoaderConfig, Part
from datasets.loading.changes import changed_examples, prepared_targets
from datasets.loading.examples import ExampleLoader
from datasets.prepared import load_tensors


class NumberedLoader(ExampleLoader):
    """A loader that reads inputs by their numbers in the prepared splits, and changes none of them."""

    def __init__(self, hparams: DatasetHparams, folder: Path, config: LoaderConfig) -> None:
        """Load a prepared dataset from the folder of all datasets."""
        super().__init__(hparams, config)
        splits = {split: load_tensors(hparams.spec.spelling, split, folder) for split in ("train", "test")}
        train, test = (prepared_targets(tensors, hparams.spec) for tensors in splits.values())
        held_out = self._hparams.validation_examples
        numbers, targets = changed_examples(torch.arange(held_out, len(train)), train[held_out:], self._hparams)
        self._numbers: dict[Part, Tensor] = {
            "train": numbers.to(self._device),
            "validation": torch.arange(held_out, device=self._device),
            "test": torch.arange(len(test), device=self._device),
        }
        labels: dict[Part, Tensor] = {"train": targets, "validation": train[:held_out], "test": test}
        self._labels = {part: own.to(self._device) for part, own in labels.items()}
        self._splits = {
            split: {name: tensor.to(self._device) for name, tensor in tensors.items()}
            for split, tensors in splits.items()
        }

    @abstractmethod
    def _read(self, tensors: dict[str, Tensor], numbers: Tensor) -> Tensor:
        """Return inputs of a prepared split by their numbers, int64 (B,)."""

    def _augmented(self, order: Tensor, slices: list[slice], stream: torch.Generator) -> Iterator[Tensor]:
        order = order.to(self._device)
        return (self._train_inputs(order[part]) for part in slices)

    def _train_inputs(self, numbers: Tensor) -> Tensor:
        return self._read(self._splits["train"], self._numbers["train"][numbers.to(self._device)])

    def _unaugmented(self, which: Part, batches: list[slice]) -> Iterator[Tensor]:
        tensors = self._splits["test" if which == "test" else "train"]
        return (self._read(tensors, self._numbers[which][part]) for part in batches)


class ArrayLoader(NumberedLoader):
    """A loader of vectors (B, F) and series (B, C, T)."""

    def __init__(self, hparams: DatasetHparams, folder: Path, config: LoaderConfig) -> None:
        """Load a prepared dataset, and prepare the constants of standardization."""
        super().__init__(hparams, folder, config)
        shape = (-1, *(1,) * (len(hparams.input_shape) - 1))
        mean, std = (torch.tensor(numbers, device=self._device).view(shape) for numbers in self._hparams.constants)
        self._mean, self._std = mean, std

    def _read(self, tensors: dict[str, Tensor], numbers: Tensor) -> Tensor:
        return tensors["inputs"].index_select(0, numbers)

    def _finished(self, inputs: Tensor, *, is_train: bool) -> Tensor:
        return (inputs - self._mean) / self._std
