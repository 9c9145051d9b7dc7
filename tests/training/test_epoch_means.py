"""Training loss and accuracy of an epoch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from datasets.loading.loader import open_loader
from foundations.description.step import Step
from foundations.metrics import Metrics
from tests.training.small_runs import context, train_desc
from training.job import initialized_model
from training.jobs.compute import complete
from training.loop.epoch_means import EpochMeans
from training.loop.evaluation import evaluate


def test_means_are_over_the_examples_of_each_epoch_and_of_the_last_part() -> None:
    means, metrics = EpochMeans(torch.device("cpu")), Metrics()
    record = means.record_in(metrics, Step(5, 2))
    losses, hits, sizes = [0.5, 2.0, 1.0, 4.0, 3.0], [3, 0, 1, 2, 1], [4, 2, 4, 2, 4]

    for iteration, (loss, correct, size) in enumerate(zip(losses, hits, sizes, strict=True)):
        record(Step(iteration, 2))
        labels = torch.tensor([1] * correct + [0] * (size - correct))
        means.add(torch.tensor(loss, requires_grad=True), torch.tensor([[0.0, 1.0]] * size), labels)
    record(Step(5, 2))

    assert metrics.values == {
        ("train_loss", 2): 1.0,
        ("train_accuracy", 2): 0.5,
        ("train_loss", 4): 2.0,
        ("train_accuracy", 4): 0.5,
        ("train_loss", 5): 3.0,
        ("train_accuracy", 5): 0.25,
    }


def test_a_checkpoint_of_before_there_were_sums_leaves_its_epoch_out() -> None:
    means, metrics = EpochMeans(torch.device("cpu")), Metrics()
    record = means.record_in(metrics, Step(4, 2))
    means.load_state_dict({})

    for iteration in range(1, 4):
        means.add(torch.tensor(1.5), torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
        record(Step(iteration + 1, 2))

    assert metrics.values == {("train_loss", 4): 1.5, ("train_accuracy", 4): 1.0}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_training_that_hardly_moves_has_the_loss_of_its_first_weights(
    tmp_path: Path, digits: Path, smoothing: float
) -> None:
    desc = train_desc(lr=1e-30, weight_decay=0.0, label_smoothing=smoothing, training_steps="2ep")

    run = complete(desc, context(tmp_path, digits)).run

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)

    batches = open_loader(desc.dataset, digits).train_batches(0)
    expected = evaluate(initialized_model(desc, 1), batches, 10, examples_are="train", loss=loss)
    for iteration in (6, 12):
        for name in ("train_loss", "train_accuracy"):
            assert run.metrics().values[name, iteration] == pytest.approx(expected[name], rel=1e-6)
    manifest = run.manifest()
    assert manifest is not None
    assert manifest.results["train_loss"] == run.metrics().last("train_loss")


def test_sums_of_many_batches_have_the_bits_of_adding_one_after_the_other() -> None:
    drawn = torch.Generator().manual_seed(0)
    at_once, one_by_one = EpochMeans(torch.device("cpu")), EpochMeans(torch.device("cpu"))
    for number in range(150):
        size = 7 if number % 3 else 4
        loss, outputs = torch.rand((), generator=drawn), torch.rand(size, 5, generator=drawn)
        targets = torch.arange(size) % 5
        at_once.add(loss, outputs, targets)
        one_by_one.add_sums(one_by_one.sums_of(loss, outputs, targets))
        if number == 100:
            kept = at_once.state_dict()
            at_once = EpochMeans(torch.device("cpu"))
            at_once.load_state_dict(kept)

    assert torch.equal(at_once.state_dict()["sums"], one_by_one.state_dict()["sums"])
