"""The executor slurm, on a real Slurm: this machine's, or one that a tool beside the repository starts.

Everything that needs one is marked `cluster`: `make test-cluster`.
"""

from __future__ import annotations

import builtins
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from foundations.errors import EnvironmentFailure
from foundations.program import COMMAND
from platforms.executors.executor import CommandJob, Ended, Executor, Program
from platforms.executors.registry import make_executor
from platforms.executors.slurm import SlurmHparams
from tests.cli.terminal import LENET, SHORT, Terminal, tensors_of
from tests.conftest import SHARED

LOOPBACK = SHARED / "tools" / "slurm_loopback.sh"
GRID = ("--grid", "strategy=random,magnitude", "--grid", "density=0.5,0.25,0.1,0.05")
ENDLESS = ("train", *LENET, "--training_steps=1000000ep", "--evaluate_only_at_end", "--checkpoint_seconds=1000")
FAILS = """
from open_prune import Method, PruningHparams

def fail(scoring, hparams):
    raise OSError("never mind")

BAD = Method(spelling="bad", paper="none", hparams=PruningHparams, score=fail, depends_on_mask=False)
"""


def _answers() -> bool:
    try:
        return subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Slurm that answers."""
    pytest.importorskip("submitit", reason="submitit is not installed: pip install -r requirements-cluster.txt")
    if _answers():
        yield
        return
    if not LOOPBACK.exists():
        pytest.skip("no Slurm answers here, and ../shared/tools/slurm_loopback.sh, which starts one, is not there")
    started = subprocess.run([LOOPBACK, "start"], capture_output=True, text=True)
    if started.returncode != 0 or not _answers():
        pytest.skip(f"no Slurm could be started here: {started.stderr.strip().splitlines()[-1:]}")
    yield
    subprocess.run([LOOPBACK, "stop"], check=False)


Make = Callable[..., Executor]


@pytest.fixture
def make(
    cluster: None,  # noqa: ARG001 (there must be one)
    tmp_path: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Make]:
    """Makes executors; their remaining jobs are cancelled in the end."""
    for name, value in Terminal(tmp_path / "root", digits).settings().items():
        monkeypatch.setenv(name, value)
    made: list[Executor] = []

    def make(**hparams: Any) -> Executor:
        values = {"executor": "slurm", "slurm_cpus": 1, "slurm_poll_seconds": 1.0, **hparams}
        program = Program(entry="cli.main:main", command=COMMAND, folder=tmp_path / f"jobs{len(made)}")
        made.append(make_executor(SlurmHparams(**values), program))
        return made[-1]

    yield make
    for executor in made:
        executor.stop()


def all_ended(executor: Executor, count: int, seconds: float = 60.0) -> dict[str, Ended]:
    """Wait until some jobs have ended; return how, in that order."""
    deadline, found = time.monotonic() + seconds, dict[str, Ended]()
    while len(found) < count:
        assert time.monotonic() < deadline, (found, executor.queued())
        found.update({each.name: each for each in executor.ended(1.0)})
    return found


def wait_for(is_so: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def log_of(root: Path) -> str:
    """Return the log so far of the only run under a root."""
    return "".join(path.read_text() for path in root.rglob("log.txt"))


def lasting(seconds: float, terminal: Terminal) -> tuple[str, ...]:
    """Return a command that trains for about so long here, and writes no checkpoint unless it is asked to."""
    flags = ("train", *LENET, "--evaluate_only_at_end", "--checkpoint_seconds=1000")
    assert terminal.cold(*flags, "--training_steps=500ep", is_bare=True).code == 0
    (manifest,) = terminal.root.rglob("manifest.json")
    epochs = 500 * seconds / json.loads(manifest.read_text())["wall_seconds"]
    return (*flags, f"--training_steps={round(epochs)}ep")


def scancel(*arguments: str) -> None:
    subprocess.run(["scancel", *arguments], check=True)


# The real thing.


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_sweep_with_a_shared_parent_runs_to_the_end(tmp_path: Path, digits: Path) -> None:
    terminal = Terminal(tmp_path / "root", digits)
    flags = ("--executor=slurm", "--slurm_cpus=1", "--slurm_poll_seconds=2")
    command = ("sweep", *flags, *GRID, "--", "branch", "train", "oneshot", *SHORT, "--state_step=3ep")

    result = terminal.run(*command)
    again = terminal.run(*command)

    assert result.code == again.code == 0, result.out + result.err + again.err
    assert terminal.run("ls").out.split().count("complete") == 9
    outputs = list(terminal.root.rglob("output.txt"))
    assert len(outputs) == 9
    assert not list((terminal.root / ".jobs" / "slurm").iterdir()), "nothing is left of jobs that ended well"


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_run_that_fails_and_those_that_draw_on_it_do_not_stop_others(tmp_path: Path, digits: Path) -> None:
    terminal = Terminal(tmp_path / "root", digits)
    plugin = tmp_path / "my_bad.py"
    plugin.write_text(FAILS)
    flags = ("--executor=slurm", "--slurm_cpus=1", "--slurm_poll_seconds=2", f"--plugin={plugin}")
    grid = ("--grid", "strategy=magnitude,bad")

    result = terminal.cold("sweep", *flags, *grid, "--", "lottery", *SHORT, "--levels=2")

    assert result.code == 1, result.out + result.err
    assert terminal.run("ls").out.split().count("complete") == 3  # level 0, and two of the other strategy
    assert "never mind" in result.out
    assert "on which it depends, failed" in result.out


@pytest.mark.cluster
def test_a_job_whose_time_is_over_goes_on_to_the_same_bytes(make: Make, tmp_path: Path, digits: Path) -> None:
    undisturbed, cut = (
        make(),
        make(slurm_time=1, slurm_grace=29),
    )  # Slurm looks every 30 seconds: signals come at 1 to 31
    command = lasting(40.0, Terminal(tmp_path / "speed", digits))
    undisturbed.submit(CommandJob("undisturbed", (*command, f"--root={tmp_path / 'a'}"), tmp_path / "a.txt"))
    cut.submit(CommandJob("cut", (*command, f"--root={tmp_path / 'b'}"), tmp_path / "b.txt"))

    ended: dict[str, Ended] = {}
    deadline = time.monotonic() + 400
    while len(ended) < 2:
        assert time.monotonic() < deadline, (cut.queued(), undisturbed.queued())
        for executor in (undisturbed, cut):
            ended.update({each.name: each for each in executor.ended(1.0)})
        hasten()

    assert [ended[name].exit_code for name in ("undisturbed", "cut")] == [0, 0], ended
    (one,), (other,) = ([path.parent for path in (tmp_path / name).rglob("manifest.json")] for name in "ab")
    assert tensors_of(one) == tensors_of(other)
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    assert "Stopped by SIGTERM" in (tmp_path / "b.txt").read_text()
    assert "Stopped by SIGTERM" not in (tmp_path / "a.txt").read_text()


@pytest.mark.cluster
def test_a_failing_job_does_not_stop_others_and_frees_those_after_it(make: Make, tmp_path: Path) -> None:
    executor = make()
    executor.submit(CommandJob("good", ("--version",), tmp_path / "good.txt"))
    executor.submit(CommandJob("bad", ("nonsense",), tmp_path / "bad.txt"))
    executor.submit(CommandJob("after good", ("--version",), tmp_path / "after_good.txt", ("good",)))
    executor.submit(CommandJob("after bad", ("--version",), tmp_path / "after_bad.txt", ("bad",)))
    executor.submit(CommandJob("after both", ("--version",), tmp_path / "after_both.txt", ("good", "after bad")))

    ended = all_ended(executor, 5)

    codes = {name: each.exit_code for name, each in ended.items()}
    assert codes == {"good": 0, "bad": 2, "after good": 0, "after bad": 75, "after both": 75}
    executor.submit(CommandJob("later", ("--version",), tmp_path / "later.txt", ("good", "bad")))
    assert all_ended(executor, 1)["later"].exit_code == 75
    assert "did not end well" in ended["after bad"].reason
    assert "'nonsense' is not a command" in (tmp_path / "bad.txt").read_text()
    assert not (tmp_path / "after_bad.txt").exists()


@pytest.mark.cluster
def test_stopped_jobs_write_their_checkpoints_and_pending_ones_are_forgotten(make: Make, tmp_path: Path) -> None:
    executor = make()
    executor.submit(CommandJob("running", (*ENDLESS, f"--root={tmp_path / 'a'}"), tmp_path / "a.txt"))
    executor.submit(CommandJob("pending", ("--version",), tmp_path / "b.txt", ("running",)))
    assert executor.ended(0.0) == []
    wait_for(lambda: "iterations." in log_of(tmp_path / "a"))

    executor.submit(CommandJob("not even submitted", ("--version",), tmp_path / "c.txt"))
    executor.stop()
    ended = all_ended(executor, 3)

    assert {each.exit_code for each in ended.values()} == {143}
    assert list((tmp_path / "a").rglob("checkpoint.safetensors"))
    assert not (tmp_path / "b.txt").exists() and not (tmp_path / "c.txt").exists()


@pytest.mark.cluster
def test_a_preempted_job_is_queued_again_and_a_cancelled_one_is_not(make: Make, tmp_path: Path) -> None:
    executor = make()
    executor.submit(CommandJob("job", (*ENDLESS, f"--root={tmp_path / 'a'}"), tmp_path / "a.txt"))
    assert executor.ended(0.0) == []
    wait_for(lambda: "iterations." in log_of(tmp_path / "a"))

    scancel("--name=open_prune", "--state=RUNNING", "--signal=TERM")  # as Slurm does when it preempts
    wait_for(lambda: executor.ended(0.5) == [] and "job" in executor.queued())
    assert list((tmp_path / "a").rglob("checkpoint.safetensors"))
    wait_for(lambda: executor.ended(0.5) == [] and hasten() and "job" not in executor.queued())
    wait_for(lambda: "Resuming" in log_of(tmp_path / "a"))

    scancel("--name=open_prune", "--state=RUNNING")
    (ended,) = all_ended(executor, 1).values()
    assert (ended.exit_code, ended.reason) == (1, "it was cancelled (scancel)")


@pytest.mark.cluster
def test_a_partition_that_is_not_there_is_an_error_in_slurms_words(make: Make, tmp_path: Path) -> None:
    executor = make(slurm_partition="nowhere")
    executor.submit(CommandJob("job", ("--version",), tmp_path / "a.txt"))

    with pytest.raises(EnvironmentFailure, match="Invalid partition"):
        executor.ended(0.0)
    executor.stop()


def hasten() -> bool:
    """Make Slurm start requeued jobs after a few seconds, not after two minutes."""
    queued = subprocess.run(["squeue", "--noheader", "--array", "--format=%i|%r|%S"], capture_output=True, text=True)
    for line in queued.stdout.splitlines():
        number, reason, start = line.strip().split("|")
        if reason == "BeginTime" and (datetime.fromisoformat(start) - datetime.now()).total_seconds() < 115:
            subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now"], check=False)
    return True


# Without Slurm.


def without(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Let imports of a module fail."""
    original = builtins.__import__

    def fail(name: str, *arguments: Any) -> Any:
        if name.partition(".")[0] == module:
            raise ImportError(f"No module named '{module}'", name=module)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", fail)


@pytest.mark.parametrize("module, executor", [("submitit", "slurm"), ("ray", "ray")])
def test_without_its_engine_an_executor_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, executor: str
) -> None:
    from platforms.executors.registry import ExecutorHparams

    without(monkeypatch, module)
    hparams = ExecutorHparams.of({"executor": executor})

    with pytest.raises(EnvironmentFailure, match=rf"pip install open_prune\[{executor}\]"):
        make_executor(hparams, Program(entry="", folder=tmp_path))
