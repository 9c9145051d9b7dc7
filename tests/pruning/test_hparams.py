from __future__ import annotations

import time
from typing import Any

import pytest

from foundations.description.hparams import help_of
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.registry import METHODS


def address(**given: Any) -> dict[str, Any]:
    return PruningHparams.of(given).normalized(10).canonical()


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
        {"strategy": "snip10", "score_examples": "drawn"},
        {"strategy": "synflow", "score_in_train_mode": True},
        {"strategy": "magnitude", "invert_scores": True},
        {"strategy": "snip10", "score_batch_size": 5},
        {"strategy": "snip10", "score_per_batch": True},
        {"strategy": "snip10", "score_in_eval_mode": True},
        {"strategy": "snip10", "allocation": "erk"},
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
    hparams = PruningHparams.of({"strategy": "snip10", "density": 1 / 3, "prune_iterations": 3}).normalized(10)
    assert hparams.normalized(10) == hparams


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strategy": "synp10"}, "strategy: 'synp10' is not a valid value. Did you mean 'snip"),
        ({"strategy": "snip0"}, "strategy: 'snip0' is not a valid value"),
        ({"strategy": "snip"}, "[Cc]hoose from random, magnitude, snipN"),
        ({"prune_fraction": 1.01}, "prune_fraction: 1.01 is not a valid value; it must be at least 0 and at most 1"),
        ({"prune_fraction": -0.1}, "prune_fraction: -0.1 is not a valid value"),
        ({"density": 2.0}, "density: 2.0 is not a valid value"),
        ({"density": float("nan")}, "density: nan is not a valid value"),
        ({"compression": 0.9}, "compression: 0.9 is not a valid value; it must be at least 1"),
        ({"prune_fraction": 0.8, "density": 0.3}, "prune_fraction, density: they are prune fractions of 0.8 and 0.7"),
        ({"prune_highest": True, "prune_lowest": True}, "prune_highest, prune_lowest: give one of them"),
        ({"prune_schedule": "exponent"}, "prune_schedule: 'exponent' is not a valid value. Did you mean 'exponential'"),
        ({"allocation": "erc"}, "allocation: 'erc' is not a valid value"),
        ({"prune_iterations": 0}, "prune_iterations: 0 is not a valid value; it must be at least 1"),
        ({"strategy": "phew", "prune_highest": True}, "prune_highest: phew builds its mask without scores"),
        ({"strategy": "phew", "allocation": "erk"}, "allocation: phew spreads the weights by itself"),
        ({"strategy": "synflow", "synflow_means": "kept"}, "synflow_means: 'kept' is not a valid value"),
    ],
)
def test_mistakes_name_the_hyperparameter_and_what_is_valid(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PruningHparams.of(given)


@pytest.mark.parametrize(
    ("strategy", "own"),
    [
        ("magnitude", set()),
        (
            "snip10",
            {"score_batch_size", "score_in_eval_mode", "score_examples", "score_batches_equally", "score_per_batch"},
        ),
        ("taylor2", {"score_batch_size", "score_in_eval_mode", "score_examples"}),
        ("synflow", {"synflow_means", "score_in_train_mode"}),
        ("synflowl2", {"synflow_means", "score_in_train_mode", "synflowl2_as_published"}),
        ("phew", {"phew_kernels", "phew_bias", "phew_fill_1x1"}),
    ],
)
def test_the_strategy_selects_the_methods_own_options_with_their_help(strategy: str, own: set[str]) -> None:
    hparams = PruningHparams.of({"strategy": strategy})
    assert set(hparams.names()) - set(PruningHparams.names()) == own
    assert all(help_of(type(hparams)).values())


def test_options_of_other_methods_are_left_out() -> None:
    assert not hasattr(PruningHparams.of({"strategy": "snip10", "synflow_means": "stored"}), "synflow_means")


def test_another_strategy_brings_its_own_options() -> None:
    replaced = PruningHparams.of({"density": 0.1}).replaced({"strategy": "phew", "phew_kernels": True})
    assert replaced == PruningHparams.of({"strategy": "phew", "phew_kernels": True, "density": 0.1})


@pytest.mark.parametrize("strategy", ["snip10", "synflow", "phew"])
def test_a_strategy_with_options_of_its_own_is_not_built_without_them(strategy: str) -> None:
    with pytest.raises(UsageError, match=r"strategy: .* has the hyperparameters of .*PruningHparams\.of"):
        PruningHparams(strategy=strategy)


def test_only_random_draws_and_chosen_examples_depend_on_the_seed() -> None:
    depend = {m.spelling for m in METHODS if PruningHparams.of({"strategy": m.spelling.replace("N", "2")}).uses_seed}
    assert depend == {"random", "phew", "ntk_sap", *(method.spelling for method in METHODS if method.needs_examples)}
    assert not PruningHparams(strategy="random", prune_fraction=0.0).uses_seed


def test_the_version_of_a_method_is_in_the_address_once_results_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = address(strategy="snip10")
    monkeypatch.setitem(METHODS.find("snip10").__dict__, "version", 2)
    assert address(strategy="snip10") == {**before, "strategy_version": 2}


def test_describing_a_pruning_again_takes_well_under_100_microseconds() -> None:
    values = {"strategy": "snip10", "density": 0.1, "prune_iterations": 5, "allocation": "erk", "lr": 0.1}
    times = []
    for _ in range(300):
        begin = time.thread_time()
        address(**values)
        times.append(time.thread_time() - begin)
    assert min(times) < 100e-6
