"""Branches that train the weights that their method draws, and branches that prune to an effective density."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from branches.kinds import load_ref
from branches.lottery.lottery import Lottery, LotteryHparams
from foundations.description.desc import RunRef
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.methods.ntk_sap import NTK_SAP, Draws
from tests.branches.small_branches import describe, mask_of, ref_of
from tests.training.small_runs import context, train_desc
from training.jobs.compute import complete

DRAWN: dict[str, Any] = {"strategy": "ntk_sap", "density": 0.3, "ntk_batch_size": 5, "prune_iterations": 2}


def test_the_last_draw_is_the_first_state_of_the_branch_and_stands_in_its_description(
    tmp_path: Path, digits: Path
) -> None:
    desc, place = describe("oneshot", ntk_keep_draw=True, **DRAWN), context(tmp_path, digits)

    run = complete(desc, place).run

    state, mask = run.load_state(desc.start), mask_of(run)
    for name, kept in mask.items():
        drawn = Draws(1, "kaiming_normal").weight(1, 0, name, state[name])
        assert torch.equal(state[name], drawn * kept)
    assert desc.state is None
    record = run.record()
    assert record["hyperparameters"]["pruning"]["ntk_keep_draw"] is True
    assert set(record["sources"]) == {"scored"}
    assert load_ref(run, 1).desc == desc


def test_without_it_the_run_trains_its_own_weights_with_the_same_mask(tmp_path: Path, digits: Path) -> None:
    kept, own = (describe("oneshot", ntk_keep_draw=keep, **DRAWN) for keep in (True, False))
    place = context(tmp_path, digits)
    drawn, plain = complete(kept, place).run, complete(own, place).run
    assert kept.digest != own.digest
    assert mask_of(drawn) == mask_of(plain)
    initial = complete(own.main, place).run.load_state(own.main.start)
    for name, keeps in mask_of(plain).items():
        assert torch.equal(plain.load_state(own.start)[name], initial[name] * keeps)


def test_no_other_weights_can_be_asked_for_beside_the_draw() -> None:
    other = RunRef(train_desc(lr=0.5))
    drawn = {**DRAWN, "ntk_keep_draw": True}
    others: list[dict[str, Any]] = [{"state_experiment": other}, {"state_step": "2it"}]
    for flags in others:
        with pytest.raises(UsageError, match=f"ntk_keep_draw, {next(iter(flags))}: it trains from the weights"):
            describe("oneshot", **flags, **drawn)
    with pytest.raises(UsageError, match="ntk_keep_draw, reinitialize: .* give one of them"):
        describe("oneshot", reinitialize=True, **drawn)
    for name in ("lottery_rewind", "finetune"):
        with pytest.raises(UsageError, match="ntk_keep_draw: this branch trains the state of a run"):
            describe(name, **drawn)
    with pytest.raises(UsageError, match="ntk_keep_draw: gmp prunes the weights that it trains"):
        describe("gmp", **drawn)
    assert describe("oneshot", state_experiment=RunRef(train_desc()), state_step="0ep", **drawn).state is None
    assert describe("oneshot", ntk_keep_draw=True, **{**DRAWN, "density": 1.0}).state is not None


def test_a_method_with_options_of_another_that_sets_no_weights_refuses_to_keep_the_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    derived = dataclasses.replace(NTK_SAP, set_weights=None)
    monkeypatch.setattr(PruningHparams, "method", property(lambda _: derived))
    with pytest.raises(UsageError, match="ntk_keep_draw: 'ntk_sap' declares no set_weights"):
        describe("oneshot", ntk_keep_draw=True, **DRAWN)
    assert describe("oneshot", **DRAWN).state is not None


def test_a_control_of_the_weights_before_pruning_is_refused_for_a_drawn_parent() -> None:
    parent = RunRef(describe("oneshot", ntk_keep_draw=True, **DRAWN))
    with pytest.raises(UsageError, match="no run keeps them"):
        describe("randomly_prune", parent, randomize="layerwise")


def test_a_branch_of_an_effective_density_reports_what_was_asked_for_and_found(tmp_path: Path, digits: Path) -> None:
    desc, place = describe("oneshot", strategy="random", effective_density=0.1), context(tmp_path, digits)

    outcome = complete(desc, place)

    report = outcome.run.sparsity()
    assert report is not None
    wanted = math.ceil(0.1 * report["total"])
    assert report["requested_effective"]["kept"] == wanted
    assert wanted <= report["effective"]["kept"] < wanted + 20
    assert report["requested"] == report["achieved"]
    assert outcome.manifest.results["effective_sparsity"] == report["effective"]["sparsity"]
    assert outcome.manifest.results["density"] == mask_of(outcome.run).density
    assert desc.canonical["pruning"]["effective_density"] == 0.1
    assert ref_of(outcome.run).desc == desc


def test_levels_that_are_shares_of_all_weights_take_no_effective_density() -> None:
    pruning = PruningHparams.of({"effective_density": 0.1})
    with pytest.raises(UsageError, match="effective_density: the levels say how much"):
        Lottery(train_desc(), pruning, LotteryHparams())
    with pytest.raises(UsageError, match="effective_density: gmp prunes to shares"):
        describe("gmp", effective_density=0.1)
    with pytest.raises(UsageError, match="effective_density: a chain has several levels"):
        describe("chain", strategy="phew", sparsities="0.5,0.8", effective_density=0.1)
    with pytest.raises(UsageError, match="an outcome of its effective density"):
        describe("randomly_prune", RunRef(describe("oneshot", effective_density=0.1)), randomize="even")
