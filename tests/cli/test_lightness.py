"""Commands that only look or list do not import torch. The tests check the loaded modules, not the time."""

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
from foundations.description.address import digest
from foundations.storage import sealed_json
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
        ["ls", "--format=csv"],
        ["ls", "--where=density<0.3", "--columns=address,differs"],
        ["show", "train"],
        ["compare", "train", "branch"],
        ["compare", "train", "branch", "--format=json"],
        ["why", *BRANCH],
        ["why", *BRANCH, "--lr=0.3"],
        ["rm", "--where=lr=0.1", "--dry_run"],
        ["du"],
        ["gc", "--budget=0", "--grace=0", "--dry_run"],
        ["pack", "--dry_run"],
        ["table"],
        ["table", "--format=latex"],
        ["table", "--format=csv"],
        ["train", *SHORT],
        [*BRANCH],
        [*BRANCH, "--dry_run"],
        [*BRANCH, "--tensorboard", "--wandb", "--dry_run"],
        ["train", "--display_output_location"],
        ["train", "--lr=fast"],
        ["train", "--epochs=160", "--lr=fast"],
        ["strategies"],
        ["datasets"],
        ["platforms"],
        ["remote", "ls"],
        ["push", (two_runs.root.parent / "remote").as_uri()],
        ["coming-from"],
        ["coming-from", "synaptic-flow"],
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


def test_a_job_does_not_import_the_compiler_of_pytorch(two_runs: Terminal, tmp_path: Path) -> None:
    branch = [*BRANCH, "--strategy=grasp2", "--density=0.3", f"--root={tmp_path}"]
    script = f"import sys\nfrom cli.main import main\nprint(main({branch!r}), 'torch._dynamo' in sys.modules)"

    result = two_runs.python(script, is_bare=True)

    assert result.out.splitlines()[-1] == "0 False", result.err


def test_reusing_a_training_imports_only_what_it_names(two_runs: Terminal) -> None:
    names = (
        "argparse",
        "pruning.methods",
        "training.techniques",
        "models.families.recurrent",
        "platforms.executors.pool",
    )
    script = f"import sys\nfrom cli.main import main\nmain(['train', *{SHORT!r}])\n"

    result = two_runs.python(
        f"{script}print([name for name in sys.modules if name.startswith({names!r})])", is_bare=True
    )

    assert "reused" in result.out
    assert result.out.splitlines()[-1] == "[]", result.err


def copies(template: Path, root: Path, number: int) -> Path:
    """Make runs that differ from one in the learning rate below a root; return the root."""
    record = sealed_json.from_bytes((template / "description.json").read_bytes())
    for lr in range(1, number + 1):
        record["canonical"]["training"]["lr"] = record["hyperparameters"]["training"]["lr"] = lr
        record["digest"] = digest("train", record["canonical"])
        folder = root / f"train_{record['digest']}" / "replicate_1" / "main"
        shutil.copytree(template, folder)
        (folder / "description.json").write_bytes(sealed_json.to_bytes(record))
        manifest = sealed_json.from_bytes((folder / "manifest.json").read_bytes())
        manifest["files"]["description.json"]["size"] = (folder / "description.json").stat().st_size
        own = {"run": str(folder.relative_to(root))}
        (folder / "manifest.json").write_bytes(sealed_json.to_bytes({**manifest, **own}))
    return root


_WORK_OF_LS = """
import sys
from cli.main import main

work = {"open": 0, "os.scandir": 0, "os.listdir": 0, "call": 0}

def count(event, arguments):
    if event != "open" or str(arguments[0]).startswith(root):
        work[event] = work.get(event, 0) + 1

root = sys.argv[0]
main(["ls", f"--root={root}"])  # reads the code
sys.addaudithook(count)
for root in ROOTS:
    work.update(dict.fromkeys(work, 0))
    sys.setprofile(lambda frame, event, argument: work.__setitem__("call", work["call"] + (event == "call")))
    main(["ls", f"--root={root}"])
    sys.setprofile(None)
    print("WORK", work["open"], work["os.scandir"] + work["os.listdir"], work["call"])
"""


def test_the_work_of_listing_grows_with_the_number_of_runs_and_reads_two_files_of_each(
    two_runs: Terminal, tmp_path: Path
) -> None:
    template, numbers = two_runs.where("train", *SHORT), (40, 160)
    roots = [str(copies(template, tmp_path / str(number), number)) for number in numbers]

    result = two_runs.python(f"ROOTS = {roots!r}\n{_WORK_OF_LS}", is_bare=True)

    assert result.out.count("complete") == sum(numbers), result.err
    found = [line.split()[1:] for line in result.out.splitlines() if line.startswith("WORK")]
    (opened, scanned, calls), (more_opened, more_scanned, more_calls) = (map(int, each) for each in found)
    # The description and the manifest of each, the root's format, and the index of rows, which is not there.
    assert (opened, more_opened) == tuple(2 * number + 2 for number in numbers)
    assert more_scanned <= 4 * scanned + 1
    assert more_calls < 5 * calls  # listing is not quadratic: four times the runs
    assert more_calls < 4000 * numbers[1]
