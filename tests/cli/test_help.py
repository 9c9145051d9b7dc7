"""The help of commands: two screens of the flags most used, and all others by group."""

from __future__ import annotations

import re

import pytest

from tests.cli.terminal import Terminal

SCREENS = 80
ONESHOT = ("branch", "train", "oneshot")


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"^  (--\w+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("command", [("train",), ("lottery",), ONESHOT, ("branch", "train", "retrain"), ("sweep",)])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_fits_on_two_screens(terminal: Terminal, command: tuple[str, ...], flag: str) -> None:
    terminal.environment["COLUMNS"] = "80"

    lines = terminal.run(*command, flag).out.splitlines()

    assert len(lines) <= SCREENS
    assert max(len(line) for line in lines if not line.endswith(":")) <= 80  # a heading is not broken


@pytest.mark.parametrize("command", [("train",), ("lottery",), ONESHOT])
def test_every_flag_is_in_the_help_of_a_group_and_in_that_of_all(terminal: Terminal, command: tuple[str, ...]) -> None:
    short = terminal.run(*command, "--help").out
    whole = flags_in(terminal.run(*command, "--help=all").out)
    groups = re.findall(r"^  ([a-z]\w*)  ", short.partition("More flags")[2], flags=re.MULTILINE)

    assert flags_in(short) < whole
    assert groups
    assert whole <= flags_in(short).union(*(flags_in(terminal.run(*command, f"--help={name}").out) for name in groups))


@pytest.mark.parametrize("words", [("help", "ls"), ("--help", "ls"), ("--help=ls",), ("-h", "ls")])
def test_help_before_a_command_is_that_of_the_command(terminal: Terminal, words: tuple[str, ...]) -> None:
    assert terminal.run(*words).out == terminal.run("ls", "--help").out


def test_pretraining_is_folded(terminal: Terminal) -> None:
    for group in ("--help", "--help=lottery"):
        assert not any(flag.startswith("--pretrain_") for flag in flags_in(terminal.run("lottery", group).out))
    assert "--pretrain_..." in terminal.run("lottery", "--help").out
    for group in ("--help=pretrain", "--help=all"):
        assert "--pretrain_lr" in flags_in(terminal.run("lottery", group).out)


def test_a_group_that_is_not_there_is_refused_by_naming_the_groups(terminal: Terminal) -> None:
    for command in ("--help=trainng", "--help trainng", "-h=trainng"):
        result = terminal.run("train", *command.split())

        assert result.code == 2
        assert "--help: 'trainng' is not a group of flags. Did you mean 'training'?" in result.err
        assert "Choose from all, dataset, model, training, techniques, job, platform, executor." in result.err


def test_the_flags_that_a_technique_or_a_strategy_adds_are_found(terminal: Terminal) -> None:
    assert "--gmp_begin" in flags_in(terminal.run("train", "--help=techniques").out)
    assert "--gmp_begin" in flags_in(terminal.run("train", "--help=gmp").out)
    assert "--gmp_begin" in flags_in(terminal.run("train", "--technique=gmp", "--help").out)
    assert "--phew_bias" in flags_in(terminal.run(*ONESHOT, "--help=pruning").out)


def test_the_flags_of_a_technique_of_a_plug_in_are_found(terminal: Terminal) -> None:
    plugin = "--plugin=examples/my_technique.py"

    assert "with --technique: swa, " in terminal.run("train", plugin, "--help").out
    assert "--swa_begin" in flags_in(terminal.run("train", plugin, "--help=techniques").out)
    assert "--swa_begin" in flags_in(terminal.run("train", plugin, "--technique=swa", "--help").out)
