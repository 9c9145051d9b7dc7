"""Techniques in descriptions and in runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from branches.desc import BranchDesc
from branches.kinds import load_desc
from branches.lottery.lottery import Lottery, LotteryHparams
from foundations.description.desc import RunRef
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from tests.branches.small_branches import describe
from tests.training.small_runs import context, oneshot_desc, run_of, train_desc
from training.hparams import TechniquesHparams
from training.jobs.compute import complete, ensure_states
from training.registry import TECHNIQUES

RIGL: dict[str, Any] = {"technique": "rigl", "mask_update_frequency": "3it"}


def test_a_training_without_techniques_has_the_address_that_it_had_before_there_were_any() -> None:
    assert "techniques" not in train_desc().canonical
    assert train_desc(technique="").digest == train_desc().digest
    assert oneshot_desc("random").digest == dataclasses.replace(oneshot_desc("random"), techniques=None).digest


def test_defaults_that_depend_on_the_training_are_in_the_address_as_they_are_used() -> None:
    implied, written = (
        train_desc(**RIGL, start_density=0.1),
        train_desc(**RIGL, start_density=0.1, mask_update_end="13it"),
    )

    assert implied.digest == written.digest
    assert implied.canonical["techniques"]["mask_update_end"] == "13it"
    assert implied.digest != train_desc(**RIGL, start_density=0.1, mask_update_end="14it").digest


def test_what_cannot_change_the_result_is_not_in_the_address() -> None:
    one = train_desc(technique="gmp", gmp_density=0.1)

    assert (
        one.digest == train_desc(technique=" gmp ", gmp_compression=10.0, gmp_end="9it", gmp_prune_iterations=3).digest
    )
    assert one.digest != train_desc(technique="gmp", gmp_density=0.1, gmp_allocation="uniform").digest


def test_the_order_of_techniques_is_part_of_the_address() -> None:
    flags = {**RIGL, "gmp_density": 0.1}

    first, second = (oneshot_desc(**{**flags, "technique": names}) for names in ("gmp,rigl", "rigl,gmp"))

    assert first.digest != second.digest


def test_a_seed_matters_where_a_technique_draws() -> None:
    for technique, draws in (("rigl", False), ("set", True)):
        flags = {**RIGL, "technique": technique}
        pinned, free = oneshot_desc(**flags, technique_seed=3), oneshot_desc(**flags)
        assert (pinned.digest != free.digest) == draws


def test_a_raised_version_of_a_technique_moves_the_address() -> None:
    before = oneshot_desc(**RIGL).digest
    rigl = TECHNIQUES.find("rigl")
    version = rigl.version
    object.__setattr__(rigl, "version", version + 1)
    try:
        assert oneshot_desc(**RIGL).digest != before
    finally:
        object.__setattr__(rigl, "version", version)


@pytest.mark.parametrize(
    ("technique", "message"),
    [
        ("rigel", "^technique: 'rigel' is not a valid value.*rigl"),
        ("rigl,rigl", "^technique: 'rigl' is given twice"),
        ("rigl,set", "^technique: rigl and set would each move the mask"),
        ("itop,gmp,mest", "^technique: itop and mest would each move the mask"),
        ("snfs,granet,srigl", "^technique: snfs and granet and srigl would each move the mask"),
    ],
)
def test_an_unknown_or_repeated_technique_is_refused(technique: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        oneshot_desc(technique=technique)


def test_techniques_are_added_to_those_of_a_branch() -> None:
    gmp = describe("gmp", density=0.1)

    both = TechniquesHparams.of(RIGL).after(gmp.techniques)

    assert both.technique == "gmp,rigl"
    assert [technique.spelling for technique, _ in both.parts] == ["gmp", "rigl"]


@pytest.mark.parametrize(
    "desc",
    [
        train_desc(**RIGL, start_density=0.1),
        train_desc(technique="gmp", gmp_strategy="snip2", gmp_density=0.1, gmp_score_per_batch=True),
        oneshot_desc("random", density=0.1, **{**RIGL, "technique": "set"}),
    ],
    ids=["rigl", "gmp", "set in a branch"],
)
def test_a_description_is_read_back_with_its_techniques(desc: Any, tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    ensure_states(desc, place, [desc.start])

    assert load_desc(run_of(desc, place)) == desc


def test_a_training_with_a_mask_keeps_it_and_branches_start_from_it(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    desc = train_desc(**RIGL, start_density=0.2)

    run = complete(desc, place).run
    mask = Mask.from_tensors(*run.load_mask())
    branch = describe("lottery_rewind", RunRef(desc), density=0.1)
    pruned = Mask.from_tensors(*complete(branch, place).run.load_mask())

    report = run.sparsity()
    assert report is not None
    assert report["achieved"]["kept"] == mask.kept == round(mask.total * 0.2)
    assert all(not tensor[~mask[name]].any() for name, tensor in run.load_state(desc.end).items() if name in mask)
    assert branch.techniques is None
    assert pruned.intersection(mask) == pruned
    assert pruned.kept == round(mask.total * 0.1)


def test_the_first_state_of_a_training_is_the_one_that_its_techniques_prepared(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    desc = train_desc(technique="set", start_density=0.2)

    run = ensure_states(desc, place, [desc.start])

    state = run.load_state(desc.start)
    kept = sum(int((state[name] != 0).sum()) for name in ("fc_layers.0.weight", "fc.weight"))
    assert kept == round(0.2 * sum(state[name].numel() for name in ("fc_layers.0.weight", "fc.weight")))
    whole = complete(desc, place).run
    assert whole.load_state(desc.start).keys() == state.keys()


@pytest.mark.parametrize("technique", ["set", "gmp", "gmp,set"])
def test_a_state_that_was_not_kept_is_replayed_with_the_mask_it_had(
    technique: str, tmp_path: Path, digits: Path
) -> None:
    kept, replayed = (context(tmp_path / name, digits) for name in ("kept", "replayed"))
    desc = oneshot_desc("random", density=0.5, technique=technique, **_own(technique))
    step = Step(7, desc.iterations_per_epoch)
    complete(desc, kept, [step])
    complete(desc, replayed)

    complete(desc, replayed, [step])

    files = [run_of(desc, place).folder / run_of(desc, place).state_name(step) for place in (kept, replayed)]
    assert files[0].read_bytes() == files[1].read_bytes()


def _own(technique: str) -> dict[str, Any]:
    flags: dict[str, Any] = {"mask_update_frequency": "3it"} if "set" in technique else {}
    return flags | ({"gmp_density": 0.2, "gmp_frequency": "3it"} if "gmp" in technique else {})


def test_a_branch_does_not_inherit_the_techniques_of_its_parent() -> None:
    parent = train_desc(**RIGL, start_density=0.2)

    branch = describe("finetune", RunRef(parent))

    assert isinstance(branch, BranchDesc)
    assert branch.techniques is None
    assert branch.as_trained.techniques is None


def test_all_levels_of_a_lottery_use_the_techniques_of_its_training() -> None:
    main = train_desc(technique="gmp", gmp_density=0.8)
    described = Lottery(main, PruningHparams.of({}), LotteryHparams())

    levels = [desc for _, desc in described.levels(2)]

    assert [desc.techniques for desc in levels] == [main.techniques] * 3  # type: ignore[attr-defined]


def test_half_precision_with_scaled_gradients_updates_masks_too(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc("random", {"precision": "fp16"}, density=0.2, **RIGL)

    run = complete(desc, context(tmp_path, digits)).run

    mask = Mask.from_tensors(*run.load_mask())
    start = complete(oneshot_desc("random", {"precision": "fp16"}, density=0.2), context(tmp_path, digits)).run
    assert mask.kept == round(mask.total * 0.2)
    assert mask != Mask.from_tensors(*start.load_mask())
