"""Branches whose flags name runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from foundations.storage.tensor_files import read
from pruning.masks.mask import Mask
from tests.cli.conftest import BRANCH
from tests.cli.terminal import SHORT, Terminal

ONESHOT = ("branch", "train", "oneshot", *SHORT, "--strategy=magnitude")
RUN_FLAGS = ["prune_experiment", "state_experiment", "mask_experiment"]


def state_of(folder: Path, name: str = "state_ep0_it0") -> dict[str, torch.Tensor]:
    return read(folder / f"{name}.safetensors", "")[0]


def mask_of(folder: Path) -> Mask:
    return Mask.from_tensors(*read(folder / "mask.safetensors", ""))


def entry(terminal: Terminal, branch: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = json.loads(terminal.run("ls", "--json").out)
    return next(found for found in entries if found["branch"] == branch)


@pytest.mark.parametrize("flag", RUN_FLAGS)
def test_a_run_is_named_by_main_its_directory_or_any_prefix_of_its_address(two_runs: Terminal, flag: str) -> None:
    found = entry(two_runs, "oneshot")
    directory = found["location"].rpartition("/")[2]
    names = (directory, directory[:-8], found["address"], found["address"].partition("/")[0], found["digest"][:6])

    folders = {two_runs.where(*ONESHOT, f"--{flag}={name}") for name in names}

    assert len(folders) == 1
    assert folders != {two_runs.where(*ONESHOT)}
    assert two_runs.where(*ONESHOT, f"--{flag}=main") == two_runs.where(*ONESHOT)


def test_the_run_whose_mask_is_transplanted_is_named_in_the_same_ways(two_runs: Terminal) -> None:
    found = entry(two_runs, "oneshot")
    names = (found["location"].rpartition("/")[2], found["address"], found["digest"][:6], found["location"])
    transplant = ("branch", "train", "transplant", *SHORT)

    assert len({two_runs.where(*transplant, f"--mask_of={name}") for name in names}) == 1
    two_runs.run(*transplant, "--mask_of=main").assert_is_for_people(2, "--mask_of", "has a mask")
    two_runs.run(*transplant).assert_is_for_people(2, "--mask_of", "has a mask")


@pytest.mark.parametrize("name", ["a/b/c", "branch_oneshot_12", "/", "train"])
@pytest.mark.parametrize("flag", RUN_FLAGS)
def test_a_run_that_is_not_there_is_refused_by_its_flag_and_nothing_is_written(
    terminal: Terminal, flag: str, name: str
) -> None:
    terminal.run(*ONESHOT, f"--{flag}={name}").assert_is_for_people(2, f"--{flag}: No run under", f"'{name}'", "ls")

    assert not terminal.root.exists()


def test_a_branch_that_is_refused_late_leaves_nothing_new(terminal: Terminal) -> None:
    terminal.run(*ONESHOT, "--pruning_layers_to_ignore=fc.wait").assert_is_for_people(2, "'fc.wait'")

    assert set(terminal.files()) <= {"format.json"}
    assert not list(terminal.root.glob("train_*"))


def test_the_weights_of_main_are_trained_where_they_are_asked_for(own_two_runs: Terminal) -> None:
    address = entry(own_two_runs, "oneshot")["address"]
    command = ("branch", address, "oneshot", "--strategy=magnitude", "--density=0.05", "--state_experiment=main")

    result = own_two_runs.run(*command, "--prune_step=3ep", "--state_step=3ep")

    assert result.code == 0, result.err
    folder = own_two_runs.where(*command, "--prune_step=3ep", "--state_step=3ep")
    mask, last = mask_of(folder), state_of(own_two_runs.where("train", *SHORT), "state_ep3_it0")
    own = mask_of(own_two_runs.where(*BRANCH))
    assert mask.intersection(own) == mask
    assert all(torch.equal(state_of(folder)[name], last[name] * mask[name]) for name in mask)


def test_phew_on_a_pruned_run_is_refused_unless_weights_come_from_main(own_two_runs: Terminal) -> None:
    address = entry(own_two_runs, "oneshot")["address"]
    chained = ("branch", address, "oneshot", "--strategy=phew", "--density=0.3")
    from_main = (*chained, "--prune_experiment=main", "--state_experiment=main", f"--mask_experiment={address}")
    before = own_two_runs.files()

    own_two_runs.run(*chained).assert_is_for_people(2, "--strategy: phew adds weights", "mask_experiment")
    assert own_two_runs.files() == before

    result = own_two_runs.run(*from_main)
    assert result.code == 0, result.err
    folder = own_two_runs.where(*from_main)
    mask, own = mask_of(folder), mask_of(own_two_runs.where(*BRANCH))
    dense = state_of(own_two_runs.where("train", *SHORT))
    assert mask.intersection(own) == own
    assert mask.kept > own.kept
    for name, kept in mask.items():
        assert torch.equal(state_of(folder)[name], dense[name] * kept)
        assert state_of(folder)[name][kept].all()


def test_what_a_retraining_changes_may_be_a_switch(two_runs: Terminal) -> None:
    retrain = ("branch", "train", "retrain", *SHORT)
    same, on, off = (
        two_runs.run(*retrain, *flags, "--display_output_location")
        for flags in ((), ("--retrain_do_not_augment",), ("--no_retrain_do_not_augment",))
    )

    assert same.code == on.code == off.code == 0, on.err + off.err
    assert same.out == off.out != on.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--strategy=snip1"), "There is no flag --strategy here."),
        ((*ONESHOT, "--levels=2"), "There is no flag --levels here."),
        ((*ONESHOT, "--retrain_lr=1"), "There is no flag --retrain_lr here."),
        ((*ONESHOT, "--state_sep=1it"), "There is no flag --state_sep here. Did you mean '--state_step'?"),
        (("branch", "train", "retrain", *SHORT, "--density=0.1"), "There is no flag --density here."),
        (("show", "train", "--where=lr=0.1"), "There is no flag --where here."),
        (("show", "train", "--sort=lr"), "There is no flag --sort here."),
    ],
)
def test_a_flag_of_another_command_is_refused(two_runs: Terminal, arguments: tuple[str, ...], words: str) -> None:
    two_runs.run(*arguments).assert_is_for_people(2, words, "--help")


def test_a_chain_prints_a_row_for_each_level_and_reuses_it(terminal: Terminal) -> None:
    chain = ("branch", "train", "chain", *SHORT, "--strategy=phew", "--sparsities=0.5,0.9", "--technique=bias_masks")

    preview = terminal.run(*chain, "--dry_run")
    first = terminal.run(*chain)
    again = terminal.run(*chain)

    assert first.code == again.code == 0, first.err + again.err
    rows = [line.split() for line in again.out.splitlines() if line.startswith("0.")]
    assert [row[:2] for row in rows] == [["0.9", "90.03%"], ["0.5", "50.00%"]]
    assert [row[3] for row in rows] == ["reused", "reused"]
    assert preview.out.startswith("level 0.9: not begun")
    terminal.run(*chain, "--density=0.5").assert_is_for_people(2, "--density", "use sparsities")
