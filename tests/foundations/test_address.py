import dataclasses
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundations.address import canonical_json, digest
from foundations.desc import check_record
from foundations.errors import DamagedError, UsageError
from foundations.hparams import hparam
from tests.conftest import REPOSITORY
from tests.foundations.toy_descriptions import ToyBranch, ToyDesc, ToyHparams

trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def later_class(**fields):
    """Return ToyHparams as a later version of the code might declare it, with a further or changed hyperparameter."""
    made = dataclasses.make_dataclass(
        "ToyHparams",
        [(name, type_, default) for name, (type_, default) in fields.items()],
        bases=(ToyHparams,),
        frozen=True,
        kw_only=True,
    )

    @dataclass(frozen=True, kw_only=True)
    class LaterDesc(ToyDesc):
        training: ToyHparams = field(default_factory=made)

    return made, LaterDesc


def test_the_digest_is_the_beginning_of_the_sha256_of_kind_schema_and_canonical_form():
    text = '{"description":{"a":{"lr":0.1}},"kind":"train","schema":2}'

    assert digest("train", {"a": {"lr": 0.1}}) == hashlib.sha256(text.encode()).hexdigest()[:32]


@given(st.dictionaries(st.text(), trees, max_size=5), st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order_of_keys(tree, random):
    shuffled = dict(random.sample(list(tree.items()), len(tree)))

    assert digest("train", shuffled) == digest("train", tree)


@given(st.dictionaries(st.text(), trees, max_size=5))
def test_canonical_json_reads_back(tree):
    assert json.loads(canonical_json(tree)) == tree


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_json_has_no_word_for_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest("train", {"lr": value})


def test_the_kind_is_part_of_the_address():
    assert digest("train", {}) != digest("oneshot", {})


def test_the_digest_is_the_same_in_another_process():
    script = "from tests.foundations.toy_descriptions import *; print(ToyBranch(main=ToyDesc()).digest)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=REPOSITORY, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert done.stdout.strip() == ToyBranch(main=ToyDesc()).digest


@pytest.mark.parametrize("length", ["2ep", "10it", "1ep5it", "0ep10it"])
@pytest.mark.parametrize("rate", [0.5, 5e-1])
def test_every_spelling_has_one_address(length, rate):
    assert ToyDesc(training=ToyHparams(length=length, rate=rate)).digest == ToyDesc().digest


def test_an_integer_and_a_float_of_one_value_have_one_address():
    assert ToyDesc(training=ToyHparams(rate=1)).digest == ToyDesc(training=ToyHparams(rate=1.0)).digest
    assert ToyDesc(training=ToyHparams(rate=-0.0)).digest == ToyDesc(training=ToyHparams(rate=0)).digest


def test_a_value_that_is_no_number_has_no_address():
    with pytest.raises(UsageError, match="rate: nan is not a valid value"):
        ToyDesc(training=ToyHparams(rate=float("nan")))


def test_a_branch_counts_its_parent_by_its_digest():
    hot = ToyDesc(training=ToyHparams(rate=0.9))

    assert ToyBranch(main=ToyDesc()).canonical["main"] == ToyDesc().digest
    assert ToyBranch(main=hot).digest != ToyBranch(main=ToyDesc()).digest


def test_a_version_stands_in_the_address_when_it_is_not_1():
    @dataclass(frozen=True, kw_only=True)
    class Versioned(ToyDesc):
        number: ClassVar[int] = 1

        def versions(self):
            return {"train": self.number}

    first = Versioned().digest
    Versioned.number = 2

    assert first == ToyDesc().digest
    assert Versioned().digest != first


def test_a_hyperparameter_that_is_added_later_moves_no_address():
    _, later = later_class(salt=(float, hparam(0.25)))

    assert later().digest == ToyDesc().digest


def test_a_later_hyperparameter_at_another_value_has_another_address():
    made, later = later_class(salt=(float, hparam(0.25)))

    assert later(training=made(salt=0.5)).digest != ToyDesc().digest


def test_a_default_that_changes_with_its_elided_value_kept_moves_no_address():
    made, later = later_class(rate=(float, hparam(0.8, elided=0.5)))

    assert later(training=made(rate=0.5)).digest == ToyDesc().digest
    assert later().digest == ToyDesc(training=ToyHparams(rate=0.8)).digest


def test_a_run_of_before_a_hyperparameter_was_added_answers_for_its_elided_value(tmp_path):
    _, later = later_class(salt=(float, hparam(0.25)))

    later().check_record(ToyDesc().record(), tmp_path)


def test_a_default_that_changed_without_its_elided_value_is_refused_under_the_same_address(tmp_path):
    _, careless = later_class(rate=(float, hparam(0.8)))
    assert careless().digest == ToyDesc().digest

    with pytest.raises(DamagedError, match=r"rate=0\.5; 0\.8 was asked for under the same address"):
        careless().check_record(ToyDesc().record(), tmp_path)


def test_a_hyperparameter_that_is_not_known_any_more_is_refused(tmp_path):
    _, later = later_class(salt=(float, hparam(0.25)))

    with pytest.raises(DamagedError, match="salt"):
        ToyDesc().check_record(later().record(), tmp_path)


def test_a_branch_of_another_parent_is_refused(tmp_path):
    stored, asked_for = ToyBranch(main=ToyDesc(training=ToyHparams(rate=0.9))), ToyBranch(main=ToyDesc())

    with pytest.raises(DamagedError, match="does not describe the directory that it is in"):
        check_record(stored.record(), asked_for.location(1).under(tmp_path))


def test_a_record_holds_all_hyperparameters_as_plain_data():
    record = json.loads(json.dumps(ToyDesc().record()))

    assert record["hyperparameters"] == {"training": {"name": "sgd", "rate": 0.5, "length": "10it"}}
    assert record["digest"] == digest(record["kind"], record["canonical"]) == ToyDesc().digest


def test_descriptions_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ToyDesc().training = ToyHparams()


def test_a_description_knows_where_its_run_is():
    assert str(ToyDesc().location(2)) == f"train_{ToyDesc().digest}/replicate_2/main"
