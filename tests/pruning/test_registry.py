from __future__ import annotations

import subprocess
import sys

import pytest

from pruning.registry import ALLOCATIONS, METHODS, SCHEDULES
from tests.conftest import REPOSITORY


def test_every_method_is_found_by_its_own_spelling_and_by_no_other() -> None:
    for method in METHODS:
        found, groups = METHODS.match(method.spelling.replace("N", "12"))
        assert found is method
        assert groups == ({"examples_per_class": "12"} if method.needs_examples else {})


def test_every_method_either_scores_weights_or_builds_a_mask() -> None:
    for method in METHODS:
        assert (method.score is None) == method.is_constructive
        assert method.paper


@pytest.mark.parametrize(
    ("name", "pruned"),
    [("snip10", "lowest scores"), ("grasp10", "highest scores"), ("phew", "all but its random walks")],
)
def test_a_method_says_in_words_what_it_prunes(name: str, pruned: str) -> None:
    assert METHODS.find(name).prunes == pruned


def test_layerwise_is_another_name_of_uniform() -> None:
    assert ALLOCATIONS.find("layerwise") is ALLOCATIONS.find("uniform")


def test_every_allocation_and_schedule_has_a_summary() -> None:
    assert all(entry.summary for registry in (ALLOCATIONS, SCHEDULES) for entry in registry)


def test_what_is_declared_imports_neither_torch_nor_numpy() -> None:
    code = """
import sys
from pruning.hparams import PruningHparams
from pruning.registry import ALLOCATIONS, METHODS, SCHEDULES
list(METHODS), list(ALLOCATIONS), list(SCHEDULES)
PruningHparams.of({"strategy": "snip10", "allocation": "erk"}).normalized(10).canonical()
print({"torch", "numpy", "torchvision"} & set(sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert result.stdout.strip() == "set()", result.stderr
