"""Descriptions: their edges, their records and the way back."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundations.description.address import digest
from foundations.description.desc import Desc, MaskOf, RunRef, StateOf, check_record
from foundations.description.hparams import hparam
from foundations.errors import DamagedError, UsageError
from tests.conftest import REPOSITORY
from tests.foundations.toy_descriptions import ToyBranch, ToyDesc, ToyHparams, state_of, step

MAIN = ToyDesc()
BRANCH = ToyBranch(main=MAIN, state=state_of(MAIN, 3))


def later_classes(**fields: tuple[type, Any]) -> tuple[type[ToyHparams], type[ToyDesc]]:
    """Return ToyHparams as later code may declare it, with a new or changed hyperparameter, and its description."""
    hparams: type[ToyHparams] = dataclasses.make_dataclass(
        "ToyHparams",
        [(name, type_, default) for name, (type_, default) in fields.items()],
        bases=(ToyHparams,),
        frozen=True,
        kw_only=True,
    )

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class LaterDesc(ToyDesc):
        training: ToyHparams = dataclasses.field(default_factory=hparams)

    return hparams, LaterDesc


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


def test_a_description_has_the_same_digest_in_another_process() -> None:
    script = "from tests.foundations.toy_descriptions import *; print(ToyBranch(main=ToyDesc()).digest)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=REPOSITORY, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert done.stdout.strip() == ToyBranch(main=ToyDesc()).digest


@pytest.mark.parametrize("length", ["2ep", "10it", "1ep5it", "0ep10it"])
@pytest.mark.parametrize("rate", [0.5, 5e-1])
def test_every_spelling_has_one_address(length: str, rate: float) -> None:
    assert ToyDesc(training=ToyHparams(length=length, rate=rate)).digest == ToyDesc().digest


def test_an_integer_and_a_float_of_one_value_have_one_address() -> None:
    assert ToyDesc(training=ToyHparams(rate=1)).digest == ToyDesc(training=ToyHparams(rate=1.0)).digest
    assert ToyDesc(training=ToyHparams(rate=-0.0)).digest == ToyDesc(training=ToyHparams(rate=0)).digest


def test_a_value_that_is_no_number_has_no_address() -> None:
    with pytest.raises(UsageError, match="rate: nan is not a valid value"):
        ToyDesc(training=ToyHparams(rate=float("nan")))


def test_a_branch_counts_its_main_run_by_its_digest() -> None:
    hot = ToyDesc(training=ToyHparams(rate=0.9))

    assert ToyBranch(main=ToyDesc()).canonical["main"] == ToyDesc().digest
    assert ToyBranch(main=hot).digest != ToyBranch(main=ToyDesc()).digest


def test_a_version_stands_in_the_address_when_it_is_not_1() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Versioned(ToyDesc):
        number: ClassVar[int] = 1

        def versions(self) -> dict[str, int]:
            return {"train": self.number}

    first = Versioned().digest
    Versioned.number = 2

    assert first == ToyDesc().digest
    assert Versioned().digest != first


def test_a_hyperparameter_that_is_added_later_moves_no_address() -> None:
    _, later = later_classes(salt=(float, hparam(0.25)))

    assert later().digest == ToyDesc().digest


def test_a_later_hyperparameter_at_another_value_has_another_address() -> None:
    hparams, later = later_classes(salt=(float, hparam(0.25)))

    assert later(training=hparams.of({"salt": 0.5})).digest != ToyDesc().digest


def test_a_default_that_changes_with_its_elided_value_kept_moves_no_address() -> None:
    hparams, later = later_classes(rate=(float, hparam(0.8, elided=0.5)))

    assert later(training=hparams(rate=0.5)).digest == ToyDesc().digest
    assert later().digest == ToyDesc(training=ToyHparams(rate=0.8)).digest


def test_a_run_from_before_a_hyperparameter_was_added_has_its_elided_value(tmp_path: Path) -> None:
    _, later = later_classes(salt=(float, hparam(0.25)))

    later().check_record(ToyDesc().record(), tmp_path)


def test_a_default_that_changed_without_its_elided_value_is_refused_under_the_same_address(tmp_path: Path) -> None:
    _, careless = later_classes(rate=(float, hparam(0.8)))
    assert careless().digest == ToyDesc().digest

    with pytest.raises(DamagedError, match=r"rate=0\.5; 0\.8 was asked for under the same address"):
        careless().check_record(ToyDesc().record(), tmp_path)


def test_a_hyperparameter_that_is_not_known_any_more_is_refused(tmp_path: Path) -> None:
    _, later = later_classes(salt=(float, hparam(0.25)))

    with pytest.raises(DamagedError, match="salt"):
        ToyDesc().check_record(later().record(), tmp_path)


def test_the_record_of_a_branch_of_another_main_run_is_refused(tmp_path: Path) -> None:
    stored, asked_for = ToyBranch(main=ToyDesc(training=ToyHparams(rate=0.9))), ToyBranch(main=ToyDesc())

    with pytest.raises(DamagedError, match="does not describe the directory that it is in"):
        check_record(stored.record(), asked_for.location(1).under(tmp_path))


def test_a_record_holds_all_hyperparameters_as_plain_data() -> None:
    record = json.loads(json.dumps(ToyDesc().record()))

    assert record["hyperparameters"] == {"training": {"name": "sgd", "rate": 0.5, "length": "10it"}}
    assert record["digest"] == digest(record["kind"], record["canonical"]) == ToyDesc().digest


def test_descriptions_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ToyDesc().training = ToyHparams()  # type: ignore[misc]


def test_a_description_knows_where_its_run_is() -> None:
    assert str(ToyDesc().location(2)) == f"train_{ToyDesc().digest}/replicate_2/main"
