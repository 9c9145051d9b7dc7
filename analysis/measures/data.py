"""Examples for measures: normalized as in training, not augmented, in the set's own order.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from foundations.description.hparams import Hparams, hparam
from foundations.errors import UsageError

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

    Batches are inputs and targets as `datasets.loading.batches.Batch` has them, on the measurement's device, with the
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
        for inputs, targets in batches:
            yield inputs[:left], targets[:left]
            left -= len(targets)
            if left <= 0:
                return

    def logits(self, model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the outputs of a model on its device, float32 (B, ...), and the targets, batch by batch.

        Runs in the model's mode, which should be eval, and in the run's precision, without gradients.
        """
        import torch

        for inputs, targets in self:
            with torch.no_grad(), self._autocast():
                outputs = model(inputs)
            yield outputs.float(), targets

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the mean loss of a model on its device, and the metrics of the task, such as accuracy.

        Runs in eval mode and in the run's precision, as in training, and restores the model's mode.
        """
        from training.loop.evaluation import evaluate

        trained = self.run.trained
        facts = trained.dataset.facts(trained.outputs, self.loader.token_bytes)
        task = trained.dataset.task
        found = evaluate(model, self, trained.outputs, self._autocast, "", task=task, facts=facts)
        return {name.removeprefix("_"): value for name, value in found.items()}

    def needs_classes(self, measure: str) -> None:
        """Raise UsageError about a measure of predicted classes, where the run's task has none."""
        dataset = self.run.trained.dataset
        if not dataset.task.has_classes:
            raise UsageError(
                f"{measure} needs classes; the task of '{dataset.dataset_name}' is {dataset.task.spelling}."
            )

    def _autocast(self) -> AbstractContextManager[None]:
        from training.loop.precision import autocast

        context = autocast(self.run.trained.training.precision, self.measuring.device)
        return nullcontext() if context is None else context()
