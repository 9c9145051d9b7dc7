from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from foundations.description.address import Location
from foundations.storage.run import Run
from foundations.storage.tensor_files import read
from pruning.masks.mask import Mask
from tests.cli.terminal import SHORT, Terminal

LOTTERY = (*SHORT, "--rewinding_steps=4it")


def test_a_lottery_prints_its_levels_and_reuses_them(terminal: Terminal) -> None:
    first = terminal.run("lottery", *LOTTERY, "--levels=2")
    second = terminal.run("lottery", *LOTTERY, "--levels=2", "--quiet")
    third = terminal.run("lottery", *LOTTERY, "--levels=3")

    assert first.code == second.code == third.code == 0, first.err + second.err + third.err
    rows = [line.split() for line in third.out.splitlines() if line[:1].isdigit()]
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert [row[3] for row in rows] == ["reused", "reused", "reused", "computed"]
    assert second.out == ""


def test_branches_of_a_lottery_run_over_the_levels_asked_for(terminal: Terminal) -> None:
    result = terminal.run("branch", "lottery", "randomly_prune", *LOTTERY, "--levels=1-2")

    assert result.code == 0, result.err
    assert [line.split()[0] for line in result.out.splitlines() if line[:1].isdigit()] == ["1", "2"]


def test_the_directories_of_the_levels_are_told_without_computing(terminal: Terminal) -> None:
    folders = terminal.run("lottery", *LOTTERY, "--levels=2", "--display_output_location").out.split()
    preview = terminal.run("lottery", *LOTTERY, "--levels=2", "--dry_run").out

    assert len(folders) == 3
    assert all(f"level {n}: not begun, {folder}" in preview for n, folder in enumerate(folders))
    assert not terminal.root.exists()


def test_a_mistyped_lottery_names_the_flag(terminal: Terminal) -> None:
    terminal.run("lottery", *SHORT, "--levels=two").assert_is_for_people(2, "--levels")
    terminal.run("lottery", *SHORT, "--density=0.1").assert_is_for_people(2, "--density", "pruning_fraction")
    terminal.run("branch", "lottery", "randomly_prun", *SHORT).assert_is_for_people(2, "randomly_prune")


def mask_of(root: Path, folder: Path) -> Mask:
    """Return the mask of a run; one that only had to be pruned is still in a working folder."""
    location = Location.parse(str(folder.relative_to(root)))
    assert location is not None
    return Mask.from_tensors(*read(Run(root, location).path("mask.safetensors"), ""))


@pytest.mark.parametrize("flag", ["--seed", "--branch_seed"])
def test_a_seed_pins_the_permutation_of_a_levels_mask(terminal: Terminal, flag: str) -> None:
    def permuted(seed: int, replicate: int) -> tuple[Mask, Mask]:
        """Return the branch's mask and its level's."""
        own = (f"--replicate={replicate}", "--levels=1")
        command = ("branch", "lottery", "randomly_prune", *LOTTERY, *own, f"{flag}={seed}")
        assert terminal.run(*command).code == 0
        level = terminal.run("lottery", *LOTTERY, *own, "--display_output_location").out.split()[1]
        first, second = (mask_of(terminal.root, folder) for folder in (terminal.where(*command), Path(level)))
        return first, second

    for seed, replicate in ((7, 1), (8, 1), (7, 2)):
        branch, level = permuted(seed, replicate)
        assert branch == level.shuffled_layerwise(seed)
    assert permuted(7, 1)[0] != permuted(8, 1)[0]


def test_pretraining_on_more_classes_gives_all_weights_but_the_output_layers(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (480, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "shapes.npz", images=images, labels=np.arange(480) % 12)
    terminal = Terminal(tmp_path / "root", tmp_path / "datasets")
    flags = (*SHORT, "--pretrain_training_steps=1ep", "--pretrain_dataset_name=shapes", "--levels=1")

    added = terminal.run("datasets", "add", "shapes", str(tmp_path / "shapes.npz"))
    result = terminal.run("lottery", *flags)
    trained = terminal.run("train", *SHORT)

    assert added.code == result.code == trained.code == 0, added.err + result.err + trained.err
    entries = json.loads(terminal.run("ls", "--json", "--where=data=shapes").out)
    (pretraining,) = [entry["location"] for entry in entries if entry["branch"] == ""]
    pretrained = states_of(terminal.root / pretraining)[-1]
    initial = states_of(terminal.where("train", *SHORT))[0]
    level = Path(terminal.run("lottery", *flags, "--display_output_location").out.split()[0])
    first = states_of(level)[0]
    assert pretrained["fc.weight"].shape[0] == 12
    for name, tensor in first.items():
        assert torch.equal(tensor, (initial if name.startswith("fc.") else pretrained)[name])


def states_of(folder: Path) -> list[dict[str, torch.Tensor]]:
    """Return the states that a run keeps, ascending."""
    names = {tuple(map(int, re.findall(r"\d+", path.name))): path for path in folder.glob("state_*")}
    return [read(names[step], "")[0] for step in sorted(names)]


def test_a_dry_run_prints_the_plan_of_all_levels(terminal: Terminal) -> None:
    terminal.run("lottery", *LOTTERY, "--levels=1")

    preview = terminal.run("lottery", *LOTTERY, "--levels=3", "--dry_run").out

    assert [line.partition(", ")[0] for line in preview.splitlines()[:4]] == [
        "level 0: complete",
        "level 1: complete",
        "level 2: not begun",
        "level 3: not begun",
    ]
    assert preview.count("train to 18it") == 2
