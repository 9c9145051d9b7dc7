from __future__ import annotations

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
    terminal.run("branch", "lottery", "oneshot", *SHORT).assert_is_for_people(2, "randomly_prune")
