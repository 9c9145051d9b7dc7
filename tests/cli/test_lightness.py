"""What only looks or lists does not import torch: not by the clock, but by what is loaded at the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from cli.main import COMMANDS
from tests.cli.conftest import BRANCH
from tests.cli.terminal import SHORT, Terminal
from tests.conftest import REPOSITORY

SCRIPT = """
import io, json, sys
from contextlib import redirect_stdout, redirect_stderr
from cli.main import main
answers = []
for arguments in json.loads(sys.argv[1]):
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code or 0
    heavy = sorted({"torch", "torchvision", "numpy", "pandas"} & set(sys.modules))
    answers.append([arguments, code, out.getvalue(), heavy])
print(json.dumps(answers))
"""


def answers_of(terminal: Terminal, commands: Iterable[Sequence[str]]) -> list[tuple[list[str], int, str, list[str]]]:
    """Run commands one after the other in one new interpreter; return (arguments, code, output, heavy modules)."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([list(command) for command in commands])],
        cwd=REPOSITORY,
        env={**os.environ, **terminal.settings()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(answer) for answer in json.loads(done.stdout)]


def test_help_of_every_command_imports_no_torch(two_runs: Terminal) -> None:
    helps = [
        [],
        ["--help"],
        ["help"],
        *([name, "--help"] for name in COMMANDS),
        ["branch", "train", "oneshot", "--help"],
    ]

    for arguments, code, out, heavy in answers_of(two_runs, helps):
        assert (code, heavy) == (0, []), arguments
        assert "usage: " in out.lower(), arguments


def test_looking_and_reusing_import_no_torch(two_runs: Terminal) -> None:
    looks = [
        ["ls"],
        ["ls", "--json"],
        ["show", "train"],
        ["train", *SHORT],
        [*BRANCH],
        [*BRANCH, "--dry_run"],
        ["train", "--display_output_location"],
        ["train", "--lr=fast"],
        ["strategies"],
        ["datasets"],
        ["platforms"],
    ]

    for arguments, code, _, heavy in answers_of(two_runs, looks):
        assert code == (2 if "--lr=fast" in arguments else 0), arguments
        assert heavy == [], arguments


def test_the_overview_lists_every_command(two_runs: Terminal) -> None:
    ((_, _, out, _),) = answers_of(two_runs, [[]])

    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("flag", ["--lr", "--training_steps", "--weight_save_steps", "--model_name", "--device"])
def test_the_help_of_a_job_explains_its_flags(two_runs: Terminal, flag: str) -> None:
    ((_, _, out, _),) = answers_of(two_runs, [["train", "--help"]])

    assert flag in out
    assert "Learning rate (its peak" in out


@pytest.mark.slow
def test_two_thousand_runs_are_listed_in_seconds(two_runs: Terminal, tmp_path: Path) -> None:
    import time

    from foundations.address import canonical_json, digest

    template = two_runs.where("train", *SHORT)
    record = json.loads((template / "description.json").read_text())
    for number in range(2000):
        record["canonical"]["training"]["lr"] = record["hyperparameters"]["training"]["lr"] = 1 + number
        record["digest"] = digest("train", record["canonical"])
        folder = tmp_path / f"train_{record['digest']}" / "replicate_1" / "main"
        shutil.copytree(template, folder)
        (folder / "description.json").write_text(canonical_json(record))
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"]["description.json"]["size"] = (folder / "description.json").stat().st_size
        (folder / "manifest.json").write_text(json.dumps(manifest))
    terminal = Terminal(tmp_path, two_runs.datasets)

    begin = time.monotonic()
    result = terminal.cold("ls")

    assert time.monotonic() - begin < 5  # about 1 s where nothing else runs
    assert result.out.count("complete") == 2000
