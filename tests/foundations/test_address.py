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

from foundations.address import Desc, canonical_json, digest
from foundations.errors import DamagedError, UsageError
from foundations.hparams import hparam
from tests.conftest import REPOSITORY
from tests.foundations.descriptions import Cooking, Leftovers, Meal

trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def later_class(**fields):
    """Return Cooking as a later version of the code might declare it, with a further or changed hyperparameter."""
    made = dataclasses.make_dataclass(
        "Cooking",
        [(name, type_, default) for name, (type_, default) in fields.items()],
        bases=(Cooking,),
        frozen=True,
        kw_only=True,
    )

    @dataclass(frozen=True, kw_only=True)
    class LaterMeal(Meal):
        cooking: Cooking = field(default_factory=made)

    return made, LaterMeal


def test_the_digest_is_the_beginning_of_the_sha256_of_kind_schema_and_canonical_form():
    text = '{"description":{"a":{"lr":0.1}},"kind":"train","schema":1}'

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
    script = "from tests.foundations.descriptions import Meal, Leftovers; print(Leftovers(parent=Meal()).digest)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=REPOSITORY, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert done.stdout.strip() == Leftovers(parent=Meal()).digest


@pytest.mark.parametrize("until", ["2ep", "10it", "1ep5it", "0ep10it"])
@pytest.mark.parametrize("heat", [0.5, 5e-1])
def test_every_spelling_has_one_address(until, heat):
    assert Meal(cooking=Cooking(until=until, heat=heat)).digest == Meal().digest


def test_an_integer_and_a_float_of_one_value_have_one_address():
    assert Meal(cooking=Cooking(heat=1)).digest == Meal(cooking=Cooking(heat=1.0)).digest
    assert Meal(cooking=Cooking(heat=-0.0)).digest == Meal(cooking=Cooking(heat=0)).digest


def test_a_value_that_is_no_number_has_no_address():
    with pytest.raises(UsageError, match="--heat: nan is not possible"):
        Meal(cooking=Cooking(heat=float("nan")))


def test_a_branch_counts_its_parent_by_its_digest():
    hot = Meal(cooking=Cooking(heat=0.9))

    assert Leftovers(parent=Meal()).canonical()["parent"] == Meal().digest
    assert Leftovers(parent=hot).digest != Leftovers(parent=Meal()).digest


def test_a_version_stands_in_the_address_when_it_is_not_1():
    @dataclass(frozen=True, kw_only=True)
    class Versioned(Meal):
        number: ClassVar[int] = 1

        def versions(self):
            return {"train": self.number}

    first = Versioned().digest
    Versioned.number = 2

    assert first == Meal().digest
    assert Versioned().digest != first


def test_a_hyperparameter_that_is_added_later_moves_no_address():
    _, later = later_class(salt=(float, hparam(0.25)))

    assert later().digest == Meal().digest


def test_a_later_hyperparameter_at_another_value_has_another_address():
    made, later = later_class(salt=(float, hparam(0.25)))

    assert later(cooking=made(salt=0.5)).digest != Meal().digest


def test_a_default_that_changes_with_its_elided_value_kept_moves_no_address():
    made, later = later_class(heat=(float, hparam(0.8, elided=0.5)))

    assert later(cooking=made(heat=0.5)).digest == Meal().digest
    assert later().digest == Meal(cooking=Cooking(heat=0.8)).digest


def test_a_run_of_before_a_hyperparameter_was_added_answers_for_its_elided_value(tmp_path):
    _, later = later_class(salt=(float, hparam(0.25)))

    later().refuse_mismatch(Meal().record(), tmp_path)


def test_a_default_that_changed_without_its_elided_value_is_refused_under_the_same_address(tmp_path):
    _, careless = later_class(heat=(float, hparam(0.8)))
    assert careless().digest == Meal().digest

    with pytest.raises(DamagedError, match=r"--heat=0\.5; 0\.8 was asked for under the same address"):
        careless().refuse_mismatch(Meal().record(), tmp_path)


def test_a_hyperparameter_that_is_not_known_any_more_is_refused(tmp_path):
    _, later = later_class(salt=(float, hparam(0.25)))

    with pytest.raises(DamagedError, match="--salt"):
        Meal().refuse_mismatch(later().record(), tmp_path)


def test_a_branch_of_another_parent_is_refused(tmp_path):
    stored = Leftovers(parent=Meal(cooking=Cooking(heat=0.9))).record()

    with pytest.raises(DamagedError, match="--parent"):
        Leftovers(parent=Meal()).refuse_mismatch(stored, tmp_path)


def test_a_record_holds_all_hyperparameters_as_plain_data():
    record = json.loads(json.dumps(Meal().record()))

    assert record["hyperparameters"] == {"cooking": {"dish": "soup", "heat": 0.5, "until": "10it"}}
    assert record["digest"] == digest(record["kind"], record["canonical"]) == Meal().digest


def test_descriptions_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Meal().cooking = Cooking()


def test_every_description_is_abstract_about_its_place():
    assert issubclass(Meal, Desc)
    assert str(Meal().location(2)) == f"train_{Meal().digest}/replicate_2/main"
