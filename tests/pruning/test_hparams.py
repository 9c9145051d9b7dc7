from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.registry import STRATEGIES, find_strategy


def address(**given: Any) -> dict[str, Any]:
    return PruningHparams(**given).normalized(10).canonical()


def test_equal_levels_are_one_address() -> None:
    addresses = [address(prune_fraction=0.8), address(density=0.2), address(compression=5), address()]
    assert addresses == [{"strategy": "magnitude", "prune_fraction": 0.8}] * 4


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"strategy": "grasp10", "prune_highest": True}, {"strategy": "grasp10"}),
        ({"strategy": "snip10", "prune_lowest": True}, {"strategy": "snip10"}),
        ({"strategy": "magnitude", "prune_iterations": 5, "prune_schedule": "linear"}, {"strategy": "magnitude"}),
        ({"strategy": "phew", "prune_iterations": 5}, {"strategy": "phew"}),
        ({"strategy": "snip10", "prune_schedule": "linear"}, {"strategy": "snip10"}),
        ({"strategy": "synflow", "score_batch_size": 5, "score_per_batch": True}, {"strategy": "synflow"}),
        ({"strategy": "synflow", "score_in_eval_mode": True}, {"strategy": "synflow"}),
        ({"strategy": "snip10", "synflow_means": "stored"}, {"strategy": "snip10"}),
        ({"strategy": "snip10", "allocation": "layerwise"}, {"strategy": "snip10", "allocation": "uniform"}),
        (
            {
                "strategy": "snip10",
                "prune_fraction": 0.0,
                "prune_iterations": 9,
                "allocation": "erk",
                "prune_highest": True,
                "score_batch_size": 3,
                "score_per_batch": True,
            },
            {"strategy": "snip10", "prune_fraction": 0.0},
        ),
    ],
)
def test_what_cannot_change_the_mask_is_not_in_the_address(given: dict[str, Any], same: dict[str, Any]) -> None:
    assert address(**given) == address(**same)


@pytest.mark.parametrize(
    "given",
    [
        {"strategy": "grasp10", "prune_lowest": True},
        {"strategy": "snip10", "prune_highest": True},
        {"strategy": "snip10", "prune_iterations": 5},
        {"strategy": "snip10", "prune_iterations": 5, "prune_schedule": "linear"},
        {"strategy": "snip10", "score_batch_size": 5},
        {"strategy": "snip10", "score_per_batch": True},
        {"strategy": "snip10", "score_in_eval_mode": True},
        {"strategy": "snip10", "allocation": "erk"},
        {"strategy": "snip10", "seed": 3},
        {"strategy": "synflow", "synflow_means": "stored"},
        {"strategy": "synflowl2", "synflowl2_as_published": True},
        {"strategy": "phew", "phew_kernels": True},
        {"strategy": "snip10", "density": 0.1},
        {"strategy": "snip20"},
    ],
)
def test_what_can_change_the_mask_is_in_the_address(given: dict[str, Any]) -> None:
    others = [address(strategy=strategy) for strategy in ("snip10", "grasp10", "synflow", "synflowl2", "phew")]
    assert address(**given) not in others


def test_normalizing_twice_is_normalizing_once() -> None:
    hparams = PruningHparams(strategy="snip10", density=1 / 3, prune_iterations=3).normalized(10)
    assert hparams.normalized(10) == hparams


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"strategy": "synp10"},
            r"--strategy: 'synp10' is not possible\. Did you mean 'snipN'\? Possible: random, mag",
        ),
        ({"strategy": "snip0"}, "--strategy: 'snip0' is not possible"),
        ({"strategy": "snip"}, "N: examples per class, such as snip10"),
        ({"prune_fraction": 1.01}, "--prune_fraction: 1.01 is not possible; it takes a number from 0 to 1"),
        ({"compression": 0.9}, "--compression: 0.9 is not possible; it takes a number of at least 1"),
        ({"prune_fraction": 0.8, "density": 0.3}, "--density: 0.3 disagrees with --prune_fraction: 0.8"),
        ({"prune_highest": True, "prune_lowest": True}, "--prune_highest: it excludes --prune_lowest"),
        ({"prune_schedule": "exponent"}, "--prune_schedule: 'exponent' is not possible. Did you mean 'exponential'"),
        ({"allocation": "erc"}, "--allocation: 'erc' is not possible"),
        ({"prune_iterations": 0}, "--prune_iterations: 0 is not possible"),
        ({"strategy": "phew", "prune_highest": True}, "--prune_highest: phew makes a mask without scores"),
        ({"strategy": "phew", "allocation": "erk"}, "--allocation: phew spreads the weights by itself"),
    ],
)
def test_mistakes_name_the_flag_and_what_is_possible(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PruningHparams(**given)


def test_only_what_draws_or_chooses_examples_follows_the_seed() -> None:
    assert PruningHparams(strategy="random").uses_seed
    assert PruningHparams(strategy="snip10").uses_seed
    assert PruningHparams(strategy="phew").uses_seed
    assert not PruningHparams(strategy="magnitude").uses_seed
    assert not PruningHparams(strategy="synflow").uses_seed
    assert not PruningHparams(strategy="random", prune_fraction=0.0).uses_seed


def test_every_strategy_is_found_by_its_own_spelling_and_by_no_other() -> None:
    for strategy in STRATEGIES:
        found = find_strategy(strategy.spelling.replace("N", "12"))
        assert found.spelling == strategy.spelling
        assert found.examples_per_class == (12 if strategy.needs_examples else None)


def test_neither_the_registry_nor_the_hyperparameters_import_torch() -> None:
    code = "import sys, pruning.hparams, pruning.registry; print({'torch', 'numpy'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert result.stdout.strip() == "set()"
