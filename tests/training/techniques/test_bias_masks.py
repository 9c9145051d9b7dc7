"""Biases of units without weights, in runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foundations.errors import UsageError
from foundations.storage.run import Run
from pruning.masks.mask import Mask
from tests.training.small_runs import context, oneshot_desc, train_desc
from training.context import Context
from training.jobs.compute import complete

LAYERS = ("fc_layers.0", "fc")


def dead_units(mask: Mask) -> dict[str, torch.Tensor]:
    return {layer: ~mask[f"{layer}.weight"].any(1) for layer in LAYERS}


def biases(run: Run, at: str) -> dict[str, torch.Tensor]:
    state = run.load_state(train_desc().step(at))
    return {layer: state[f"{layer}.bias"] for layer in LAYERS}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Context:
    return context(tmp_path_factory.mktemp("runs"), digits)


def test_units_without_weights_have_no_bias_from_the_first_step_to_the_last(place: Context) -> None:
    flags: dict[str, Any] = {"density": 0.01, "seed": 1}
    run = complete(oneshot_desc("random", **flags, technique="bias_masks"), place).run
    plain = complete(oneshot_desc("random", **flags), place).run
    mask = Mask.from_tensors(*run.load_mask())
    dead = dead_units(mask)

    assert dead["fc_layers.0"].any()
    assert mask == Mask.from_tensors(*plain.load_mask())
    for at in ("0it", "18it"):
        for layer, bias in biases(run, at).items():
            assert not bias[dead[layer]].any()
            assert bias[~dead[layer]].all()
        assert biases(plain, at)["fc_layers.0"][dead["fc_layers.0"]].all()


def test_they_follow_a_mask_that_changes(place: Context) -> None:
    desc = train_desc(technique="gmp,bias_masks", gmp_density=0.01, gmp_frequency="2it")
    run = complete(desc, place).run
    dead = dead_units(Mask.from_tensors(*run.load_mask()))

    assert dead["fc_layers.0"].any()
    assert biases(run, "0it")["fc_layers.0"].all()
    assert all(not bias[dead[layer]].any() for layer, bias in biases(run, "18it").items())


def test_without_a_mask_there_is_nothing_that_says_which() -> None:
    with pytest.raises(UsageError, match="^technique: bias_masks needs a mask"):
        train_desc(technique="bias_masks")
