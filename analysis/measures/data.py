"""Examples for measures: normalized as in training, not augmented, in the set's own order.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from foundations.description.hparams import Hparams, hparam

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.measures.inputs import MeasuredRun, Measuring
    from datasets.loading.batches import Batch, Loader


@dataclass(frozen=True, kw_only=True)
class DataOptions(Hparams):
    """Examples to use."""

    split: str = hparam("test", choices=("train", "test"))
    """The set of the examples: train (the run's training set) or test."""
    examples: int | None = hparam(None, at_least=1)
    """The number of examples, from the beginning of the set; by default all."""


class Examples:
    """Examples of a run's dataset. Each loop is a pass over them, in the same order.

    Batches are images float32 (B, C, H, W), normalized, and labels int64 (B,), on the measurement's device, with the
    run's batch size.
    """

    def __init__(self, measuring: Measuring, run: MeasuredRun, options: DataOptions) -> None:
        """Open the dataset. Raises: as `Measuring.use_dataset`."""
        from datasets.loading.batches import LoaderConfig
        from datasets.loading.loader import open_loader

        dataset = run.trained.dataset
        measuring.use_dataset(run, dataset.spec.spelling)
        self.measuring, self.run, self.split = measuring, run, options.split
        plain = replace(dataset, do_not_augment=True)
        context = measuring.context
        config = LoaderConfig(device=measuring.device)
        self.loader: Loader = open_loader(plain, context.datasets, config, workers=context.num_workers)
        there = self.loader.num_test if self.split == "test" else self.loader.num_train
        self.number = min(there, options.examples or there)

    def __len__(self) -> int:
        """Return the number of examples."""
        return self.number

    def __iter__(self) -> Iterator[Batch]:
        left = self.number
        batches = self.loader.test_batches() if self.split == "test" else self.loader.plain_train_batches()
        for images, labels in batches:
            yield images[:left], labels[:left]
            left -= len(labels)
            if left <= 0:
                return

    def logits(self, model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the outputs of a model on its device, float32 (B, outputs), and the labels, batch by batch.

        Runs in the model's mode, which should be eval, and in the run's precision, without gradients.
        """
        import torch

        for images, labels in self:
            with torch.no_grad(), self._autocast():
                outputs = model(images)
            yield outputs.float(), labels

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the mean loss and the accuracy of a model on its device, and top5accuracy for 5 classes or more.

        Runs in eval mode and in the run's precision, as in training, and restores the model's mode.
        """
        from training.loop.evaluation import evaluate

        found = evaluate(model, self, self.run.trained.outputs, self._autocast, "")
        return {name.removeprefix("_"): value for name, value in found.items()}

    def _autocast(self) -> AbstractContextManager[None]:
        from training.loop.precision import autocast

        context = autocast(self.run.trained.training.precision, self.measuring.device)
        return nullcontext() if context is None else context()
