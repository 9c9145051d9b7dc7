"""Label smoothing, in ToST's form and in PyTorch's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from foundations.errors import UsageError
from tests.training.small_runs import context, oneshot_desc, train_desc
from tests.training.techniques.toy_training import EPOCH, Batches, run, toy_training
from training.job import initialized_model
from training.jobs.compute import complete
from training.techniques.smoothing import smoothed_losses


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("over", ["others", "all"])
def test_losses_are_those_of_smoothed_targets(over: str, classes: int) -> None:
    drawn = torch.Generator().manual_seed(0)
    logits = torch.randn(20, classes, generator=drawn, dtype=torch.float64) * 5
    labels, alpha = torch.randint(classes, (20,), generator=drawn), 0.3
    expected = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        log_sum = torch.logsumexp(torch.tensor(row, dtype=torch.float64), 0).item()
        spread = alpha / (classes - 1 if over == "others" else classes)
        targets = [spread] * classes
        targets[label] = 1 - alpha if over == "others" else 1 - alpha + spread
        expected.append(-sum(target * (logit - log_sum) for target, logit in zip(targets, row, strict=True)))

    found = smoothed_losses(logits, labels, alpha, over)

    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_over_all_classes_is_pytorchs_own() -> None:
    logits, labels = torch.randn(9, 5, dtype=torch.float64), torch.arange(9) % 5

    found = smoothed_losses(logits, labels, 0.2, "all").mean()

    assert found.item() == pytest.approx(F.cross_entropy(logits, labels, label_smoothing=0.2).item(), abs=1e-12)


def test_training_minimizes_the_smoothed_loss() -> None:
    by_technique, by_hand = toy_training(density=None), toy_training(density=None)

    run(by_technique, 3, technique="smoothing", smoothing_alpha=0.25)
    for images, labels in list(Batches().train_batches(0))[:3]:
        targets = torch.full((len(labels), 4), 0.25 / 3, dtype=torch.float64)
        targets[torch.arange(len(labels)), labels] = 0.75
        by_hand.optimizer.zero_grad()
        F.cross_entropy(by_hand.model(images), targets).backward()
        by_hand.optimizer.step()

    assert EPOCH > 3
    for found, expected in zip(by_technique.model.parameters(), by_hand.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_reported_losses_are_smoothed_where_asked_for(tmp_path: Path, digits: Path) -> None:
    from datasets.loading.loader import open_loader

    smoothed = {"technique": "smoothing", "training_steps": "2it", "validation_examples": 100}
    plain, reported = (train_desc(**smoothed, smoothing_reported=asked) for asked in (False, True))

    plain_run, reported_run = (complete(desc, context(tmp_path, digits)).run for desc in (plain, reported))

    model = initialized_model(plain, 1)
    model.load_state_dict(reported_run.load_state(reported.end))
    loader = open_loader(plain.dataset, digits)
    for name, batches in (("test_loss", loader.test_batches()), ("validation_loss", loader.validation_batches())):
        images, labels = (torch.cat(each) for each in zip(*batches, strict=True))
        with torch.no_grad():
            logits = model.eval()(images)
        expected = smoothed_losses(logits.double(), labels, 0.1).mean().item()
        assert reported_run.metrics().last(name) == pytest.approx(expected, rel=1e-5)
        assert plain_run.metrics().last(name) == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    state, same = plain_run.load_state(plain.end), reported_run.load_state(plain.end)
    assert all(torch.equal(tensor, same[name]) for name, tensor in state.items())


def test_labels_are_not_smoothed_twice() -> None:
    with pytest.raises(UsageError, match="both smooth the labels"):
        train_desc(technique="smoothing", label_smoothing=0.1)
    smoothed = {"label_smoothing": 0.1}
    with pytest.raises(UsageError, match="label_smoothing, technique: both smooth the labels"):
        oneshot_desc("random", smoothed, density=0.5, technique="smoothing")
