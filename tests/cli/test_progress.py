from __future__ import annotations

import os
import pty
import re

from tests.cli.terminal import LENET, Terminal
from tests.conftest import REPOSITORY
from tests.interpreter import Interpreter

TRAIN = ("train", *LENET, "--training_steps=1000ep", "--evaluate_only_at_end")
"""Some seconds of training, 6,000 steps."""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(terminal: Terminal, *arguments: str) -> str:
    """Run a command at a terminal of 120 columns and return everything that it writes there."""
    ours, theirs = pty.openpty()
    process = Interpreter(
        ["open_prune.py", *arguments],
        REPOSITORY,
        {**os.environ, **terminal.settings(), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 1 << 16):
            written += part
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    assert process.wait(60) == 0, written.decode()
    return written.decode()


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows in the end, after the few control sequences that rich writes."""
    lines, row, column = [""], 0, 0
    for control, text in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z]|[\r\n])|([^\x1b\r\n]+)", written):
        if text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
        elif control == "\r":
            column = 0
        elif control == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif control.endswith("A"):
            row = max(0, row - int(control[2:-1] or 1))
        elif control.endswith("K"):
            lines[row] = "" if control == "\x1b[2K" else lines[row][:column]
    return [line.rstrip() for line in lines]


def test_at_a_terminal_one_bar_shows_speed_and_time_left_and_is_gone_at_the_end(terminal: Terminal) -> None:
    written = shown(terminal, *TRAIN)

    plain = CONTROL.sub("", written)
    bars = re.findall(r"train[^\r\n]*?(\d+)/6000", plain)
    assert re.search(r"[1-9][\d,]* it/s +\d+:\d\d", plain), plain[-2000:]
    assert list(map(int, bars)) == sorted(map(int, bars))
    assert 2 <= len(bars) < 600
    left = screen(written)
    assert not any("it/s" in line or "/6000" in line for line in left), left
    assert sum(line.startswith("ep ") for line in left) == 2
    assert sum(line.startswith("test accuracy:") for line in left) == 1
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h")


def test_quiet_writes_nothing_at_a_terminal(terminal: Terminal) -> None:
    assert shown(terminal, *TRAIN[:-2], "--training_steps=2ep", "--quiet") == ""
