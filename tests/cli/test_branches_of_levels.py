"""Every named branch on the levels of a lottery: a level is a run like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from branches.registry import BRANCHES
from foundations.storage.tensor_files import read
from pruning.masks.mask import Mask
from tests.cli.terminal import SHORT, Terminal

LOTTERY = (*SHORT, "--evaluate_only_at_end", "--pruning_fraction=0.4")
NAMES = {
    "oneshot": ("--branch_density=0.2", "--branch_strategy=random"),
    "lottery_rewind": ("--branch_density=0.2", "--rewind_step=2it"),
    "lr_rewind": ("--branch_density=0.2",),
    "finetune": ("--branch_density=0.2", "--finetune_steps=1ep"),
    "randomize_layerwise": ("--branch_density=0.2",),
    "random_tickets": ("--branch_density=0.2", "--branch_strategy=snip2"),
    "reinitialize": ("--branch_density=0.2", "--branch_seed=3"),
    "invert": ("--branch_density=0.2",),
    "gmp": ("--branch_density=0.2", "--gmp_frequency=2it"),
    "singleshot": ("--branch_density=0.2", "--pre_epochs=1ep"),
    "retrain": ("--retrain_lr=0.05",),
    "chain": ("--sparsities=0.7,0.9",),
    "sign_transfer": ("--branch_seed=3", "--no_sign_output"),
    "randomly_prune": ("--branch_seed=3",),
    "randomly_reinitialize": ("--branch_seed=3",),
}


@pytest.fixture(scope="module")
def lottery(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Terminal:
    """A root with two levels of a lottery."""
    terminal = Terminal(tmp_path_factory.mktemp("levels"), digits)
    assert terminal.run("lottery", *LOTTERY, "--levels=2").code == 0
    return terminal


def levels_of(terminal: Terminal, *flags: str) -> list[Path]:
    out = terminal.run("lottery", *LOTTERY, *flags, "--levels=2", "--display_output_location").out
    return [Path(line) for line in out.split()]


def mask_in(folder: Path) -> Mask:
    return Mask.from_tensors(*read(folder / "mask.safetensors", ""))


def test_every_branch_is_tried_on_levels() -> None:
    assert {*NAMES, "transplant", "mag"} == set(BRANCHES.spellings())


@pytest.mark.parametrize("name", NAMES)
def test_a_branch_of_levels_is_the_branch_of_each_levels_address(lottery: Terminal, name: str) -> None:
    command = ("branch", "lottery", name, *LOTTERY, "--levels=1-2", *NAMES[name])

    result = lottery.run(*command)

    assert result.code == 0, result.err
    folders = lottery.run(*command, "--display_output_location").out.split()
    flags = [flag.replace("--branch_", "--") for flag in NAMES[name]]
    by_address = [
        lottery.run("branch", level.name, name, *flags, "--display_output_location").out.split()
        for level in levels_of(lottery)[1:]
    ]
    assert folders == [folder for found in by_address for folder in found]
    rows = [line.split()[0] for line in result.out.splitlines() if line[:1].isdigit()]
    assert rows == ["1"] * len(by_address[0]) + ["2"] * len(by_address[1])
    assert all((Path(folder) / "manifest.json").exists() for folder in folders)


@pytest.mark.parametrize("name", ["oneshot", "lottery_rewind", "lr_rewind", "finetune", "invert", "gmp", "singleshot"])
def test_a_branch_that_prunes_a_level_prunes_within_its_mask(lottery: Terminal, name: str) -> None:
    command = ("branch", "lottery", name, *LOTTERY, "--levels=2", *NAMES[name])
    assert lottery.run(*command, "--quiet").code == 0

    mask, level = mask_in(lottery.where(*command)), mask_in(levels_of(lottery)[2])

    assert mask.intersection(level) == mask
    assert mask.density == pytest.approx(0.2, abs=1e-3)


def test_a_branch_that_makes_no_sense_on_levels_says_so_in_a_sentence(terminal: Terminal) -> None:
    result = terminal.run("branch", "lottery", "mag", *LOTTERY, "--levels=1")

    result.assert_is_for_people(2, "the same for every level", "branch train mag")
    assert len(result.err.strip().splitlines()) == 1


def test_a_mask_is_transplanted_to_the_weights_of_a_level(lottery: Terminal) -> None:
    level = levels_of(lottery)[2]
    command = ("branch", "lottery", "transplant", *LOTTERY, "--levels=1", f"--mask_of={level.name}")

    assert lottery.run(*command).code == 0

    assert mask_in(lottery.where(*command)) == mask_in(level)


def test_pruning_of_a_branch_of_levels_is_that_of_the_lottery_unless_given(terminal: Terminal) -> None:
    command = ("branch", "lottery", "oneshot", *LOTTERY, "--levels=1", "--strategy=random")

    def where(*flags: str) -> Path:
        return terminal.where(*command, *flags)

    assert where() == where("--branch_strategy=random", "--branch_prune_fraction=0.8")
    assert where() != where("--branch_strategy=magnitude")
    assert where("--seed=3") == where("--seed=3", "--branch_seed=3") != where("--seed=3", "--branch_seed=4")
    assert where("--branch_strategy=snip2") != where("--branch_strategy=snip2", "--branch_score_per_batch")


def test_a_random_control_of_any_pruned_run_permutes_its_mask(terminal: Terminal) -> None:
    parent = ("branch", "train", "oneshot", *SHORT, "--density=0.3", "--state_step=4it", "--start_step=4it")
    assert terminal.run(*parent).code == 0
    folder = terminal.where(*parent)

    permuted = terminal.run("branch", folder.name, "randomly_prune", "--seed=5", "--quiet")
    redrawn = terminal.run("branch", folder.name, "randomly_reinitialize", "--quiet")

    assert permuted.code == redrawn.code == 0, permuted.err + redrawn.err
    where = terminal.where("branch", folder.name, "randomly_prune", "--seed=5")
    assert mask_in(where) == mask_in(folder).shuffled_layerwise(5)
    record = json.loads((where / "description.json").read_text())
    assert record["sources"]["state"] == json.loads((folder / "description.json").read_text())["sources"]["state"]
    assert record["hyperparameters"]["branch"]["start_step"] == "4it"


def test_errors_about_a_branch_of_levels_name_its_flags(terminal: Terminal) -> None:
    def refused(name: str, *flags: str) -> list[str]:
        result = terminal.run("branch", "lottery", name, *LOTTERY, "--levels=1", *flags)
        result.assert_is_for_people(2)
        return result.err.split()

    assert "--branch_density:" in refused("oneshot", "--branch_density=2")
    assert "--branch_strategy:" in refused("oneshot", "--branch_strategy=snap10")
    assert "--branch_density," in refused("chain", "--branch_density=0.5")
    assert "--density," in refused("oneshot", "--density=0.5")
    assert "--branch_density" in refused("randomly_prune", "--branch_density=0.5")
    assert "--prune_step:" in refused("oneshot", "--rewinding_steps=4it")
    assert "--branch_strategy=snipN" in " ".join(refused("oneshot", "--branch_score_per_batch"))
    terminal.run("branch", "train", "randomly_prune", *SHORT).assert_is_for_people(2, "has none")
    terminal.run("branch", "lottery", "oneshott", *SHORT).assert_is_for_people(2, "oneshot")


def test_the_defaults_that_a_branch_of_levels_takes_are_said_first(lottery: Terminal) -> None:
    first = lottery.run("branch", "lottery", "lr_rewind", *LOTTERY, "--levels=1").out.splitlines()[0]

    assert first == "Not given, so taken by default: --strategy=magnitude --branch_prune_fraction=0.8"
