from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.loop.evaluation import evaluate


class Batches:
    """A test set of random examples, its last batch smaller."""

    def __init__(self, examples: int = 50, classes: int = 30, batch_size: int = 16) -> None:
        stream = torch.Generator().manual_seed(0)
        self.images = torch.randn(examples, 6, generator=stream)
        self.labels = torch.randint(classes, (examples,), generator=stream)
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for begin in range(0, len(self.labels), self.batch_size):
            rows = slice(begin, begin + self.batch_size)
            yield self.images[rows], self.labels[rows]


def by_hand(model: nn.Module, data: Batches) -> dict[str, float]:
    """Compute the metrics of `evaluate` example by example in float64."""
    loss = correct = in_top5 = 0.0
    with torch.no_grad():
        for image, label in zip(data.images, data.labels.tolist(), strict=True):
            logits = model(image[None])[0].double()
            loss += (torch.logsumexp(logits, 0) - logits[label]).item()
            better = int((logits > logits[label]).sum())
            correct += better == 0
            in_top5 += better < 5
    count = len(data.labels)
    return {"test_loss": loss / count, "test_accuracy": correct / count, "test_top5accuracy": in_top5 / count}


def test_loss_and_accuracies_are_means_over_the_examples() -> None:
    model, data = nn.Linear(6, 30), Batches()

    found = evaluate(model, data, outputs=30)

    assert found == pytest.approx(by_hand(model, data), abs=1e-6)


@pytest.mark.parametrize(("outputs", "has_top5"), [(2, False), (4, False), (5, True), (21, True)])
def test_top5_is_measured_from_5_outputs_on(outputs: int, has_top5: bool) -> None:
    found = evaluate(nn.Linear(6, outputs), Batches(classes=outputs), outputs=outputs)

    assert ("test_top5accuracy" in found) == has_top5


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_measured_in_eval_mode_and_left_in_the_mode_it_had(training: bool) -> None:
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 5)).train(training)
    data = Batches(classes=5)
    mean_before = model.get_buffer("0.running_mean").clone()

    first, second = evaluate(model, data, outputs=5), evaluate(model, data, outputs=5)

    assert first == second
    assert torch.equal(model.get_buffer("0.running_mean"), mean_before)
    assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_reduced_precision_only_rounds_the_logits() -> None:
    model, data = nn.Linear(6, 5), Batches(classes=5)

    found = evaluate(model, data, outputs=5, autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(data.images).float()

    assert found["test_loss"] == pytest.approx(F.cross_entropy(logits, data.labels).item(), abs=1e-6)


def test_logits_that_are_nan_give_a_loss_that_is_nan() -> None:
    model = nn.Linear(6, 5)
    nn.init.constant_(model.weight, float("nan"))

    assert math.isnan(evaluate(model, Batches(classes=5), outputs=5)["test_loss"])
