"""Descriptions: their edges, their records and the way back."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundations.address import canonical_json, digest
from foundations.desc import Desc, MaskOf, RunRef, StateOf
from foundations.errors import UsageError
from tests.foundations.toy_descriptions import ToyBranch, ToyDesc, ToyHparams, state_of, step

MAIN = ToyDesc()
BRANCH = ToyBranch(main=MAIN, state=state_of(MAIN, 3))


def test_a_description_without_a_place_cannot_be_made() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Placeless(Desc):
        kind = "placeless"

    with pytest.raises(TypeError, match="abstract"):
        Placeless()  # type: ignore[abstract]


def test_sources_are_the_edges_that_are_there_by_the_names_of_their_fields() -> None:
    desc = ToyBranch(main=MAIN, mask=MaskOf(RunRef(BRANCH)), other=state_of(MAIN, 7))

    assert desc.sources() == {"mask": MaskOf(RunRef(BRANCH)), "other": StateOf(RunRef(MAIN), step(7))}
    assert MAIN.sources() == {}


def test_an_edge_counts_by_the_digest_of_its_run_its_step_and_its_replicate() -> None:
    assert BRANCH.canonical["state"] == {"run": MAIN.digest, "step": "3it"}
    variants = [
        BRANCH,
        ToyBranch(main=MAIN, state=state_of(MAIN, 4)),
        ToyBranch(main=MAIN, state=state_of(MAIN, 3, replicate=2)),
        ToyBranch(main=MAIN, other=state_of(MAIN, 3)),
        ToyBranch(main=MAIN, state=state_of(ToyDesc(training=ToyHparams(rate=0.9)), 3)),
        ToyBranch(main=MAIN),
    ]
    assert len({desc.digest for desc in variants}) == len(variants)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("11it", r"at_step: 11it is after the last step of the run; choose 0it to 10it\."),
        ("x", "at_step: 'x' is not a step"),
    ],
)
def test_a_state_at_a_step_that_the_run_does_not_have_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        StateOf.at(RunRef(MAIN), text, "at_step")


@given(
    rate=st.floats(0, 10),
    length=st.integers(0, 30),
    iteration=st.integers(0, 10),
    replicate=st.none() | st.integers(1, 9),
    has_mask=st.booleans(),
)
@settings(deadline=None)
def test_a_description_reads_back_from_its_record(
    rate: float, length: int, iteration: int, replicate: int | None, has_mask: bool
) -> None:
    main = ToyDesc(training=ToyHparams(rate=rate, length=f"{length}it"))
    parent = ToyBranch(main=main, state=state_of(main, iteration))
    mask = MaskOf(RunRef(parent)) if has_mask else None
    desc = ToyBranch(main=main, mask=mask, state=state_of(parent, iteration, replicate))
    record = json.loads(json.dumps(desc.record()))

    read_main = ToyDesc.from_record(record["main"], None, {})
    read = ToyBranch.from_record(record, read_main, {parent.digest: parent})

    assert read == desc
    assert read.digest == desc.digest == digest(record["kind"], record["canonical"])


def test_a_name_outside_ascii_stands_in_the_canonical_form_as_it_is() -> None:
    assert canonical_json({"name": "Größe 重み"}) == '{"name":"Größe 重み"}'
    assert digest("train", {"name": "Größe 重み"}) == "88ca371272660d110e91250fba100b56"
