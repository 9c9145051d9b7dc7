import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import golden_case
from training.hparams import TrainingHparams
from training.loop.lr_schedule import learning_rate


def rates(epoch_length=10, steps=40, **hparams):
    schedule = learning_rate(TrainingHparams(training_steps=f"{steps}it", **hparams), epoch_length)
    return [schedule(t) for t in range(steps)]


def test_without_a_schedule_the_rate_is_constant():
    assert rates(lr=0.3) == [0.3] * 40


def test_a_drop_takes_effect_exactly_at_its_milestone():
    found = rates(lr=1.0, milestone_steps="1ep,25it", gamma=0.5)

    assert found == [1.0] * 10 + [0.5] * 15 + [0.25] * 15


def test_a_milestone_that_is_written_twice_drops_twice():
    assert rates(lr=1.0, milestone_steps="1ep,1ep", gamma=0.5)[10] == 0.25


def test_a_warmup_rises_linearly_from_zero():
    assert rates(lr=1.0, warmup_steps="4it")[:6] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_drop_during_the_warmup_takes_effect_at_once():
    assert rates(lr=1.0, warmup_steps="4it", milestone_steps="2it", gamma=0.5)[1:4] == [0.25, 0.25, 0.375]


def test_a_cosine_falls_from_the_full_rate_to_zero_at_the_last_step():
    schedule = learning_rate(TrainingHparams(lr=0.4, lr_schedule="cosine", training_steps="40it"), 10)

    for t in range(41):
        assert schedule(t) == pytest.approx(0.4 * (1 + math.cos(math.pi * t / 40)) / 2, abs=1e-15)


def test_a_cosine_begins_where_the_warmup_ends():
    found = rates(lr=1.0, lr_schedule="cosine", warmup_steps="1ep")

    assert found[:11] == pytest.approx([t / 10 for t in range(11)])
    assert found[25] == pytest.approx(0.5)


@given(
    st.floats(1e-4, 10),
    st.lists(st.integers(0, 50), min_size=1, max_size=4),
    st.floats(0.01, 1.5),
    st.integers(0, 20),
)
def test_the_rate_is_openlths_formula(lr, milestones, gamma, warmup):
    found = rates(
        lr=lr, milestone_steps=",".join(f"{m}it" for m in milestones), gamma=gamma, warmup_steps=f"{warmup}it"
    )

    for t, rate in enumerate(found):
        drops = sum(milestone <= t for milestone in milestones)
        assert rate == pytest.approx(lr * gamma**drops * (min(1, t / warmup) if warmup else 1), rel=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "training_lenet_300_100_dense",
        "training_lenet_60_30_masked",
        "training_resnet20_dense",
        "training_resnet20w6_masked",
    ],
)
def test_the_rates_are_those_of_the_reference(name: str) -> None:
    case = json.loads((golden_case(name) / "case.json").read_text())
    written, options = case["options"]["as_written_in_openlth"], case["options"]
    schedule = learning_rate(
        TrainingHparams(lr=options["lr"], gamma=options["gamma"], **written), options["iterations_per_epoch"]
    )

    assert [schedule(t) for t in range(options["steps"])] == pytest.approx(case["lr_per_step"], rel=1e-12)
