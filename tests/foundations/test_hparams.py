from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundations.description.hparams import ALWAYS_WRITTEN, Hparams, elided_values, fields_of, hparam
from foundations.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Example(Hparams):
    name: str = hparam("sgd", choices=("sgd", "adam"), elided=ALWAYS_WRITTEN)
    rate: float = hparam(0.1, above=0, at_most=10)
    share: float | None = hparam(None, at_least=0, below=1)
    count: int = hparam(3, at_least=1)
    flag: bool = hparam(False)
    when: str = hparam("0it", step=True)
    drops: str | None = hparam(None, step_list=True)
    layers: str | None = hparam(None, unordered=True)
    changed: float = hparam(2.0, elided=1.0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("rate", 0.0, "rate: 0.0 is not a valid value; it must be above 0 and at most 10."),
        ("rate", 10.5, "rate: 10.5 is not a valid value; it must be above 0 and at most 10."),
        ("share", -0.1, "share: -0.1 is not a valid value; it must be at least 0 and below 1."),
        ("share", 1, "share: 1 is not a valid value; it must be at least 0 and below 1."),
        ("count", 0, "count: 0 is not a valid value; it must be at least 1."),
        ("rate", float("nan"), "rate: nan is not a valid value; it takes a finite number."),
        ("rate", float("inf"), "rate: inf is not a valid value; it takes a finite number."),
        ("changed", -1e39, "changed: -1e+39 is not a valid value; float32 ends at 3.4e+38."),
        ("name", "sdg", "name: 'sdg' is not a valid value. Did you mean 'sgd'? Choose from sgd, adam."),
        ("name", "rmsprop", "name: 'rmsprop' is not a valid value; choose from sgd, adam."),
        ("rate", "0.1", "rate: '0.1' is not a valid value; it takes float or int."),
        ("count", 2.0, "count: 2.0 is not a valid value; it takes int."),
        ("count", True, "count: True is not a valid value; it takes int."),
        ("rate", True, "rate: True is not a valid value; it takes float or int."),
        ("share", "no", "share: 'no' is not a valid value; it takes float or nothing or int."),
        ("flag", 1, "flag: 1 is not a valid value; it takes bool."),
        ("count", None, "count: None is not a valid value; it takes int."),
    ],
)
def test_a_value_that_is_not_valid_is_refused_with_those_that_are(field: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Example.of({field: value})

    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("field", "value"), [("rate", 10), ("share", 0), ("share", None), ("count", 1), ("name", "adam")]
)
def test_the_ends_of_a_bound_are_possible(field: str, value: Any) -> None:
    assert getattr(Example.of({field: value}), field) == value


def test_hyperparameters_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Example().rate = 0.2  # type: ignore[misc]


def test_hyperparameters_take_keywords_only() -> None:
    with pytest.raises(TypeError):
        Example("sgd")  # type: ignore[call-arg]


def test_a_field_that_is_not_declared_with_hparam_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Careless(Hparams):
        rate: float = 0.1

    with pytest.raises(TypeError, match="'rate' is not declared with hparam"):
        Careless()


def test_what_stands_at_its_elided_value_is_not_written() -> None:
    assert Example(changed=1.0).normalized(10).canonical() == {"name": "sgd"}


def test_a_default_that_differs_from_the_elided_value_is_written() -> None:
    assert Example().normalized(10).canonical() == {"name": "sgd", "changed": 2.0}


def test_an_integer_for_a_float_is_written_as_a_float() -> None:
    assert repr(Example(rate=1).normalized(10).canonical()["rate"]) == "1.0"


def test_minus_zero_is_zero() -> None:
    assert repr(Example(share=-0.0).normalized(10).share) == "0.0"


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 40))
def test_every_spelling_of_a_step_is_normalized_to_iterations(epochs: int, more: int, epoch_length: int) -> None:
    spelled = Example(when=f"{epochs}ep{more}it").normalized(epoch_length)
    counted = Example(when=f"{epochs * epoch_length + more}it").normalized(epoch_length)

    assert spelled == counted


@given(st.lists(st.integers(0, 30), min_size=1), st.randoms(use_true_random=False))
def test_a_list_of_steps_is_normalized_to_ascending_iterations_and_repetitions_stay(
    epochs: list[int], random: Random
) -> None:
    shuffled = random.sample(epochs, len(epochs))
    texts = [",".join(f"{epoch}ep" for epoch in order) for order in (epochs, shuffled)]

    first, second = (Example(drops=text).normalized(7) for text in texts)

    assert first == second
    assert first.drops == ",".join(f"{7 * epoch}it" for epoch in sorted(epochs))


@given(st.lists(st.sampled_from("abcdef"), min_size=1), st.randoms(use_true_random=False))
def test_the_order_of_an_unordered_list_means_nothing(names: list[str], random: Random) -> None:
    shuffled = random.sample(names, len(names))

    assert Example(layers=",".join(names)).normalized(1) == Example(layers=",".join(shuffled + names)).normalized(1)


@dataclass(frozen=True, kw_only=True)
class Needed(Hparams):
    layers: str = hparam("all", unordered=True)
    drops: str = hparam("1ep", step_list=True)


@pytest.mark.parametrize("field", ["drops", "layers"])
@pytest.mark.parametrize("text", ["", ",", " , "])
def test_a_list_that_is_needed_must_name_something(field: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"{field}: '{text}' names nothing"):
        Needed.of({field: text})


@pytest.mark.parametrize("field", ["drops", "layers"])
def test_an_empty_list_is_no_list(field: str) -> None:
    assert getattr(Example.of({field: ""}).normalized(10), field) is None


def test_normalizing_twice_is_normalizing_once() -> None:
    once = Example(rate=1, when="2ep", drops="3ep,1ep", layers="b,a").normalized(10)

    assert once.normalized(10) == once


def test_the_elided_values_are_those_declared() -> None:
    assert elided_values(Example)["changed"] == 1.0
    assert elided_values(Example)["name"] is ALWAYS_WRITTEN
    assert elided_values(Example)["share"] is None


@pytest.mark.parametrize("name", ["names", "values", "of", "normalized"])
def test_a_field_that_hides_a_method_is_refused(name: str) -> None:
    hiding = dataclasses.make_dataclass("Hiding", [(name, int, hparam(1))], bases=(Hparams,), frozen=True, kw_only=True)

    with pytest.raises(TypeError, match=f"a field cannot be called '{name}'"):
        fields_of(hiding)
