from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cli.conftest import BRANCH
from tests.cli.terminal import SHORT, Terminal, tensors_of
from tests.conftest import REPOSITORY

TRAIN = ("train", *SHORT)


def test_whole_runs_are_found_whole(two_runs: Terminal) -> None:
    result = two_runs.run("verify")

    assert result.code == 0
    assert "Checked 2 run(s): 0 damaged, 2 whole." in result.out


def test_one_run_can_be_checked_by_its_address(two_runs: Terminal) -> None:
    assert "Checked 1 run(s)" in two_runs.run("verify", "branch_oneshot").out


@pytest.mark.parametrize("name", ["state_ep3_it0.safetensors", "metrics.csv", "mask.safetensors", "sparsity.json"])
def test_a_flipped_bit_is_found_with_its_file(own_two_runs: Terminal, name: str) -> None:
    path = own_two_runs.where(*BRANCH) / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    before = own_two_runs.files()

    result = own_two_runs.run("verify")

    assert result.code == 1
    assert str(path) in result.out
    assert "1 damaged, 1 whole" in result.out
    assert own_two_runs.files() == before


def test_a_branch_is_removed_and_its_parent_stays(own_two_runs: Terminal) -> None:
    branch, parent = own_two_runs.where(*BRANCH), own_two_runs.where(*TRAIN)

    assert own_two_runs.run("rm", "branch_oneshot", "--force").code == 0

    assert not branch.exists()
    assert parent.exists()
    assert own_two_runs.run("verify").code == 0


def test_a_parent_with_branches_is_not_removed_unless_told(own_two_runs: Terminal) -> None:
    address = own_two_runs.where(*TRAIN).parent.parent.name
    before = own_two_runs.files()

    own_two_runs.run("rm", address, "--force").assert_is_for_people(2, "has 1 branch(es)", "--with_branches")
    assert own_two_runs.files() == before

    assert own_two_runs.run("rm", address, "--force", "--with_branches").code == 0
    assert set(own_two_runs.files()) == {"format.json"}
    assert "No runs" in own_two_runs.run("ls").out


def test_without_a_terminal_nothing_is_removed_unasked(own_two_runs: Terminal) -> None:
    before = own_two_runs.files()

    own_two_runs.run("rm", "branch_oneshot").assert_is_for_people(2, "--force")
    assert own_two_runs.files() == before


def asked(terminal: Terminal, answer: str, *arguments: str) -> tuple[int, str]:
    """Run a command at a terminal that gives an answer."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "open_prune.py", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **terminal.settings()},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.write(ours, f"{answer}\n".encode())
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    return process.returncode, out


@pytest.mark.parametrize(("answer", "code", "is_removed"), [("n", 1, False), ("", 1, False), ("y", 0, True)])
def test_at_a_terminal_it_asks(own_two_runs: Terminal, answer: str, code: int, is_removed: bool) -> None:
    branch = own_two_runs.where(*BRANCH)

    found, out = asked(own_two_runs, answer, "rm", "branch_oneshot")

    assert found == code
    assert "Remove 1 run(s)? [y/N]" in out
    assert branch.exists() != is_removed


def test_what_was_removed_is_computed_again_to_the_same_bytes(own_two_runs: Terminal) -> None:
    folder = own_two_runs.where(*BRANCH)
    before = tensors_of(folder)
    own_two_runs.run("rm", "branch_oneshot", "--force")

    own_two_runs.run(*BRANCH)

    assert tensors_of(folder) == before


def test_a_removal_that_was_cut_off_is_finished_by_verify(own_two_runs: Terminal) -> None:
    branch = own_two_runs.where(*BRANCH)
    left = branch.with_name(f".removed_{branch.name}")
    branch.rename(left)

    assert own_two_runs.run("verify").code == 0

    assert not left.exists()
    assert own_two_runs.where(*TRAIN).exists()


def test_mending_sweeps_what_a_killed_removal_left_as_well(own_two_runs: Terminal) -> None:
    training = own_two_runs.where("train", *SHORT)
    trash = training.with_name(".removed_branch")
    trash.mkdir()
    (training / "metrics.csv").write_text("something else")

    assert own_two_runs.run("verify", "--mend").code == 0

    assert not trash.exists()


def test_a_checkpoint_that_a_killed_process_left_in_a_complete_run_is_swept(own_two_runs: Terminal) -> None:
    left = own_two_runs.where("train", *SHORT) / "checkpoint.safetensors"
    left.write_bytes(b"of use to nobody")

    assert own_two_runs.run("verify").code == 0

    assert not left.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_folder_that_may_not_be_looked_into_breaks_no_command_for_the_rest(own_two_runs: Terminal) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101
        root = Path(folder) / "root"
        shutil.copytree(own_two_runs.root, root)
        nobody = Terminal(root, own_two_runs.datasets, user=65534)
        root.chmod(0o700)
        nobody.run("ls").assert_is_for_people(1, "Cannot read", str(root))
        root.chmod(0o755)
        colleagues = root / f"train_{'c' * 32}" / "replicate_1"
        (colleagues / "main").mkdir(parents=True)
        colleagues.chmod(0o700)
        run = own_two_runs.where(*TRAIN).relative_to(own_two_runs.root)
        (root / ".locks" / f"{str(run).replace('/', '.')}.holder").write_text("{}")

        listed, shown, verified = nobody.run("ls"), nobody.run("show", str(run)), nobody.run("verify")

    assert "complete" in listed.out and "closed" in listed.out and "damaged" not in listed.out
    assert "accuracy" in shown.out
    assert verified.code == 1 and "0 damaged, 2 whole, 1 closed" in verified.out
    assert not any("Traceback" in result.err for result in (listed, shown, verified))


def test_a_run_is_not_reused_over_a_flipped_bit(own_two_runs: Terminal) -> None:
    path = own_two_runs.where("train", *SHORT) / "state_ep3_it0.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    own_two_runs.run("train", *SHORT).assert_is_for_people(1, str(path), "verify", "--mend")
    assert own_two_runs.run("verify", "--mend").code == 0
    assert own_two_runs.run("train", *SHORT).code == 0
    assert own_two_runs.run("verify").code == 0
