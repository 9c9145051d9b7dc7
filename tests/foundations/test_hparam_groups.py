"""Groups of hyperparameters whose values select more fields, their help, and overrides of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import pytest

from foundations.description.hparams import ALWAYS_WRITTEN, Hparams, help_of, hparam, merged_group, overrides
from foundations.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Other(Hparams):
    rate: float = hparam(0.1)


@dataclass(frozen=True, kw_only=True)
class Method(Hparams):
    """A method; `long` has an option of its own."""

    method: str = hparam("short", elided=ALWAYS_WRITTEN, choices=("short", "long"))
    """The method.

    Long takes
    more time.
    """
    level: float = hparam(0.8, at_most=1)
    """The level."""
    width: int = hparam(1)

    @classmethod
    def group_for(cls, values: Mapping[str, Any]) -> type[Self]:
        selected = LongMethod if values.get("method") == "long" else Method
        assert issubclass(selected, Method)
        return selected  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class LongMethod(Method):
    level: float = hparam(0.9, at_most=1)
    length: int = hparam(10, at_least=1)
    """The time
    it takes."""


def test_a_group_is_made_of_those_values_that_are_its_own() -> None:
    assert Method.of({"level": 0.5, "lr": 3}) == Method(level=0.5)
    assert Method.of({}) == Method()


def test_a_value_selects_the_group_with_its_own_fields() -> None:
    assert Method.of({"method": "long", "length": 3}) == LongMethod(method="long", length=3)
    assert type(Method.of({"method": "short", "length": 3})) is Method


def test_replacing_a_value_keeps_the_others() -> None:
    assert Method(level=0.5).replaced({"width": 2}) == Method(level=0.5, width=2)


def test_replacing_a_value_that_selects_another_group_keeps_what_both_have() -> None:
    longer = Method(level=0.5).replaced({"method": "long", "length": 3})

    assert longer == LongMethod(method="long", level=0.5, length=3)
    assert longer.replaced({"method": "short"}) == Method(level=0.5)


def test_replacing_nothing_gives_the_group_itself() -> None:
    group = Method(level=0.5)

    assert group.replaced({"level": 0.5}) is group
    assert group.replaced({}) is group


def test_a_replaced_value_is_checked() -> None:
    with pytest.raises(UsageError, match="^level: 2 is not a valid value"):
        Method().replaced({"level": 2})


# Help.


def test_the_help_of_a_field_is_the_docstring_under_it_as_one_line_a_paragraph() -> None:
    assert help_of(Method) == {"method": "The method.\n\nLong takes more time.", "level": "The level.", "width": ""}


def test_a_field_that_is_declared_anew_without_a_docstring_keeps_its_help() -> None:
    assert help_of(LongMethod) == {**help_of(Method), "length": "The time it takes."}


def test_the_help_of_a_field_without_a_docstring_can_be_declared() -> None:
    made = dataclasses.make_dataclass(
        "Made", [("size", int, hparam(1, help="The size."))], bases=(Hparams,), frozen=True, kw_only=True
    )

    assert help_of(made) == {"size": "The size."}


def test_overrides_have_the_fields_of_other_groups_under_a_prefix_and_only_those_given_count() -> None:
    group = merged_group("Overrides", (Method, Other), Hparams, "Other values.", "other_")

    flags = group.of({"other_level": 0.5, "other_width": 1})

    assert group.names() == ["other_" + name for name in (*Method.names(), *Other.names())]
    assert help_of(group)["other_level"] == "In place of --level."
    assert overrides(flags, Method, "other_") == {"level": 0.5, "width": 1}
    assert overrides(flags, Other, "other_") == {}
    assert group().canonical() == {}
    with pytest.raises(UsageError, match="^other_level: 2 is not a valid value; it must be at most 1"):
        group.of({"other_level": 2})
