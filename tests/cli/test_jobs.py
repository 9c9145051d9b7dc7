from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from foundations.storage.store import find_run
from tests.cli.conftest import BRANCH
from tests.cli.terminal import LENET, LONG, SHORT, Terminal, tensors_of

TRAIN = ("train", *SHORT)


def test_a_first_command_trains_and_says_what_it_came_to(terminal: Terminal) -> None:
    result = terminal.cold(*TRAIN, is_bare=True)

    assert result.code == 0
    assert result.err == ""
    for words in (
        "Starting train_",
        "18 iterations",
        "ep 1 it 0  test_loss ",
        "Finished ",
        "test accuracy:",
        "computed",
    ):
        assert words in result.out
    assert str(terminal.where(*TRAIN)) in result.out
    assert (terminal.where(*TRAIN) / "manifest.json").exists()


def test_held_out_examples_choose_the_accuracy_that_is_said(terminal: Terminal) -> None:
    result = terminal.run(*TRAIN, "--validation_examples=157")

    folder = terminal.where(*TRAIN, "--validation_examples=157")
    results = json.loads((folder / "manifest.json").read_text())["results"]
    held_out, selected = (f"{100 * results[name]:.2f}%" for name in ("validation_accuracy", "selected_test_accuracy"))
    assert f"held out:       {held_out} (where that was best, test accuracy was {selected})" in result.out


@pytest.mark.parametrize("arguments", [TRAIN, BRANCH], ids=["train", "branch"])
def test_the_same_command_again_says_that_it_reused_the_run_and_changes_no_byte(
    two_runs: Terminal, arguments: tuple[str, ...]
) -> None:
    before = two_runs.files()

    result = two_runs.run(*arguments)

    assert result.code == 0
    assert "reused: the run was complete, nothing was computed" in result.out
    assert two_runs.files() == before


def test_a_branch_with_nothing_but_a_strategy_prunes_cifar_resnet_20_to_a_fifth(terminal: Terminal) -> None:
    preview = terminal.run("branch", "train", "oneshot", "--strategy=snip10", "--dry_run")

    described = json.loads(preview.out.partition("described by: ")[2].splitlines()[0])
    assert described["pruning"] == {"prune_fraction": 0.8, "strategy": "snip10"}
    parent = terminal.where("train", "--default_hparams=cifar_resnet_20")
    assert described["main"] == parent.parent.parent.name.removeprefix("train_")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TRAIN, ("train", *LENET, "--training_steps=18it")),
        (TRAIN, ("train", *LENET, "--training_steps", "2ep6it", "--lr=1e-1")),
        (("train",), ("train", "--default_hparams=cifar_resnet_20")),
        (("train",), ("train", "--default_hparams=cifar_resnet_20", "--training_steps=62560it")),
        (BRANCH, (*BRANCH[:-1], "--prune_fraction=0.9")),
        (BRANCH, (*BRANCH[:-1], "--compression=10")),
        (BRANCH, (*BRANCH, "--prune_lowest")),
        (
            TRAIN,
            (*TRAIN, "--device=cpu", "--threads=1", "--evaluate_only_at_end", "--weight_save_steps=1ep", "--quiet"),
        ),
    ],
)
def test_spellings_of_one_job_have_one_address(
    terminal: Terminal, one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    assert terminal.where(*one) == terminal.where(*other)


def test_a_preset_and_its_flags_spelled_out_have_one_address(terminal: Terminal) -> None:
    spelled_out = (
        "--dataset_name=mnist",
        "--batch_size=128",
        "--model_name=mnist_lenet_300_100",
        "--model_init=kaiming_normal",
        "--batchnorm_init=uniform",
        "--optimizer_name=sgd",
        "--lr=0.1",
        "--training_steps=40ep",
    )

    assert terminal.where("train", *spelled_out) == terminal.where("train", "--default_hparams=mnist_lenet_300_100")


def test_of_a_flag_that_is_given_twice_the_last_counts(terminal: Terminal) -> None:
    first, last = "--default_hparams=digits_lenet_16", "--default_hparams=digits_lenet_20"

    assert terminal.where("train", first, last) == terminal.where("train", last)
    assert terminal.where("train", "--lr=0.5", "--lr=0.1") == terminal.where("train", "--lr=0.1")


@pytest.mark.parametrize("flag", ["--dry_run", "--display_output_location"])
@pytest.mark.parametrize("job", [TRAIN, BRANCH], ids=["train", "branch"])
def test_looking_ahead_writes_nothing(terminal: Terminal, job: tuple[str, ...], flag: str) -> None:
    result = terminal.run(*job, flag)

    assert result.code == 0
    assert not terminal.root.exists()


def test_a_dry_run_says_what_is_there(two_runs: Terminal, terminal: Terminal) -> None:
    assert "complete: nothing to compute" in two_runs.run(*TRAIN, "--dry_run").out
    assert "not begun" in terminal.run(*TRAIN, "--dry_run").out


def test_quiet_is_quiet(terminal: Terminal) -> None:
    result = terminal.run(*TRAIN, "--quiet")

    assert (result.code, result.out, result.err) == (0, "", "")


def test_states_are_kept_at_the_steps_that_are_asked_for(terminal: Terminal) -> None:
    terminal.run(*TRAIN, "--weight_save_steps=2it,0ep3it-1ep3it@3it")

    names = [path.name for path in terminal.where(*TRAIN).glob("state_*")]
    assert sorted(names) == [
        f"state_ep{ep}_it{it}.safetensors" for ep, it in ((0, 0), (0, 2), (0, 3), (1, 0), (1, 3), (3, 0))
    ]


def test_states_that_are_asked_for_later_are_the_ones_that_would_have_been_kept(
    terminal: Terminal, own_two_runs: Terminal
) -> None:
    keep = "--weight_save_steps=1ep,7it"
    terminal.run(*TRAIN, keep)

    later = own_two_runs.run(*TRAIN, keep)
    again = own_two_runs.run(*TRAIN, keep)

    assert "Replaying" in later.out
    assert "reused" in again.out
    assert tensors_of(own_two_runs.where(*TRAIN)) == tensors_of(terminal.where(*TRAIN))
    assert own_two_runs.run("verify").code == 0


def test_a_branch_by_magnitude_at_step_0_trains_no_parent(terminal: Terminal) -> None:
    result = terminal.run("branch", "train", "oneshot", *SHORT, "--strategy=magnitude")

    assert result.code == 0
    parent = find_run(terminal.root, "train")
    assert sorted(path.name for path in parent.folder.iterdir()) == ["description.json", "state_ep0_it0.safetensors"]


def test_a_training_that_diverges_ends_with_what_it_came_to(terminal: Terminal) -> None:
    result = terminal.run(*TRAIN, "--lr=1e30")

    assert result.code == 0
    assert "test loss:      not a number" in result.out
    assert "not a number" in terminal.run("show", "train").out
    assert terminal.run(*TRAIN, "--lr=1e30").code == 0
    json.loads(terminal.run("ls", "--json").out, parse_constant=pytest.fail)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_every_precision_runs(terminal: Terminal, precision: str) -> None:
    assert terminal.run(*TRAIN, f"--precision={precision}").code == 0


def test_of_two_processes_one_computes_and_the_other_waits_and_reuses(terminal: Terminal) -> None:
    both = [terminal.start("train", *LONG) for _ in range(2)]
    results = [running.result() for running in both]

    assert [result.code for result in results] == [0, 0]
    assert sorted("Starting" in result.out for result in results) == [False, True]
    waited = next(result for result in results if "Starting" not in result.out)
    assert "Waiting for process " in waited.out
    assert "reused" in waited.out
    assert terminal.run("verify").code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_job_that_is_asked_to_stop_checkpoints_and_says_how_to_go_on(
    terminal: Terminal, number: signal.Signals, code: int
) -> None:
    job = ("train", *LENET, "--training_steps=2000ep", "--evaluate_only_at_end")
    running = terminal.start(*job)
    running.wait_for("ep 0 it 0")

    running.signal(number)
    stopped = running.result()

    stopped.assert_is_for_people(code, f"Stopped by {number.name}", "the same command continues from there")
    run = find_run(terminal.root, "train")
    assert run.path("checkpoint.safetensors").exists()
    assert run.manifest() is None


def test_a_job_that_waits_can_be_stopped(terminal: Terminal) -> None:
    first = terminal.start("train", *LENET, "--training_steps=20000ep", "--evaluate_only_at_end")
    first.wait_for("ep 0 it 0")
    second = terminal.start("train", *LENET, "--training_steps=20000ep")
    second.wait_for("Waiting for process")

    second.signal(signal.SIGTERM)
    second.result().assert_is_for_people(143, "SIGTERM")
    first.kill()


LONG_JOBS = {
    "train": ("train", *LONG),
    "branch": ("branch", "train", "oneshot", *LONG, "--strategy=snip1", "--optimizer_name=adam", "--lr=0.01"),
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Callable[[str], dict[str, str]]:
    """The digests of the long jobs' files, had they not been interrupted."""
    terminal = Terminal(tmp_path_factory.mktemp("whole"), digits)
    known: dict[str, dict[str, str]] = {}

    def digests(name: str) -> dict[str, str]:
        if name not in known:
            assert terminal.run(*LONG_JOBS[name]).code == 0
            known[name] = tensors_of(terminal.where(*LONG_JOBS[name]))
        return known[name]

    return digests


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG_JOBS)
def test_a_job_that_is_killed_at_random_moments_ends_with_the_same_bytes(
    terminal: Terminal, uninterrupted: Callable[[str], dict[str, str]], name: str
) -> None:
    moments = torch.rand(5, generator=torch.Generator().manual_seed(1)).tolist()
    expected, killed = uninterrupted(name), 0
    for moment in moments:
        running = terminal.start(*LONG_JOBS[name])
        time.sleep(0.1 + 0.3 * moment)
        killed += running.kill()

    assert terminal.run(*LONG_JOBS[name]).code == 0

    assert killed >= 2
    assert tensors_of(terminal.where(*LONG_JOBS[name])) == expected
    assert terminal.run("verify").code == 0


@pytest.mark.parametrize("name", LONG_JOBS)
def test_a_job_that_is_stopped_by_signals_ends_with_the_same_bytes(
    terminal: Terminal, uninterrupted: Callable[[str], dict[str, str]], name: str
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        running = terminal.start(*LONG_JOBS[name])
        running.wait_for("ing train_")
        time.sleep(0.1)
        running.signal(number)
        assert running.result().code == 128 + number

    resumed = terminal.run(*LONG_JOBS[name])

    assert "Resuming" in resumed.out
    assert tensors_of(terminal.where(*LONG_JOBS[name])) == uninterrupted(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG_JOBS)
def test_a_cold_job_that_is_killed_at_twenty_random_moments_ends_with_the_same_bytes(
    terminal: Terminal, uninterrupted: Callable[[str], dict[str, str]], name: str
) -> None:
    import os
    import subprocess
    import sys

    from tests.conftest import REPOSITORY

    moments = torch.rand(20, generator=torch.Generator().manual_seed(2)).tolist()
    expected, killed = uninterrupted(name), 0
    for moment in moments:
        process = subprocess.Popen(
            [sys.executable, "open_prune.py", *LONG_JOBS[name]],
            cwd=REPOSITORY,
            env={**os.environ, **terminal.settings()},
            stdout=subprocess.DEVNULL,
        )
        time.sleep(5 * moment)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    assert terminal.cold(*LONG_JOBS[name]).code == 0

    assert killed
    assert tensors_of(terminal.where(*LONG_JOBS[name])) == expected
    assert terminal.run("verify").code == 0


def test_a_collapsed_layer_is_named_after_the_job(terminal: Terminal) -> None:
    result = terminal.run("branch", "train", "oneshot", *SHORT, "--strategy=magnitude", "--density=0.001")

    assert result.code == 0
    assert "collapsed:      1 of 2 layers have no weights left: fc" in result.out


def test_a_dry_run_prints_the_plan_in_order_with_what_is_there(terminal: Terminal) -> None:
    command = ("branch", "train", "oneshot", *SHORT, "--strategy=magnitude", "--prune_step=3ep", "--state_step=4it")

    def plan() -> list[list[str]]:
        lines = terminal.run(*command, "--dry_run").out.splitlines()
        header = next(number for number, line in enumerate(lines) if line.startswith("RUN "))
        return [re.split(r"  +", line) for line in lines[header + 1 :]]

    def run_of(*arguments: str) -> str:
        return str(terminal.where(*arguments).relative_to(terminal.root))

    branch, parent = run_of(*command), run_of(*TRAIN)
    assert plan() == [[parent, "not begun", "train to 18it"], [branch, "not begun", "train to 18it"]]
    terminal.run(*TRAIN)
    assert plan() == [[parent, "complete", "keep the state at 4it"], [branch, "not begun", "train to 18it"]]
    terminal.run(*command)
    assert plan() == [[branch, "complete", "nothing"]]


def test_the_folder_of_datasets_may_lie_below_the_home_directory(terminal: Terminal, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (300, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=images, labels=np.arange(300) % 3)
    shutil.copytree(terminal.datasets, tmp_path / "home" / "sets")
    elsewhere = Terminal(terminal.root, tmp_path / "nowhere", {"HOME": str(tmp_path / "home")})

    for command in (
        ("datasets", "add", "noise", str(tmp_path / "noise.npz"), "--datasets_root=~/sets"),
        ("train", *SHORT, "--datasets_root=~/sets"),
        ("train", *SHORT, "--dataset_name=noise", "--datasets_root", "~/sets"),
    ):
        result = elsewhere.run(*command)
        assert result.code == 0, result.err
        assert "prepared digits" not in result.out

    assert "noise" in elsewhere.run("datasets", "--datasets_root=~/sets").out
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["sets"]
    assert not (tmp_path / "nowhere").exists()
