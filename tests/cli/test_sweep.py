from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from branches.job_files import job_file
from foundations.description.address import Location
from foundations.parts import part_of
from foundations.storage.locks import is_held, read_holder
from foundations.storage.run import MANIFEST, Run
from foundations.storage.store import all_runs, find_run
from tests.cli.terminal import LONG, SHORT, Terminal, tensors_of

BRANCH = ("branch", "train", "oneshot")
GRID = ("--grid", "strategy=magnitude,snip1", "--grid", "density=0.5^1..2")


def folders(terminal: Terminal) -> dict[str, Path]:
    """Return the folders of the complete runs under the root, by their place there."""
    return {str(path.parent.relative_to(terminal.root)): path.parent for path in terminal.root.rglob(MANIFEST)}


def contents(terminal: Terminal) -> dict[str, tuple[dict[str, str], str]]:
    """Return the digests of states and masks, and the metrics, of each complete run."""
    return {
        name: (tensors_of(folder), (folder / "metrics.csv").read_text()) for name, folder in folders(terminal).items()
    }


def trainings(folder: Path) -> list[str]:
    """Return the lines of a run's log that begin a training or go on with one."""
    words = ("Starting ", "Resuming ", "Replaying ")
    return [line for line in (folder / "log.txt").read_text().splitlines() if any(word in line for word in words)]


def test_a_sweep_computes_what_its_commands_compute_one_by_one(terminal: Terminal, tmp_path: Path) -> None:
    alone = Terminal(tmp_path / "alone", terminal.datasets)
    command = ("sweep", *GRID, "--jobs=2", "--", *BRANCH, *SHORT)

    swept = terminal.run(*command)
    for line in terminal.run("sweep", *GRID, "--export", "--", *BRANCH, *SHORT).out.splitlines():
        words = shlex.split(line)
        assert words[:2] == ["python", "open_prune.py"]
        assert alone.run(*words[2:], "--threads=1").code == 0

    assert swept.code == 0, swept.out + swept.err
    assert "4 runs, 0 done\n1 more, on which they depend" in swept.out
    assert "4 of 4 runs are complete: 4 computed now, 0 before" in swept.out
    assert len(contents(terminal)) == 4
    assert contents(terminal) == contents(alone)
    main = find_run(terminal.root, "train").folder
    assert not (main / "log.txt").exists(), "the parent was only initialized"


def test_a_sweep_that_is_repeated_computes_nothing(own_two_runs: Terminal) -> None:
    terminal = own_two_runs
    before = terminal.files()

    again = terminal.run("sweep", "--grid", "density=0.1", "--", *BRANCH, *SHORT, "--strategy=snip1")

    assert again.out.splitlines() == ["1 run, 1 done", "1 of 1 run is complete: 0 computed now, 1 before"]
    assert {name: each for name, each in terminal.files().items() if not name.startswith(".sweeps")} == before


def test_a_preview_computes_nothing(terminal: Terminal) -> None:
    shown = terminal.run("sweep", *GRID, "--grid", "replicate=1-2", "--dry_run", "--", *BRANCH, *SHORT)

    assert shown.code == 0, shown.err
    assert (
        "8 runs, 0 done\n2 more, on which they depend, are computed as far as needed\n144 iterations left" in shown.out
    )
    assert not terminal.root.exists()


DIGITS = ("train", *SHORT)


@pytest.mark.parametrize("flag", ["--dry_run", "--dry-run", "--display_output_location"])
def test_a_sweep_whose_command_asks_to_print_only_computes_nothing(terminal: Terminal, flag: str) -> None:
    shown = terminal.cold("sweep", "--grid", "replicate=1-2", "--", *DIGITS, flag)

    assert shown.code == 0, shown.err
    assert "2 runs, 0 done" in shown.out or len(shown.out.splitlines()) == 2
    assert not terminal.root.exists()


def test_flags_of_the_work_hold_wherever_they_stand(terminal: Terminal, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    file = tmp_path / "sweep.toml"
    file.write_text(f'command = "train"\n[base]\nroot = "{elsewhere}"\n[[grid]]\nreplicate = [1, 2]\n')

    done = terminal.run("sweep", str(file), "--quiet", "--", *SHORT, "--jobs=1", "--evaluate_only_at_end")

    assert (done.code, done.out) == (0, ""), done.out + done.err
    assert not terminal.root.exists()
    metrics = [path.read_text() for path in elsewhere.rglob("metrics.csv")]
    assert len(metrics) == 2
    assert all(text.count("test_accuracy") == 2 for text in metrics)


@pytest.mark.parametrize(
    ("before", "behind", "words"),
    [
        (("--grid", "lr=0.1,0.01"), ("--lr=0.2",), ("--lr", "0.1, 0.01", "0.2")),
        (("--grid", "lr=0.1,0.01"), ("--lr", "0.1"), ("--lr", "0.1, 0.01", "fixed")),
        (("--grid", "strategy=magnitude,snip1"), ("--pruning_strategy=random",), ("--strategy", "snip1", "random")),
        (("--grid", "density=0.5,0.2"), ("--compression=5",), ("--density", "--compression", "0.5", "0.8")),
        (("--grid", "data-order-seed=1,2"), ("--data_order_seed=3",), ("--data_order_seed", "1, 2", "3")),
        (("--grid", "reinitialize=true,false"), ("--no_reinitialize",), ("--reinitialize", "on, off")),
        (("--grid", "lr=0.1", "--grid", "lr=0.2"), (), ("--lr", "twice")),
        (("--grid", "lr,lr=0.1:0.2"), (), ("--lr", "twice")),
        (("--grid", "threads=1,2"), (), ("--threads", "all runs of a sweep share it")),
        (("--grid", "replicate=1-2", "--when", "replicate=1:device=cpu"), (), ("--device", "share")),
        (("--threads=1",), ("--threads=2",), ("--threads", "1 before --", "2 behind it")),
        (("--grid", "plugin=a.py,b.py"), (), ("--plugin", "on the command line")),
        ((), ("--executor=None",), ("--executor", "pool")),
    ],
)
def test_flags_that_disagree_are_refused_with_both(
    terminal: Terminal, before: tuple[str, ...], behind: tuple[str, ...], words: tuple[str, ...]
) -> None:
    result = terminal.run("sweep", *before, "--", *BRANCH, *SHORT, *behind)

    result.assert_is_for_people(2, *words)
    assert not terminal.root.exists()


def test_a_fixed_flag_of_the_value_of_the_grid_is_no_disagreement(terminal: Terminal) -> None:
    shown = terminal.run("sweep", "--grid", "lr=0.1", "--dry_run", "--", *DIGITS, "--lr=1e-1")

    assert "1 run, 0 done" in shown.out


def test_grids_of_a_file_that_differ_in_what_all_runs_share_are_refused(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text("command = 'train'\n[[grid]]\nthreads = 1\n[[grid]]\nbase = { threads = 2 }\n")

    terminal.run("sweep", str(file)).assert_is_for_people(2, "--threads", "1 in one, 2 in another")


def test_the_first_dry_run_on_a_machine_times_a_few_steps_and_later_ones_know_them(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal.environment["OPEN_PRUNE_CACHE"] = str(tmp_path / "cache")
    command = ("sweep", *GRID, "--dry_run", "--", *BRANCH, *SHORT, "--threads=1")

    first, second = terminal.cold(*command), terminal.run(*command)
    longer = terminal.run(*command[:-1], "--training_steps=3000ep")
    elsewhere = terminal.run(*command, "--executor=slurm")

    assert re.search(
        r"72 iterations left, (about|less than) .* of computing.* \(a few steps were timed, in .* s\)", first.out
    )
    assert re.search(r"72 iterations left, (about|less than) [^(]*$", second.out.strip())
    assert re.search(r"72000 iterations left, about [^(]*$", longer.out.strip())
    assert "time not known yet, and not timed" in elsewhere.out
    assert not terminal.root.exists()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["rates.json"]


def test_rates_that_cannot_be_read_or_kept_are_timed_again(terminal: Terminal, tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "rates.json"
    kept.parent.mkdir()
    terminal.environment["OPEN_PRUNE_CACHE"] = str(kept.parent)
    command = ("sweep", "--grid", "replicate=1", "--dry_run", "--", *DIGITS)
    for text in ("not JSON", "[]", '{"a": 1}', '{"a": {"iteration": "x"}}'):
        kept.write_text(text)
        assert "a few steps were timed" in terminal.run(*command).out
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("a file")

    assert "a few steps were timed" in terminal.run(*command).out


def test_rates_of_yesterday_are_timed_again(terminal: Terminal, tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "rates.json"
    terminal.environment["OPEN_PRUNE_CACHE"] = str(kept.parent)
    command = ("sweep", "--grid", "replicate=1", "--dry_run", "--", *DIGITS, "--threads=1")
    assert "a few steps were timed" in terminal.run(*command).out
    (entry,) = json.loads(kept.read_text()).items()
    slow = dict.fromkeys(entry[1], 1e6)

    for timed_at in (time.time() - 25 * 3600, time.time() + 3600, None):
        aged = slow | {"timed_at": timed_at} if timed_at else {name: 1e6 for name in slow if name != "timed_at"}
        kept.write_text(json.dumps({entry[0]: aged}))
        assert "a few steps were timed" in terminal.run(*command).out
        assert json.loads(kept.read_text())[entry[0]]["iteration"] < 1e6
    kept.write_text(json.dumps({entry[0]: slow | {"timed_at": time.time()}}))

    assert "were timed" not in terminal.run(*command).out


def test_a_run_that_fails_does_not_stop_the_others_and_is_not_tried_again_unasked(terminal: Terminal) -> None:
    command = ("sweep", "--grid", "strategy=magnitude,snip1000", "--jobs=1")
    run = ("--", *BRANCH, *SHORT)

    first, second, third = (terminal.run(*command, *more, *run) for more in ((), (), ("--retry", "failed")))

    for result in (first, second, third):
        assert result.code == 1
        assert "strategy=snip1000: " in result.out
        assert "--retry failed" in result.out
    assert "1 of 2 runs are complete: 1 computed now, 0 before" in first.out
    assert "it failed before: " in second.out
    assert "it failed before: " not in third.out
    (failure,) = terminal.root.rglob("failure.json")
    assert "snip1000" not in failure.read_text()
    assert "fewer" in failure.read_text() or "examples" in failure.read_text()


def test_a_killed_sweep_goes_on_where_it_was(terminal: Terminal) -> None:
    command = ("sweep", "--grid", "replicate=1-3", "--jobs=2", "--", "train", *LONG)
    running = terminal.start(*command)
    while not list(terminal.root.glob("train_*/replicate_*/.main/*/checkpoint.safetensors")):
        time.sleep(0.01)
    assert running.kill()

    again = terminal.run(*command)

    assert again.code == 0, again.out + again.err
    found = folders(terminal)
    assert len(found) == 3
    assert sum("Resuming" in line for folder in found.values() for line in trainings(folder)) >= 1
    assert all(sum("Starting" in line for line in trainings(folder)) == 1 for folder in found.values())


def test_two_sweeps_at_once_share_the_work_and_can_be_watched_and_stopped(terminal: Terminal) -> None:
    command = ("sweep", "--grid", "replicate=1-4", "--jobs=1", "--", "train", *LONG, "--threads=1")

    sweeps = [terminal.start(*command) for _ in range(2)]
    sweeps[0].wait_for("done ")
    watched = terminal.run("watch").out
    stopped = terminal.run("stop")
    results = [sweep.result() for sweep in sweeps]

    assert watched.count(" running") >= 2, watched
    assert stopped.out.count("Asked ") == 2
    assert all(result.code == 130 for result in results), [result.out + result.err for result in results]
    assert all("The same command goes on from there." in result.err for result in results)
    assert terminal.run("watch").out.strip() == f"Nothing is being computed under {terminal.root}."

    results = [sweep.result() for sweep in [terminal.start(*command) for _ in range(2)]]

    assert all(result.code == 0 for result in results), [result.out + result.err for result in results]
    assert len(folders(terminal)) == 4
    for folder in folders(terminal).values():
        assert sum("Starting" in line for line in trainings(folder)) == 1
        assert len(trainings(folder)) <= 2


def test_a_single_job_can_be_given_to_an_executor(terminal: Terminal) -> None:
    result = terminal.run(*BRANCH, *SHORT, "--density=0.5", "--executor=pool", "--jobs=1")

    assert result.code == 0, result.out + result.err
    assert "test accuracy:" in result.out
    assert len(folders(terminal)) == 1
    assert list((terminal.root / ".jobs").iterdir()) == [], "job files of runs that are done are removed"


def test_the_parts_of_job_files_that_a_killed_sweep_left_are_removed(terminal: Terminal) -> None:
    command = (*BRANCH, *SHORT, "--density=0.5", "--executor=pool", "--jobs=1")
    assert terminal.run(*command).code == 0
    ((run, _),) = folders(terminal).items()
    gone = subprocess.Popen(["true"])
    gone.wait()
    jobs = terminal.root / ".jobs"
    part = part_of(jobs / f"{run.replace('/', '.')}.json")
    part.with_name(part.name.replace(f"-{os.getpid()}-", f"-{gone.pid}-")).touch()

    assert terminal.run(*command).code == 0

    assert list(jobs.iterdir()) == []


def test_runs_that_a_job_trains_together_are_complete_and_what_fails_among_them_is_named(
    terminal: Terminal, tmp_path: Path
) -> None:
    grid = ("--grid", "strategy=magnitude,snip1,random,snip1000", "--jobs=1")

    swept = terminal.run("sweep", *grid, "--together=4", "--", *BRANCH, *SHORT)

    assert swept.code == 1
    assert "3 of 4 runs are complete: 3 computed now, 0 before" in swept.out
    assert "strategy=snip1000: " in swept.out
    assert len(list(terminal.root.rglob("failure.json"))) == 1
    assert terminal.run("verify").code == 0
    alone = Terminal(tmp_path / "alone", terminal.datasets)
    for strategy in ("magnitude", "snip1", "random"):
        assert alone.run(*BRANCH, *SHORT, f"--strategy={strategy}", "--threads=1").code == 0
    together, one_by_one = folders(terminal), folders(alone)
    assert together.keys() == one_by_one.keys()
    for name, folder in together.items():
        manifest, expected = (json.loads((each / MANIFEST).read_text()) for each in (folder, one_by_one[name]))
        assert manifest["results"] == pytest.approx(expected["results"], abs=0.01)
        assert "stacked with 2 other runs" in manifest["device"]


def test_a_single_process_trains_the_runs_of_a_command_together(terminal: Terminal) -> None:
    command = (*BRANCH[:2], "chain", *SHORT, "--strategy=random", "--sparsities=0.5,0.8", "--together=2")

    assert terminal.run(*command).code == 0
    refused = terminal.run(*command, "--platform=multi_gpu", "--num_processes=2", "--lr=0.3")

    refused.assert_is_for_people(2, "--together", "several processes train one run")


@pytest.mark.slow
def test_levels_of_a_lottery_are_computed_in_order_by_a_sweep(terminal: Terminal) -> None:
    result = terminal.run("sweep", "--grid", "replicate=1-2", "--jobs=2", "--", "lottery", *SHORT, "--levels=2")

    assert result.code == 0, result.out + result.err
    assert "6 of 6 runs are complete: 6 computed now, 0 before" in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("give one file, or a command behind --",)),
        (("--", "ls"), ("'ls' is not a command to sweep over", "train, branch, lottery")),
        (("--grid", "lr", "--", "train"), ("--grid", "FLAG=VALUE")),
        (("--grid", "lr=0.1,x", "--", "train"), ("--lr", "'x'", "in the run with lr=x")),
        (("--retry=all", "--", "train"), ("--retry", "failed")),
        (("missing.toml",), ("missing.toml",)),
        (("--when", "a", "--", "train"), ("--when", "FLAG=VALUE:FLAG=VALUE")),
        (("--grid", "help=all", "--", "train"), ("--help", "write --help on the command line")),
        (
            ("--grid", "lr=0.1", "--when", "lr=0.1:batch_size=8", "--when", "lr=0.1:batch_size=9", "--", "train"),
            ("--batch_size", "it is to be both 8 and 9", "lr=0.1"),
        ),
    ],
)
def test_mistakes_name_the_flag(terminal: Terminal, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    result = terminal.run("sweep", *arguments)

    result.assert_is_for_people(1 if "missing.toml" in arguments else 2, *words)


def test_a_rule_of_a_file_for_a_flag_that_does_not_exist_is_refused(terminal: Terminal, tmp_path: Path) -> None:
    text = "command = 'train'\n[[when]]\n{} = 'synflow'\nset = {{ lr = 0.1 }}\n"
    (tmp_path / "wrong.toml").write_text(text.format("strateggy"))
    (tmp_path / "right.toml").write_text(text.format("strategy"))

    wrong = terminal.run("sweep", str(tmp_path / "wrong.toml"), "--export")
    right = terminal.run("sweep", str(tmp_path / "right.toml"), "--export")

    wrong.assert_is_for_people(2, "[[when]]: there is no flag --strateggy. Did you mean '--strategy'?")
    assert right.code == 0, right.err


def kill_a_worker(terminal: Terminal, chance: random.Random) -> bool:
    """Kill a process that works on a run and has written a checkpoint; tell whether there was one."""
    begun = [path.parents[1] for path in terminal.root.glob("*/replicate_*/.*/*/checkpoint.safetensors")]
    locks = [Run(terminal.root, Location(*located(folder))).lock_path for folder in begun]
    holders = [holder for lock in locks if is_held(lock) and (holder := read_holder(lock))]
    if not holders:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(chance.choice(holders)["pid"]), signal.SIGKILL)
    return True


def located(folder: Path) -> tuple[str, int, str]:
    training, replicate, name = folder.parts[-3:]
    return training, int(replicate.removeprefix("replicate_")), name.removeprefix(".")


@pytest.mark.slow
def test_sixty_runs_survive_ten_kills_and_end_with_the_bytes_of_their_commands(
    terminal: Terminal, tmp_path: Path
) -> None:
    chance = random.Random(0)
    grid = ("--grid", "strategy=random,magnitude,snip1", "--grid", "density=0.5^1..4", "--grid", "replicate=1-5")
    longer = (*SHORT[:-1], "--training_steps=250ep", "--evaluate_only_at_end", "--checkpoint_seconds=0.05")
    command = ("sweep", *grid, "--jobs=2", "--", *BRANCH, *longer)
    workers = 0
    for _ in range(10):
        running = terminal.start(*command)
        for _ in range(3):
            time.sleep(chance.uniform(1, 3))
            workers += kill_a_worker(terminal, chance)
        running.kill()

    last = terminal.run(*command)

    assert workers
    assert last.code == 0, last.out + last.err
    alone = Terminal(tmp_path / "alone", terminal.datasets)
    for line in terminal.run("sweep", *grid, "--export", "--", *BRANCH, *longer).out.splitlines():
        assert alone.run(*shlex.split(line)[2:], "--threads=1").code == 0
    assert len(contents(terminal)) == 60
    assert contents(terminal) == contents(alone)
    assert all(sum("Starting" in line for line in trainings(each)) == 1 for each in folders(terminal).values())


def test_a_job_whose_file_another_sweep_has_removed_is_busy_if_its_run_is_complete(terminal: Terminal) -> None:
    assert terminal.run(*DIGITS).code == 0
    (run,) = all_runs(terminal.root)
    file, other = job_file(run, terminal.root / ".jobs"), job_file(run, terminal.root / "elsewhere").with_suffix(".js")
    run.generations.folder.mkdir()
    (run.generations.folder / "output.txt").touch()

    gone, wrong = terminal.run("run", str(file)), terminal.run("run", str(other))

    assert (gone.code, gone.out + gone.err) == (75, "")
    assert not run.generations.folder.exists()
    assert wrong.code != 75
    assert "No such file" in wrong.err
