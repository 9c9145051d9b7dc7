"""Standard output that is closed, full or missing."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.cli.terminal import LONG, SHORT, Terminal
from tests.conftest import REPOSITORY

TRAIN = ("train", *SHORT)


def started(terminal: Terminal, *arguments: str, stdout: int, before: Callable[[], None] | None = None) -> int:
    """Run a command in a new interpreter with some standard output; return its exit code, and see no traceback."""
    done = subprocess.run(
        [sys.executable, "open_prune.py", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **terminal.settings()},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        preexec_fn=before,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode


def closed_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.fixture
def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def test_a_training_whose_output_nobody_reads_stops_with_a_checkpoint_and_the_signals_code(terminal: Terminal) -> None:
    command = f"{shlex.join([sys.executable, 'open_prune.py', 'train', *LONG])} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=REPOSITORY,
        env={**os.environ, **terminal.settings()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    run = terminal.stored("train", *LONG)

    assert done.returncode == 141, done.stderr
    assert "Checkpoint" in done.stderr and "Traceback" not in done.stderr
    assert run.path("checkpoint.safetensors").exists()
    assert run.manifest() is None
    assert terminal.run("train", *LONG).code == 0
    assert run.manifest() is not None


def test_a_listing_whose_output_nobody_reads_ends_quietly(two_runs: Terminal) -> None:
    assert started(two_runs, "ls", stdout=closed_pipe()) == 141


def test_a_training_goes_on_where_its_output_cannot_be_written(terminal: Terminal, full: int) -> None:
    assert started(terminal, *TRAIN, stdout=full) == 1  # its summary was lost

    assert (terminal.where(*TRAIN) / "manifest.json").exists()


def test_a_listing_that_cannot_be_written_fails(two_runs: Terminal, full: int) -> None:
    assert started(two_runs, "ls", stdout=full) == 1


def test_without_standard_streams_a_training_is_computed_and_nothing_is_printed_into_its_files(
    terminal: Terminal,
) -> None:
    def close() -> None:
        for number in (0, 1):
            os.close(number)

    assert started(terminal, *TRAIN, stdout=os.open(os.devnull, os.O_WRONLY), before=close) == 0

    assert terminal.run("verify").out.count("0 damaged, 1 whole") == 1
