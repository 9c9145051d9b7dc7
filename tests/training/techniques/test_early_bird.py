"""Early-bird tickets: training ends when masks have settled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from branches.lottery.lottery import Lottery, LotteryHparams
from foundations.errors import UsageError
from foundations.storage.run import Run
from pruning.hparams import PruningHparams
from pruning.prune import prune
from tests.training.small_runs import context, train_desc
from tests.training.techniques.toy_training import ToyTraining, batch, network, run
from training.hparams import TechniquesHparams
from training.jobs.compute import complete
from training.sparse import sparse

RATE, THRESHOLD = 0.1, 0.04


def mask_of(model: torch.nn.Module) -> torch.Tensor:
    """Return the half of all weights of largest magnitude."""
    sizes = torch.cat([p.detach().abs().flatten() for p in model.parameters() if p.dim() > 1])
    return sizes > sizes.kthvalue(len(sizes) // 2).values


def test_twenty_steps_are_those_of_a_plain_loop_that_stops() -> None:
    options: dict[str, Any] = {"early_bird_threshold": THRESHOLD, "early_bird_masks": 3, "early_bird_frequency": "2it"}
    training = ToyTraining(train_desc(lr=RATE, momentum=0.9, weight_decay=0.0, training_steps="20it"))
    run(training, 20, technique="early_bird", **options)

    plain, stopped, distance = network(), None, 0.0
    masks: list[torch.Tensor] = []
    optimizer = torch.optim.SGD(plain.parameters(), lr=RATE, momentum=0.9)
    for t in range(20):
        if t and t % 2 == 0:
            masks = [*masks, mask_of(plain)][-3:]
            distance = max(float((masks[-1] != other).double().mean()) for other in masks)
            if len(masks) == 3 and distance < THRESHOLD:
                stopped = t
                break
        x, labels = batch(t)
        optimizer.zero_grad()
        F.cross_entropy(plain(x), labels).backward()
        optimizer.step()

    assert stopped is not None
    assert 6 < stopped < 18, "the example shows a stop that is neither the first possible one nor the last"
    assert training.hooks.metrics() == {"early_bird_distance": distance, "early_bird_step": stopped}
    for ours, theirs in zip(training.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def lottery(**flags: Any) -> Lottery:
    return Lottery(train_desc(), PruningHparams(), LotteryHparams(**flags))


def test_the_first_training_of_a_lottery_stops_and_the_next_level_prunes_its_weights(
    tmp_path: Path, digits: Path
) -> None:
    place = context(tmp_path, digits)
    dense, level = (desc for _, desc in lottery(early_bird=1.0, early_bird_epochs=2).levels(1))

    first, second = (complete(desc, place, [dense.start.at(15)]).run for desc in (dense, level))

    def state(run_: Run, at: int) -> dict[str, torch.Tensor]:
        return run_.load_state(dense.start.at(at))

    assert first.metrics().values["early_bird_step", 18] == 12  # the second epoch of three
    assert all(torch.equal(value, state(first, 15)[name]) for name, value in state(first, 18).items())
    assert level.techniques is None  # type: ignore[attr-defined]
    assert second.has_mask()


def test_masks_that_another_technique_has_pruned_further_are_compared_as_they_are(tmp_path: Path, digits: Path) -> None:
    """Gradual pruning passes the share that the early-bird masks prune, after the first of them."""
    desc = train_desc(
        technique="gmp,early_bird",
        gmp_density=0.1,
        gmp_frequency="3it",
        early_bird_masks=2,
        early_bird_frequency="3it",
        early_bird_threshold=1e-9,
    )

    run_ = complete(desc, context(tmp_path, digits)).run

    assert run_.metrics().values["early_bird_step", 18] == 12  # gradual pruning ends at step 9


@pytest.mark.parametrize("technique", ["rigl,early_bird", "early_bird,rigl"])
def test_a_training_that_starts_from_a_sparser_mask_is_refused_at_once(
    technique: str, tmp_path: Path, digits: Path
) -> None:
    desc = train_desc(technique=technique, start_density=0.3, early_bird_masks=2)

    with pytest.raises(UsageError, match=r"^early_bird_prune_fraction: .* prunes 0\.7\d* already"):
        complete(desc, context(tmp_path, digits))


def test_epochs_without_a_threshold_are_refused() -> None:
    with pytest.raises(UsageError, match="early_bird"):
        LotteryHparams(early_bird_epochs=3)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"early_bird_strategy": "phew"}, "early_bird_strategy"),
        ({"early_bird_strategy": "nothing"}, "early_bird_strategy"),
        ({"early_bird_frequency": "0it"}, "early_bird_frequency"),
        ({"early_bird_frequency": "4it"}, "early_bird_frequency, early_bird_masks"),
    ],
)
def test_options_without_sense_are_refused(flags: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        train_desc(technique="early_bird", **flags)
    assert ", ".join(caught.value.hparams) == named


def test_a_sparser_mask_than_early_bird_prunes_to_is_refused_before_the_first_step() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mask = prune(model, "magnitude", density=0.2)

    with pytest.raises(UsageError, match=r"early_bird_prune_fraction: .* prunes 0\.8\d* already"):
        sparse(optimizer, model, "early_bird", mask=mask, end=20, early_bird_frequency=2, early_bird_prune_fraction=0.5)


def test_a_moving_mask_with_a_few_weights_less_is_compared_as_it_is(tmp_path: Path, digits: Path) -> None:
    values = {"technique": "srigl,early_bird", "start_density": 0.5, "mask_update_frequency": "2it"}
    early = {"early_bird_prune_fraction": 0.5, "early_bird_frequency": "3it", "early_bird_masks": 2}
    desc = replace(train_desc(), techniques=TechniquesHparams.of({**values, **early, "early_bird_threshold": 0.5}))

    metrics = complete(desc, context(tmp_path, digits)).run.metrics()

    assert metrics.last("early_bird_step") is not None
