"""Techniques that change the network of a run: in states, masks, branches, tickets and replays."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.rows.run import StoredRun, open_run
from branches.desc import BranchDesc
from branches.imported.tickets import export_ticket, import_ticket
from foundations.description.desc import RunRef, StateOf
from foundations.description.step import Step
from foundations.errors import DamagedError, UsageError
from foundations.storage.run import Run
from pruning.masks.mask import Mask
from tests.branches.small_branches import describe, ref_of
from tests.training.small_runs import context, oneshot_desc, run_of, train_desc
from training.context import Context
from training.desc import TrainDesc
from training.hparams import TechniquesHparams
from training.jobs.compute import complete, ensure_states

RESNET: dict[str, Any] = {"model_name": "digits_resnet_8_2", "training_steps": "2ep"}
SHORT: dict[str, Any] = {"prune_fraction": 0.0, "finetune_steps": "2it"}
SKIPS: dict[str, Any] = {"technique": "ghost_skips"}
FADING: dict[str, Any] = {
    "technique": "ghost_skips,soft_activation",
    "skip_fade_begin": "2it",
    "skip_fade_end": "10it",
    "soft_activation": "gelu",
    "soft_fade_end": "8it",
}


@pytest.fixture
def place(tmp_path: Path, digits: Path) -> Context:
    return context(tmp_path, digits)


def stored(run: Run, place: Context) -> StoredRun:
    return open_run(f"{run.location.digest}/1", place.root, place.datasets)


def with_techniques(desc: BranchDesc, **flags: Any) -> BranchDesc:
    return dataclasses.replace(desc, techniques=TechniquesHparams.of(flags))


def is_added(name: str) -> bool:
    return "jump" in name


def test_the_initialization_is_that_of_the_plain_network_and_the_added_parameters_are_drawn_from_the_run(
    place: Context,
) -> None:
    flags = {**RESNET, **SKIPS, "skip_init": "kaiming_normal"}
    begin = Step(0, 6)

    found, second, pinned = (
        ensure_states(train_desc(**flags, **more), dataclasses.replace(place, replicate=n), [begin]).load_state(begin)
        for n, more in ((1, {}), (2, {}), (2, {"technique_seed": 1}))
    )
    plain = ensure_states(train_desc(**RESNET), place, [begin]).load_state(begin)
    jumps = [state["blocks.0.conv_jump1.weight"] for state in (found, second, pinned)]

    assert plain.keys() == {name for name in found if not is_added(name)}
    assert all(torch.equal(found[name], tensor) for name, tensor in plain.items())
    assert not torch.equal(jumps[0], jumps[1])
    assert torch.equal(jumps[0], jumps[2])


def test_a_state_of_a_plain_network_is_trained_with_what_a_technique_adds(place: Context) -> None:
    desc = with_techniques(describe("finetune", RunRef(train_desc(**RESNET)), **SHORT), **SKIPS)

    run = complete(desc, place).run

    parent = complete(train_desc(**RESNET), place).run.load_state(Step(12, 6))
    first, last = run.load_state(desc.start), run.load_state(desc.end)
    assert all(torch.equal(first[name], tensor) for name, tensor in parent.items())
    assert bool((first["blocks.0.conv_jump1.weight"] == 1e-4).all())
    assert not torch.equal(first["blocks.0.conv_jump1.weight"], last["blocks.0.conv_jump1.weight"])


def test_scoring_sees_the_changed_network_and_its_parameters_are_pruned(place: Context) -> None:
    desc = oneshot_desc("synflow", RESNET, density=0.3, **SKIPS, skip_init="kaiming_normal")

    run = complete(desc, place).run

    mask = Mask.from_tensors(*run.load_mask())
    added = [name for name in mask if is_added(name)]
    assert len(added) == 6
    assert mask.kept == round(0.3 * mask.total)
    assert all(float(mask[name].float().mean()) > 0 for name in added)
    report = run.sparsity()
    assert report is not None
    assert report["effective"]["kept"] <= mask.kept


def test_the_masks_of_plain_and_of_changed_networks_fit_each_other(place: Context) -> None:
    plain, changed = (oneshot_desc("magnitude", RESNET, density=0.3, **more) for more in ({}, SKIPS))
    with_skips = with_techniques(describe("retrain", RunRef(plain)), **SKIPS)
    without = describe("retrain", RunRef(changed))

    masks = [Mask.from_tensors(*complete(d, place).run.load_mask()) for d in (plain, with_skips, changed, without)]

    assert masks[0] == masks[1]
    assert dict(masks[3]).keys() == {name for name in masks[2] if not is_added(name)}
    assert all(torch.equal(masks[3][name], masks[2][name]) for name in masks[3])
    kept = run_of(with_skips, place).load_state(with_skips.end)
    assert bool(kept["blocks.0.conv_jump1.weight"].all())
    assert not any(is_added(name) for name in run_of(without, place).load_state(without.end))


def test_a_state_of_a_smaller_network_is_refused_whatever_techniques_add(place: Context) -> None:
    larger, smaller = train_desc(**{**RESNET, "model_name": "digits_resnet_14_2"}), train_desc(**RESNET)
    desc = with_techniques(describe("finetune", RunRef(larger), **SHORT), **SKIPS)
    desc = dataclasses.replace(desc, state=StateOf(RunRef(smaller), smaller.start))

    with pytest.raises(DamagedError, match="not one of this model"):
        complete(desc, place)


@pytest.mark.parametrize("flags", [SKIPS, FADING], ids=["skips", "fading"])
def test_a_run_is_opened_replayed_and_branched_from(flags: dict[str, Any], place: Context) -> None:
    desc = train_desc(**RESNET, **flags)
    run = complete(desc, place).run
    address, step = stored(run, place), Step(7, 6)

    model = address.model(step, replay=True)
    branch = complete(with_techniques(describe("finetune", ref_of(run), **SHORT), **flags), place).run

    assert model.state_dict().keys() == address.state(step).keys() == branch.load_state(Step(2, 6)).keys()
    assert all(torch.equal(tensor, address.state(step)[name]) for name, tensor in model.state_dict().items())


def test_a_technique_that_fades_leaves_the_plain_network_and_says_so_in_each_state(place: Context) -> None:
    desc = train_desc(**RESNET, **FADING)
    run = complete(desc, place, [Step(4, 6)]).run
    address = stored(run, place)

    strengths: list[list[float]] = []
    for at in ("0it", "4it", "12it"):
        state = address.state(at)
        found: dict[str, Tensor] = {n: t for n, t in state.items() if n.endswith("_extra_state")}
        strengths.append([float(next(t for n, t in found.items() if part in n)) for part in ("jump", "act")])
    last, plain = address.model(), stored(complete(train_desc(**RESNET), place).run, place).model()
    plain.load_state_dict({name: t for name, t in last.state_dict().items() if name in plain.state_dict()})

    images = torch.rand(5, 1, 8, 8)
    assert strengths == [[1.0, 1.0], [0.75, 0.5], [0.0, 0.0]]
    assert torch.equal(last(images), plain(images))


def test_a_run_that_starts_late_begins_with_the_strength_of_its_first_step(place: Context) -> None:
    desc = with_techniques(oneshot_desc("random", RESNET, start_step="6it"), **FADING)

    run = complete(desc, place).run
    model = stored(run, place).model("8it", replay=True)

    first = run.load_state(Step(6, 6))
    assert float(first["blocks.0.bn_jump1._extra_state"]) == 0.5
    assert model.state_dict()["blocks.0.bn_jump1._extra_state"] == 0.25


@pytest.mark.parametrize("flags", [SKIPS, FADING], ids=["skips", "fading"])
def test_a_ticket_of_a_changed_network_comes_back_as_one(flags: dict[str, Any], place: Context, tmp_path: Path) -> None:
    run = complete(oneshot_desc("random", RESNET, density=0.5, **flags), place).run
    export_ticket(run, None, tmp_path / "ticket.safetensors")

    imported = import_ticket(tmp_path / "ticket.safetensors", place)

    model, images = stored(run, place).model(), torch.rand(5, 1, 8, 8)
    assert torch.equal(stored(imported, place).model()(images), model(images))
    branch = complete(with_techniques(describe("retrain", ref_of(imported)), **flags), place).run
    assert Mask.from_tensors(*branch.load_mask()) == Mask.from_tensors(*run.load_mask())


def test_a_ticket_of_a_run_whose_techniques_change_no_network_has_none(place: Context, tmp_path: Path) -> None:
    run = complete(oneshot_desc("random", density=0.5, technique="rigl", mask_update_frequency="3it"), place).run
    export_ticket(run, None, tmp_path / "ticket.safetensors")

    imported = import_ticket(tmp_path / "ticket.safetensors", place)

    assert "techniques" not in ref_of(imported).desc.canonical


def test_masks_change_together_with_the_network(place: Context) -> None:
    rigl = {"mask_update_frequency": "3it", "start_density": 0.3, "grow_init": "initial_dist"}
    desc = train_desc(**RESNET, **rigl, technique="ghost_skips,rigl", skip_init="kaiming_normal")

    run = complete(desc, place).run

    mask = Mask.from_tensors(*run.load_mask())
    assert any(is_added(name) for name in mask)
    assert mask.kept == round(0.3 * mask.total)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"technique": "ghost_skips"}, "technique.*residual blocks"),
        ({"technique": "soft_activation", "soft_activation": "gelu", "soft_beta": 2.0}, "soft_beta: gelu has none"),
        ({"technique": "soft_activation", "soft_fade_begin": "9it", "soft_fade_end": "4it"}, "9it.* is after .*4it"),
    ],
)
def test_what_cannot_be_is_refused(flags: dict[str, Any], words: str, place: Context) -> None:
    with pytest.raises(UsageError, match=words):
        complete(train_desc(**flags), place)

    assert not list(place.root.glob("*/*/*"))


def test_what_is_not_given_is_what_is_written_out() -> None:
    fading = train_desc(**RESNET, technique="ghost_skips", skip_fade_end="2ep")
    beta = train_desc(technique="soft_activation", soft_beta=1)

    assert fading.digest == train_desc(**RESNET, **SKIPS, skip_fade_begin="0it", skip_fade_end="12it").digest
    assert fading.digest != train_desc(**RESNET, **SKIPS).digest
    assert beta.digest == train_desc(technique="soft_activation").digest
    assert isinstance(fading, TrainDesc)
