"""Techniques on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pruning.masks.mask import Mask
from tests.cli.terminal import SHORT, Terminal

RIGL = ("--technique=rigl", "--mask_update_frequency=3it")
ONESHOT = ("branch", "train", "oneshot", *SHORT, "--strategy=random", "--density=0.2")


def description(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "description.json").read_text())
    return found


def test_a_technique_brings_its_own_flags_into_the_help(terminal: Terminal) -> None:
    plain, chosen = terminal.run("train", "--help").out, terminal.run("train", "--technique=gmp,rigl", "--help").out

    for flag in ("--drop_fraction", "--gmp_begin", "--gmp_strategy"):
        assert flag not in plain
        assert flag in chosen


def test_a_flag_of_a_technique_that_is_not_chosen_says_whose_it_is(terminal: Terminal) -> None:
    result = terminal.run("train", *SHORT, "--drop_fraction=0.2")

    result.assert_is_for_people(2, "There is no flag --drop_fraction here.", "--technique=rigl, --technique=set")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--technique=rigel",), ("--technique: 'rigel' is not a valid value", "rigl")),
        (("--technique=rigl",), ("--start_density: without a mask",)),
        (("--technique=gmp", "--gmp_strategy=snap10"), ("--gmp_strategy: 'snap10'", "snip10")),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    terminal: Terminal, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    terminal.run("train", *SHORT, *arguments).assert_is_for_people(2, *words)

    assert not terminal.files()


def test_the_parent_of_a_branch_of_train_has_no_techniques_and_the_branch_has(terminal: Terminal) -> None:
    assert terminal.run(*ONESHOT, *RIGL).code == 0

    folder = terminal.where(*ONESHOT, *RIGL)
    assert folder.parent == terminal.where("train", *SHORT).parent
    assert description(folder)["canonical"]["techniques"]["technique"] == "rigl"
    assert "techniques" not in description(folder)["main"]["canonical"]
    assert "reused" in terminal.run(*ONESHOT, *RIGL).out


def test_a_run_with_a_technique_is_a_parent_by_its_address(terminal: Terminal) -> None:
    train = ("train", *SHORT, "--technique=gmp", "--gmp_density=0.3")
    assert terminal.run(*train).code == 0
    address = terminal.where(*train).parent.parent.name.removeprefix("train_")[:12]

    result = terminal.run("branch", address, "lottery_rewind", "--density=0.1", "--technique=set")

    assert result.code == 0, result.err
    folder = Path(result.out.split("results in:")[1].strip())
    assert Mask.load(folder / "mask.safetensors").density == pytest.approx(0.1, abs=1e-3)
    assert description(folder)["canonical"]["techniques"]["technique"] == "set"


def test_a_technique_comes_after_the_one_of_the_branch(terminal: Terminal) -> None:
    gmp = ("branch", "train", "gmp", *SHORT, "--density=0.1")

    assert terminal.run(*gmp, *RIGL).code == 0

    assert description(terminal.where(*gmp, *RIGL))["canonical"]["techniques"]["technique"] == "gmp,rigl"
    terminal.run(*gmp, "--technique=gmp").assert_is_for_people(2, "--technique: 'gmp' is given twice")


def test_gmp_of_a_branch_and_as_a_technique_of_a_branch_are_one_run(terminal: Terminal) -> None:
    branch = ("branch", "train", "gmp", *SHORT, "--density=0.1", "--gmp_end=2ep")
    technique = ("branch", "train", "oneshot", *SHORT, "--prune_fraction=0", "--technique=gmp")

    assert terminal.where(*branch) == terminal.where(*technique, "--gmp_density=0.1", "--gmp_end=2ep")


def test_the_techniques_are_listed(terminal: Terminal) -> None:
    out = terminal.run("techniques").out

    for name in ("ghost_skips", "gmp", "rigl", "set", "soft_activation", "Evci et al. 2020", "Mocanu et al. 2018"):
        assert name in out


def test_a_mask_that_was_made_with_relu_is_trained_with_another_activation(terminal: Terminal) -> None:
    assert terminal.run(*ONESHOT).code == 0
    address = terminal.where(*ONESHOT).name.removeprefix("branch_oneshot_")[:12]
    transplant = ("branch", "train", "transplant", *SHORT, f"--mask_of={address}")
    soft = ("--technique=soft_activation", "--soft_activation=pswish", "--soft_beta=3")

    for arguments in (transplant, (*transplant, *soft)):
        result = terminal.run(*arguments)
        assert result.code == 0, result.err

    masks = [
        Mask.load(terminal.where(*arguments) / "mask.safetensors") for arguments in (ONESHOT, (*transplant, *soft))
    ]
    states = [
        (terminal.where(*each) / "state_ep3_it0.safetensors").read_bytes()
        for each in (transplant, (*transplant, *soft))
    ]
    assert masks[0] == masks[1]
    assert states[0] != states[1]


def test_a_network_without_residual_blocks_takes_no_skips(terminal: Terminal) -> None:
    result = terminal.run("train", *SHORT, "--technique=ghost_skips")

    result.assert_is_for_people(2, "--technique: ghost_skips needs residual blocks")
