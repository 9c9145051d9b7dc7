"""The executor of docs/executors.md, a plug-in, against a stand-in for PBS that runs jobs on this machine."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.terminal import LENET, SHORT, Result, Terminal, tensors_of
from tests.platforms import stand_in_pbs

PBS = ("--plugin=examples/pbs_executor.py", "--executor=pbs", "--pbs_ncpus=1", "--pbs_poll_seconds=0.2")
TRAIN = ("train", *LENET, "--evaluate_only_at_end", "--checkpoint_seconds=1000")
SLOW = (*TRAIN, "--training_steps=1000ep")
"""Some seconds of training, with no checkpoint unless it is asked for."""
FAILS = """
from open_prune import Method, PruningHparams

def fail(scoring, hparams):
    raise OSError("never mind")

BAD = Method(spelling="bad", paper="none", hparams=PruningHparams, score=fail, depends_on_mask=False)
"""


@dataclass
class Cluster:
    folder: Path
    terminal: Terminal

    def set(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def sweep(self, *arguments: str) -> tuple[str, ...]:
        return ("sweep", *PBS, *arguments)

    def jobs(self, name: str) -> list[str]:
        """Return an attribute of all jobs."""
        return [stand_in_pbs.get(job, name) for job in sorted((self.folder / "jobs").iterdir())]

    def statuses(self) -> list[str]:
        """Wait until all jobs have ended, and return their exit codes."""
        wait_for(lambda: set(self.jobs("state")) == {"F"})
        return self.jobs("Exit_status")

    def calls(self) -> list[str]:
        return (self.folder / "qsub.calls").read_text().splitlines()

    def log(self) -> str:
        return "".join(path.read_text() for path in self.terminal.root.rglob("log.txt"))


@pytest.fixture
def cluster(tmp_path: Path, digits: Path) -> Iterator[Cluster]:
    path = f"{stand_in_pbs.install(tmp_path / 'pbs')}{os.pathsep}{os.environ['PATH']}"
    made = Cluster(tmp_path / "pbs", Terminal(tmp_path / "root", digits, {"PATH": path}))
    yield made
    for job in (made.folder / "jobs").iterdir():
        stand_in_pbs.put(job, "deleted", "")
    wait_for(lambda: set(made.jobs("state")) <= {"F"})


def wait_for(is_so: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_done(result: Result) -> None:
    assert result.code == 0, result.out + result.err


def test_a_sweep_runs_as_arrays_with_the_resources_of_its_flags_and_repeated_submits_nothing(cluster: Cluster) -> None:
    resources = ("--pbs_queue=short", "--pbs_account=sparse", "--pbs_ngpus=1", "--pbs_memory=0.5", "--pbs_walltime=90")
    command = cluster.sweep("--grid", "replicate=1-2", *resources, "--", "train", *SHORT)

    assert_done(cluster.terminal.run(*command))
    (call,) = cluster.calls()
    assert_done(cluster.terminal.run(*command))

    assert cluster.calls() == [call]
    assert all(" 5310.0 " in script for script in cluster.jobs("script")), "a job ends 90 seconds before its walltime"
    for words in ("-J 0-1", "select=1:ncpus=1:ngpus=1:mem=512mb", "walltime=01:30:00", "-q short", "-A sparse"):
        assert words in call
    assert cluster.statuses() == ["0", "0"]
    assert not list((cluster.terminal.root / ".jobs" / "pbs").iterdir()), "nothing is left of jobs that ended well"


def test_a_failing_run_does_not_stop_others_nor_does_a_qstat_that_fails_for_a_moment(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "my_bad.py").write_text(FAILS)
    cluster.set("fail", "4")
    flags = (f"--plugin={tmp_path / 'my_bad.py'}", "--grid", "strategy=magnitude,bad")

    result = cluster.terminal.run(*cluster.sweep(*flags, "--", "branch", "train", "oneshot", *SHORT))

    assert result.code == 1
    assert "never mind" in result.out
    assert cluster.terminal.run("ls").out.split().count("complete") == 1
    assert cluster.statuses() == ["0", "0", "1"], "the branches were submitted after their parent"
    assert stand_in_pbs.get(cluster.folder, "fail") == "0"


def test_a_stopped_sweep_writes_checkpoints_empties_the_queue_and_ends_later_with_the_same_bytes(
    cluster: Cluster, tmp_path: Path, digits: Path
) -> None:
    cluster.set("slots", "1")
    command = cluster.sweep("--grid", "training_steps=1000ep,3ep", "--", *TRAIN)
    running = cluster.terminal.start(*command)
    wait_for(lambda: "iterations." in cluster.log())
    assert cluster.jobs("state") == ["R", "Q"]
    with_plugin, without = (cluster.terminal.run("watch", "--once", *flags).out for flags in ((PBS[0],), ()))

    assert_done(cluster.terminal.run("stop"))
    stopped = running.result()

    assert re.search(r"waiting +\(Not Running.* pbs:1\[1\]\.stand-in", with_plugin), with_plugin
    assert "There is no executor 'pbs' here" in without
    assert stopped.code == 130, stopped.out + stopped.err
    assert cluster.statuses() == ["143", ""]
    assert len(list(cluster.terminal.root.rglob("checkpoint.safetensors"))) == 1
    assert_done(cluster.terminal.run(*command))
    assert cluster.log().count("Resuming") == 1
    undisturbed = Terminal(tmp_path / "other", digits)
    assert_done(undisturbed.run(*SLOW))
    ours, theirs = (terminal.where(*SLOW) for terminal in (cluster.terminal, undisturbed))
    assert tensors_of(ours) == tensors_of(theirs)


def test_a_job_that_is_killed_at_its_walltime_is_submitted_again_and_goes_on(cluster: Cluster) -> None:
    running = cluster.terminal.start(*SLOW, *PBS)
    wait_for(lambda: "iterations." in cluster.log())

    cluster.set("minute", "0")
    wait_for(lambda: cluster.jobs("state")[0] == "F")
    cluster.set("minute", "60")

    assert_done(running.result())
    assert cluster.statuses() == ["-29", "0"]
    assert cluster.log().count("Resuming") == 1


def test_a_job_that_is_deleted_from_the_queue_fails(cluster: Cluster) -> None:
    cluster.set("slots", "0")
    running = cluster.terminal.start("train", *PBS, *SHORT)
    wait_for(lambda: cluster.jobs("state") == ["Q"])
    stand_in_pbs.qdel(cluster.folder, ["1.stand-in"])

    result = running.result()

    assert result.code == 1
    assert "it was deleted from the queue (qdel)" in result.out + result.err


def test_a_qsub_that_refuses_is_an_error_in_its_words(cluster: Cluster) -> None:
    cluster.set("refuse", "Unknown queue")

    result = cluster.terminal.run("train", *PBS, "--pbs_queue=nowhere", *SHORT)

    result.assert_is_for_people(1, "qsub failed: qsub: Unknown queue")


def test_without_pbs_the_error_names_its_commands(tmp_path: Path, digits: Path) -> None:
    terminal = Terminal(tmp_path / "root", digits)

    terminal.run("train", *PBS, *SHORT).assert_is_for_people(1, "PBS's commands (qsub, qstat, qdel)")
