"""Finding declarations in files by name."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from branches.registry import BRANCHES
from foundations.errors import UsageError
from foundations.registry import Registered, Registry, load
from pruning.registry import ALLOCATIONS, METHODS
from training.registry import LR_SCHEDULES, TECHNIQUES


@dataclass(frozen=True, kw_only=True, eq=False)
class Toy(Registered):
    weight: int = 1


def module_of(**declared: object) -> ModuleType:
    made = ModuleType("declared")
    vars(made).update(declared)
    return made


def registry_of(*toys: Toy) -> Registry[Toy]:
    registry = Registry(Toy, "toy", ())
    registry.register(module_of(**{str(number): toy for number, toy in enumerate(toys)}))
    return registry


BALL, SNIP = Toy(spelling="ball"), Toy(spelling="snipN", pattern=r"snip(?P<examples>[1-9]\d*)", examples=("snip10",))


def test_a_name_is_found_by_its_spelling_or_by_its_pattern_with_what_it_says() -> None:
    registry = registry_of(BALL, SNIP)

    assert registry.find("ball") is BALL
    assert registry.match("snip10") == (SNIP, {"examples": "10"})
    assert "snip7" in registry
    assert "snip0" not in registry
    assert 3 not in registry


def test_a_name_of_the_first_module_is_found_without_importing_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foundations.registry._PLUGINS", {})  # those that other tests have added need all modules
    registry = Registry(Toy, "toy", (__name__, "toys_that_do_not_exist"))

    assert registry.find("snip7") is SNIP
    assert registry.spelled("ball") is BALL
    assert list(map(registry.has, ("ball", "snip3"))) == [True, True]
    with pytest.raises(ModuleNotFoundError):
        registry.spelled("cube")
    with pytest.raises(ModuleNotFoundError):
        list(registry)


def test_a_pattern_must_fit_the_whole_name_and_a_spelling_is_no_pattern() -> None:
    registry = registry_of(Toy(spelling="a.c"), SNIP)

    assert "abc" not in registry
    assert "snip10x" not in registry


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bell", "toy: 'bell' is not a valid value. Did you mean 'ball'? Choose from ball, snipN."),
        ("snap10", "toy: 'snap10' is not a valid value. Did you mean 'snip10'? Choose from ball, snipN."),
        ("snip0", "toy: 'snip0' is not a valid value. Did you mean 'snip10'? Choose from ball, snipN."),
        ("zzz", "toy: 'zzz' is not a valid value; choose from ball, snipN."),
    ],
)
def test_a_name_that_is_not_there_is_refused_with_those_that_are(name: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        registry_of(BALL, SNIP).find(name)

    assert str(refusal.value) == message


@pytest.mark.parametrize("name", ["sphere", "SPHERE", "round-thing", "round_thing_3", "rolling"])
def test_a_name_that_others_give_an_entry_suggests_it(name: str) -> None:
    @dataclass(frozen=True, kw_only=True, eq=False)
    class Told(Registered):
        summary: str

    ball = Told(spelling="ball", summary="a thing for rolling", known_as=("sphere", "round_thing"))
    registry = Registry(Told, "toy", ())
    registry.register(module_of(ball=ball, cube=Told(spelling="cube", summary="a thing with edges")))

    with pytest.raises(UsageError, match=r"toy: '.*' is not a valid value\. Did you mean 'ball'\? Choose"):
        registry.find(name)


@pytest.mark.parametrize(
    ("registry", "name", "words"),
    [
        (TECHNIQUES, "sparse_momentum", "Did you mean 'snfs'?"),
        (TECHNIQUES, "gradual-magnitude-pruning", "Did you mean 'gmp'?"),
        (TECHNIQUES, "Sparse Evolutionary Training", "Did you mean 'set'?"),
        (TECHNIQUES, "dettmers", "Did you mean 'snfs'?"),
        (METHODS, "iterative_snip", "Did you mean 'forceN'?"),
        (METHODS, "Optimal_Brain_Damage", "Did you mean 'hutchinsonN'?"),
        (ALLOCATIONS, "erdos_renyi_kernel", "Did you mean 'erk'?"),
        (LR_SCHEDULES, "cosine_annealing", "Did you mean 'cosine'?"),
        (BRANCHES, "sparse_rebasin", "Did you mean 'transplant'?"),
        (TECHNIQUES, "snip10", "'snip10' is not a valid value: it is a strategy; choose from acdc"),
        (METHODS, "rigl", "'rigl' is not a valid value: it is a technique; choose from random"),
        (METHODS, "lamp", "'lamp' is not a valid value: it is an allocation; choose"),
        (ALLOCATIONS, "synaptic_flow", "'synaptic_flow' is not a valid value: it is a strategy; choose"),
    ],
)
def test_methods_are_suggested_by_their_names_in_papers(registry: Registry[Any], name: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        registry.find(name)


def test_no_name_that_others_give_a_method_is_the_name_of_another() -> None:
    for registry in (TECHNIQUES, METHODS, ALLOCATIONS, LR_SCHEDULES, BRANCHES):
        for entry in registry:
            assert not [name for name in entry.known_as if name in registry]


def test_files_are_imported_when_something_is_looked_up_and_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("toy_one", "toy_two"):
        (tmp_path / f"{name}.py").write_text(
            f"from tests.foundations.test_registry import Toy\nTOY = Toy(spelling='{name}')\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry(Toy, "toy", ("toy_two", "toy_one"))
    assert "toy_one" not in sys.modules

    assert registry.spellings() == ["toy_two", "toy_one"]
    assert load("toy_one:TOY") is registry.find("toy_one")


def test_a_file_that_cannot_be_imported_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_broken.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry(Toy, "toy", ("toy_broken",))

    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            registry.find("ball")


def test_what_a_file_only_imports_is_not_declared_twice() -> None:
    registry = registry_of(BALL)

    registry.register(module_of(BALL=BALL, OTHER=SNIP, NUMBER=3))

    assert list(registry) == [BALL, SNIP]


def test_two_declarations_of_one_spelling_are_refused() -> None:
    with pytest.raises(UsageError, match="'ball' is declared twice"):
        registry_of(BALL, Toy(spelling="ball"))
