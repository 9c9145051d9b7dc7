"""Chains of masks: PHEW_Res and the like."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from branches.desc import BranchDesc
from branches.named.chain import ChainFlags, chain_levels
from foundations.description.desc import Desc, RunRef
from foundations.errors import UsageError
from foundations.plan import Target, plan
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from tests.branches.small_branches import describe, mask_of
from tests.training.small_runs import context, run_of, train_desc
from training.jobs.compute import execute

SIXTEEN = [0.982, 0.977, 0.972, 0.965, 0.956, 0.945, 0.931, 0.914, 0.893, 0.866, 0.832, 0.79, 0.738, 0.672, 0.59, 0.488]


def levels(parent: Desc, **flags: Any) -> dict[str, Desc]:
    own = {name: value for name, value in flags.items() if name in ChainFlags.names()}
    return chain_levels(RunRef(parent), PruningHparams.of(flags), ChainFlags.of(own), lambda desc: desc)


@pytest.mark.parametrize(
    ("model", "sparsities"),
    [
        ("digits_resnet_8", [0.95, 0.9, 0.7, 0.5]),
        pytest.param("cifar_resnet_20", SIXTEEN, marks=pytest.mark.slow),
    ],
)
def test_the_levels_of_phew_are_nested_exact_and_keep_the_dense_initialization(
    model: str, sparsities: list[float], tmp_path: Path, digits: Path
) -> None:
    place = context(tmp_path, digits)
    parent = train_desc(model_name=model, training_steps="0it", batch_size=1437)
    chain = levels(parent, strategy="phew", sparsities=",".join(map(str, sorted(sparsities))))
    assert list(map(float, chain)) == sparsities
    masks: list[Mask] = []
    execute(plan([Target(desc, place.replicate) for desc in chain.values()], place.root), place)
    dense = run_of(parent, place).load_state(parent.start)
    for text, desc in chain.items():
        run = run_of(desc, place)
        state, mask = run.load_state(desc.start), mask_of(run)
        masks.append(mask)
        assert mask.kept == round((1 - float(text)) * mask.total)
        for name, tensor in mask.items():
            assert torch.equal(state[name], dense[name] * tensor)
    for sparse, denser in itertools.pairwise(masks):
        assert sparse.intersection(denser) == sparse
        assert sparse.kept < denser.kept


def test_the_levels_are_by_default_the_sixteen_of_phew() -> None:
    assert list(map(float, levels(train_desc(), strategy="phew"))) == SIXTEEN


def test_a_level_has_the_address_of_the_branch_with_the_same_sources() -> None:
    chain = levels(train_desc(), strategy="phew", sparsities="0.5,0.9")
    sparse = describe("oneshot", strategy="phew", prune_fraction=0.9)
    denser = describe("oneshot", strategy="phew", prune_fraction=0.5, mask_experiment=RunRef(sparse))

    assert [desc.digest for desc in chain.values()] == [sparse.digest, denser.digest]


def test_methods_that_prune_go_from_the_densest_level_to_the_sparsest() -> None:
    chain = levels(train_desc(), strategy="snip1", sparsities="0.9,0.5")
    first, second = chain.values()

    assert list(chain) == ["0.5", "0.9"]
    assert isinstance(first, BranchDesc)
    assert isinstance(second, BranchDesc)
    assert second.mask is not None
    assert second.mask.run.desc is first


@pytest.mark.parametrize("text", ["", "half", "0.5,1", "0,0.5", "0.5,,0.9", "98.2"])
def test_levels_are_fractions(text: str) -> None:
    with pytest.raises(UsageError, match="^sparsities: .*(is not a fraction above 0 and below 1|names nothing)"):
        levels(train_desc(), strategy="phew", sparsities=text)


def test_one_level_beside_several_is_refused() -> None:
    with pytest.raises(UsageError, match="a chain has several levels; use sparsities"):
        levels(train_desc(), strategy="phew", density=0.5)
