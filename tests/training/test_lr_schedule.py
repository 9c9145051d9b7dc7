import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.commands.jobs import TRAIN
from foundations import registry
from foundations.errors import PluginError, UsageError
from open_prune import load_plugins
from tests.conftest import golden_case
from training.desc import TrainDesc
from training.hparams import TrainingHparams
from training.loop.lr_schedule import learning_rate
from training.registry import LR_SCHEDULES


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


def test_a_linear_schedule_falls_from_the_end_of_the_warmup_to_zero_at_the_last_step():
    found = rates(lr=2.0, lr_schedule="linear", warmup_steps="10it", steps=40)

    assert found == pytest.approx([2 * min(t / 10, (40 - t) / 30) for t in range(40)])


def test_an_inverse_square_root_begins_at_the_end_of_the_warmup():
    found = rates(lr=2.0, lr_schedule="inverse_sqrt", warmup_steps="4it")

    assert found == pytest.approx([2 * min(t / 4, math.sqrt(4 / max(t, 1))) for t in range(40)])
    assert rates(lr=1.0, lr_schedule="inverse_sqrt")[3] == pytest.approx(math.sqrt(10_000 / 10_003))


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_a_floor_takes_the_place_of_zero_at_the_end(name: str) -> None:
    plain, raised = rates(lr=1.0, lr_schedule=name), rates(lr=1.0, lr_schedule=name, min_lr=0.2)
    schedule = learning_rate(TrainingHparams(lr=1.0, lr_schedule=name, min_lr=0.2, training_steps="40it"), 10)

    assert raised == pytest.approx([0.2 + 0.8 * rate for rate in plain])
    assert schedule(40) == 0.2


@pytest.mark.parametrize(
    "hparams", [{"milestone_steps": "1ep,2ep", "gamma": 0.1}, {"lr_schedule": "inverse_sqrt", "warmup_steps": "2it"}]
)
def test_other_schedules_fall_no_further_than_the_floor(hparams):
    plain, bounded = rates(lr=1.0, **hparams), rates(lr=1.0, min_lr=0.3, **hparams)
    warmup = 2 if "warmup_steps" in hparams else 0

    assert bounded[:warmup] == plain[:warmup]
    assert bounded[warmup:] == [max(rate, 0.3) for rate in plain[warmup:]]
    assert 0.3 in bounded


PLUGIN = """
from open_prune import Course, LrSchedule

def triangle(t: int, course: Course) -> float:
    return {result}

TRIANGLE = LrSchedule(spelling="triangle", summary="up and down", factor=triangle)
"""


def plugged_in(monkeypatch: pytest.MonkeyPatch, file: Path, result: str) -> None:
    file.write_text(PLUGIN.replace("{result}", result))
    monkeypatch.setattr(registry, "_PLUGINS", {})
    for name, value in (("_entries", [*LR_SCHEDULES]), ("_found", {}), ("_taken", set())):
        monkeypatch.setattr(LR_SCHEDULES, name, value)
    load_plugins([file])


def test_a_plug_in_adds_a_schedule(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugged_in(monkeypatch, tmp_path / "mine.py", "1 - abs(2 * course.progress(t) - 1)")
    hparams = TrainingHparams(lr=2.0, lr_schedule="triangle", training_steps="4it", min_lr=0.1)

    assert [learning_rate(hparams, 10)(t) for t in range(5)] == [0.1, 1.0, 2.0, 1.0, 0.1]
    assert [plugin.name for plugin in hparams.plugins()] == ["mine"]


@pytest.mark.parametrize("result", ["None", "float('nan')", "-1", "'1'"])
def test_a_factor_of_a_plug_in_that_is_no_number_is_its_mistake(
    result: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plugged_in(monkeypatch, tmp_path / "mine.py", result)
    schedule = learning_rate(TrainingHparams(lr_schedule="triangle", training_steps="4it"), 10)

    with pytest.raises(PluginError, match=r"mine.py, line 4: triangle, of 'triangle', returned .* a finite number"):
        schedule(1)


WITH_OPTION = """
from dataclasses import dataclass
from open_prune import Course, LrSchedule, TrainingHparams, hparam

@dataclass(frozen=True, kw_only=True)
class PolyHparams(TrainingHparams):
    '''Training with a polynomial fall.'''

    poly_power: float = hparam(2.0, above=0)
    '''The power of the remaining part.'''

def poly(t: int, course: Course) -> float:
    return {result}

POLY = LrSchedule(spelling="poly", summary="a fall", factor=poly, ends_at_zero=True, hparams=PolyHparams)
"""


def test_options_of_a_schedule_are_part_of_the_address_and_flags_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PLUGIN", WITH_OPTION)
    plugged_in(monkeypatch, tmp_path / "mine.py", "(1 - course.progress(t)) ** course.hparams.poly_power")
    values = {"lr": 2.0, "lr_schedule": "poly", "training_steps": "4it", **DATA}
    plain, default, other = (TrainDesc.of({**values, **more}) for more in ({}, {"poly_power": 2.0}, {"poly_power": 1}))

    assert [learning_rate(other.training, 10)(t) for t in (0, 2, 4)] == [2.0, 1.0, 0.0]
    assert [learning_rate(plain.training, 10)(t) for t in (0, 2, 4)] == [2.0, 0.5, 0.0]
    assert plain.digest == default.digest != other.digest
    assert other.training.replaced({"lr_schedule": "cosine"}) == TrainingHparams.of({**values, "lr_schedule": "cosine"})
    assert TrainingHparams.owners_of("poly_power") == ["lr_schedule=poly"]
    flags = ["--lr_schedule=poly", "--poly_power=3", "--dataset_name=digits", "--model_name=mnist_lenet_300_100"]
    assert TRAIN.parse(flags).training.poly_power == 3
    with pytest.raises(UsageError, match="no flag --poly_power here. It is a flag of --lr_schedule=poly"):
        TRAIN.parse(flags[1:])
    with pytest.raises(UsageError, match="TrainingHparams.of"):
        TrainingHparams(lr_schedule="poly")


DATA = {"dataset_name": "digits", "model_name": "mnist_lenet_300_100"}
