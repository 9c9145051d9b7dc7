"""Steps in parts of their batch, against steps on the whole batch, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from datasets.tasks.language_modelling import LANGUAGE_MODELLING
from foundations.errors import UsageError
from models.dropout import Dropout
from tests.training.small_runs import context, train_desc
from training.job import initialized_model
from training.loop.micro_batches import MicroBatches, weighted
from training.loop.trainer import Trainer

STEPS = 8
"""Steps of training; an epoch has 6 batches, and the last one is smaller."""


def trained(tmp_path: Path, digits: Path, *, model: nn.Module | None = None, **flags: Any) -> Trainer:
    """Return a training after some steps, in float64."""
    desc, place = train_desc(**flags), context(tmp_path, digits)
    network = initialized_model(desc, 1) if model is None else model
    trainer = Trainer(network, desc, place, place.platform, 1, techniques=desc.techniques)
    trainer.model.double()
    trainer.prepare(None, desc.start)
    trainer.model.train()
    batches = [batch for epoch in range(2) for batch in trainer.loader.train_batches(epoch)][:STEPS]
    for images, labels in batches:
        trainer.compute_gradients(images.double(), labels)
        trainer.optimizer.step()
    return trainer


def with_dropout() -> nn.Module:
    torch.manual_seed(0)
    shared = Dropout(0.5)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), shared, nn.ReLU(), nn.Linear(9, 9), shared, nn.Linear(9, 10))


@pytest.mark.parametrize("parts", [2, 3, 7, 1000])
@pytest.mark.parametrize("flags", [{"label_smoothing": 0.1}, {"mixup": 0.8, "cutmix": 1.0}, {"technique": "smoothing"}])
def test_steps_in_parts_are_those_on_whole_batches(
    parts: int, flags: dict[str, Any], tmp_path: Path, digits: Path
) -> None:
    whole, other = (trained(tmp_path, digits, model=with_dropout(), accumulate=count, **flags) for count in (1, parts))

    torch.testing.assert_close(other.model.state_dict(), whole.model.state_dict(), rtol=1e-10, atol=1e-12)
    assert other.epoch.state_dict()["sums"].tolist() == pytest.approx(whole.epoch.state_dict()["sums"].tolist())
    assert all(module.part is None for module in other.model.modules() if isinstance(module, Dropout))


def test_parts_are_weighted_by_the_tokens_that_count() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 4, 7, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(7, (5, 4))
    targets[0], targets[1, 1:], targets[4, 0] = -100, -100, -100
    parts = MicroBatches(nn.Identity(), 3, LANGUAGE_MODELLING)

    whole = LANGUAGE_MODELLING.loss(logits, targets)
    total = sum(weighted(LANGUAGE_MODELLING.loss(x, y), share) for x, y, share in parts.of(logits, targets))

    torch.testing.assert_close(total, whole, rtol=1e-12, atol=0)


def test_batch_normalization_over_all_processes_and_parts_at_once_is_refused() -> None:
    with pytest.raises(UsageError, match="sync_batchnorm, accumulate: batch normalization would be over each part"):
        train_desc(model_name="digits_resnet_8_4", sync_batchnorm=True, accumulate=2)
    assert train_desc(sync_batchnorm=True, accumulate=2).training.accumulate == 2
