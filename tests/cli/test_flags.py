from __future__ import annotations

import re

import pytest

from tests.cli.terminal import Terminal


@pytest.mark.parametrize(
    "arguments",
    [("train",), ("branch", "train", "oneshot"), ("branch", "train", "retrain"), ("lottery",), ("ls",), ("export",)],
)
def test_on_a_wide_terminal_each_help_text_stands_on_one_line(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    terminal.environment["COLUMNS"] = "700"

    lines = terminal.run(*arguments, "--help").out.splitlines()

    flags = [number for number, line in enumerate(lines) if line.startswith("  --")]
    assert flags
    for number in flags:
        text = lines[number] if len(lines[number].split()) > 2 else lines[number] + lines[number + 1]
        assert text.rstrip().endswith((".", ")")), text
        after = lines[number + 1 :][text != lines[number] :]
        assert not after or not after[0] or after[0].startswith("  --"), after[0]


@pytest.mark.parametrize("flag", ["--model_init", "--normalization", "--optimizer_name", "--strategy", "--allocation"])
def test_help_lists_what_the_refusal_of_a_wrong_value_lists(terminal: Terminal, flag: str) -> None:
    command = ("branch", "train", "oneshot")

    refusal = terminal.run(*command, f"{flag}=zzzzzz").err
    text = terminal.run(*command, "--help=all").out.partition(f"\n  {flag} ")[2].partition("\n  --")[0]

    choices = refusal.partition("choose from ")[2].strip().rstrip(".").split(", ")
    assert len(choices) > 2
    assert set(choices) <= set(re.findall(r"\w+", text))
