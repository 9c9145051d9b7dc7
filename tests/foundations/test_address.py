"""Canonical forms and digests."""

from __future__ import annotations

import hashlib
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundations.description.address import canonical_json, digest

trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_the_digest_is_the_beginning_of_the_sha256_of_kind_schema_and_canonical_form() -> None:
    text = '{"description":{"a":{"lr":0.1}},"kind":"train","schema":2}'

    assert digest("train", {"a": {"lr": 0.1}}) == hashlib.sha256(text.encode()).hexdigest()[:32]


@given(st.dictionaries(st.text(), trees, max_size=5), st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order_of_keys(tree: dict[str, Any], random: Random) -> None:
    shuffled = dict(random.sample(list(tree.items()), len(tree)))

    assert digest("train", shuffled) == digest("train", tree)


@given(st.dictionaries(st.text(), trees, max_size=5))
def test_canonical_json_reads_back(tree: dict[str, Any]) -> None:
    assert json.loads(canonical_json(tree)) == tree


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_json_has_no_word_for_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest("train", {"lr": value})


def test_the_kind_is_part_of_the_address() -> None:
    assert digest("train", {}) != digest("oneshot", {})


def test_a_name_outside_ascii_stands_in_the_canonical_form_as_it_is() -> None:
    assert canonical_json({"name": "Größe 重み"}) == '{"name":"Größe 重み"}'
    assert digest("train", {"name": "Größe 重み"}) == "88ca371272660d110e91250fba100b56"
