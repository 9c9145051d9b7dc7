"""Flags that name a run by its command: the run is planned first, and has the address that its command gives it."""

from __future__ import annotations

import re

import pytest

from tests.cli.terminal import SHORT, Terminal

MASK = "branch train lottery_rewind --density=0.2 --rewind_step=2it --replicate=1"
TRANSPLANT = ("branch", "train", "transplant", *SHORT, "--replicate=2")


def place_of(terminal: Terminal, *command: str) -> str:
    """Return the folder of a command's run."""
    found = terminal.run(*command, "--display_output_location")
    assert found.code == 0, found.err
    return found.out.strip()


def test_the_run_of_the_mask_is_planned_before_the_run_that_takes_it(terminal: Terminal) -> None:
    alone = place_of(terminal, "branch", "train", "lottery_rewind", *SHORT, "--density=0.2", "--rewind_step=2it")

    planned = terminal.run(*TRANSPLANT, f"--mask_of={MASK}", "--align", "--dry_run")

    rows = [line.split()[0] for line in planned.out.splitlines() if line.startswith("train_")]
    assert planned.code == 0, planned.err
    assert alone.endswith(rows[1])
    assert [re.sub(r"_[0-9a-f]{32}", "", row) for row in rows] == [
        "train/replicate_1/main",
        "train/replicate_1/branch_oneshot",
        "train/replicate_2/main",
        "train/replicate_2/branch_oneshot",
    ]
    assert not terminal.root.exists() or not any(terminal.root.iterdir())


def test_a_sweep_computes_the_masks_that_its_runs_take(terminal: Terminal) -> None:
    command = MASK.replace("density=0.2", "density=0.1")
    swept = terminal.run("sweep", f"--grid=mask_of={MASK},{command}", "--jobs=1", "--", *TRANSPLANT)
    made = place_of(terminal, *command.split(), *SHORT)

    by_address = place_of(terminal, *TRANSPLANT, f"--mask_of={made.rpartition('_')[2]}")
    by_command = place_of(terminal, *TRANSPLANT, f"--mask_of={command}")

    assert swept.code == 0, swept.out + swept.err
    assert "2 of 2 runs are complete" in swept.out
    assert by_address == by_command
    assert terminal.run(*TRANSPLANT, f"--mask_of={command}").out.count("complete") >= 1


def test_a_described_run_may_name_another_and_keeps_its_own_flags(terminal: Terminal) -> None:
    inner = f"{MASK} --lr=0.3"
    nested = f'branch train transplant --mask_of="{inner}" --replicate=3'

    planned = terminal.run(*TRANSPLANT, f"--mask_of={nested}", "--dry_run").out

    rows = [line.split()[0] for line in planned.splitlines() if line.startswith("train_")]
    assert len({row.split("/")[0] for row in rows}) == 2, "one training has a learning rate of its own"
    assert {row.split("/")[1] for row in rows} == {"replicate_1", "replicate_2", "replicate_3"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lottery --levels=2", "--mask_of: 'lottery --levels=2' computes several runs (level 0, 1, 2); name one"),
        ("branch train nothing", "--mask_of: 'nothing' is not a branch"),
        ("branch train oneshot --density=2", "--mask_of: in its command, --density: 2.0 is not a valid value"),
        ("branch train transplant", "--mask_of: in its command, --mask_of: it takes the address or the command"),
        (
            "branch train transplant --mask_of='branch train oneshot --densty=2'",
            "--mask_of: in its command, --mask_of: There is no flag --densty here. Did you mean '--density'?",
        ),
        ("branch trian oneshot", "--mask_of: No run under"),
        ("branch train oneshot --density='2", "--mask_of: 'branch train oneshot --density='2' is not a command"),
        ("branch", "--mask_of: No run under"),
        ("branch oneshot", "--mask_of: branch takes a parent"),
        ("train --replicate=1", "--mask_of: it takes the address or the command of a run that has a mask"),
        ("branch train oneshot --root=/nowhere", "--mask_of: the described run has the folders of this one"),
        ("train --nonsense=1", "--mask_of: There is no flag --nonsense here"),
        ("branch train oneshot --help", "--mask_of: --help is not expected in the command of a run"),
        ("trian --replicate=2", "--mask_of: No run under"),
    ],
)
def test_mistakes_in_a_description_name_the_flag(terminal: Terminal, text: str, words: str) -> None:
    found = terminal.run(*TRANSPLANT, f"--mask_of={text}")

    assert found.code == 2
    assert words in found.err
    assert "Traceback" not in found.err
