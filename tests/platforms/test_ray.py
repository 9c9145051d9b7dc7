"""The executor ray, on a real Ray of two nodes on the loopback address: `make test-cluster`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foundations.errors import EnvironmentFailure
from foundations.program import COMMAND
from platforms.executors.executor import CommandJob, Program
from platforms.executors.ray import RayHparams
from platforms.executors.registry import make_executor
from tests.cli.terminal import LENET, SHORT, Terminal, tensors_of
from tests.platforms.test_slurm import ENDLESS, GRID, all_ended, log_of, wait_for

pytestmark = pytest.mark.cluster
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
WHILE = ("train", *LENET, "--training_steps=3000ep", "--evaluate_only_at_end", "--checkpoint_seconds=0.5")
"""Some seconds of training."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs, and two nodes of one each."""
    for name, value in LOOPBACK.items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-cluster.txt")
    from ray.cluster_utils import Cluster

    try:
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    except Exception as error:  # any reason that keeps Ray from starting on this machine
        pytest.skip(f"no Ray could be started here: {error}")
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def kill_a_node(cluster: Any) -> None:
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)


@pytest.fixture(autouse=True)
def terminal(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal(tmp_path / "root", digits)
    for name, value in made.settings().items():
        monkeypatch.setenv(name, value)
    return made


def sweep(address: str) -> tuple[str, ...]:
    return (
        "sweep",
        "--executor=ray",
        f"--ray_address={address}",
        *GRID,
        "--",
        "branch",
        "train",
        "oneshot",
        *SHORT,
        "--state_step=3ep",
    )


def program(tmp_path: Path) -> Program:
    return Program(entry="cli.main:main", command=COMMAND, folder=tmp_path / "jobs")


def test_a_sweep_with_a_shared_parent_runs_to_the_end(cluster: Any, terminal: Terminal) -> None:
    result = terminal.cold(*sweep(cluster.address))

    assert result.code == 0, result.out + result.err
    assert terminal.run("ls").out.split().count("complete") == 9
    assert len(list(terminal.root.rglob("output.txt"))) == 9


def test_a_node_is_killed_and_all_jobs_end_well(cluster: Any, tmp_path: Path) -> None:
    roots = [tmp_path / name for name in "ab"]
    with make_executor(RayHparams(executor="ray", ray_address=cluster.address), program(tmp_path)) as executor:
        for root in roots:
            executor.submit(CommandJob(root.name, (*WHILE, f"--root={root}"), root.with_suffix(".txt")))
        assert executor.ended(0.0) == []
        wait_for(lambda: all(any(root.rglob("checkpoint.safetensors")) for root in roots))
        kill_a_node(cluster)
        ended = all_ended(executor, 2, seconds=200)

    assert [each.exit_code for each in ended.values()] == [0, 0]
    (one,), (other,) = ([path.parent for path in root.rglob("manifest.json")] for root in roots)
    assert tensors_of(one) == tensors_of(other)
    assert sum("Resuming" in root.with_suffix(".txt").read_text() for root in roots) == 1


def test_a_sweep_ends_complete_though_a_node_is_killed(cluster: Any, terminal: Terminal) -> None:
    running = subprocess.Popen(
        [*COMMAND, *sweep(cluster.address)],
        env={**os.environ, **terminal.settings()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(lambda: len(list(terminal.root.rglob("output.txt"))) >= 4)
    kill_a_node(cluster)
    out, _ = running.communicate(timeout=200)

    assert running.returncode == 0, out
    assert terminal.run("ls").out.split().count("complete") == 9


def test_a_failing_job_does_not_stop_others(cluster: Any, tmp_path: Path) -> None:
    with make_executor(RayHparams(executor="ray", ray_address=cluster.address), program(tmp_path)) as executor:
        executor.submit(CommandJob("bad", ("nonsense",), tmp_path / "bad.txt"))
        executor.submit(CommandJob("good", ("--version",), tmp_path / "good.txt"))
        ended = all_ended(executor, 2)

    assert {name: each.exit_code for name, each in ended.items()} == {"good": 0, "bad": 2}
    assert "'nonsense' is not a command" in (tmp_path / "bad.txt").read_text()


def test_stopped_jobs_write_their_checkpoints_and_pending_ones_are_forgotten(cluster: Any, tmp_path: Path) -> None:
    names = [f"job{number}" for number in range(3)]
    with make_executor(RayHparams(executor="ray", ray_address=cluster.address), program(tmp_path)) as executor:
        for name in names:
            executor.submit(CommandJob(name, (*ENDLESS, f"--root={tmp_path / name}"), tmp_path / f"{name}.txt"))
        assert executor.ended(0.0) == []
        wait_for(lambda: sum("iterations." in log_of(tmp_path / name) for name in names) == 2)
        assert executor.ended(0.0) == []
        queued = executor.queued()
        executor.stop()
        ended = all_ended(executor, 3)

    assert len(queued) == 1
    assert {each.exit_code for each in ended.values()} == {143}
    for name in names:
        assert len(list((tmp_path / name).rglob("checkpoint.safetensors"))) == (name not in queued)


def test_without_an_address_a_cluster_of_this_machine_is_started_that_others_cannot_reach(
    terminal: Terminal, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-cluster.txt")
    code = (
        "import subprocess, time; from pathlib import Path;"
        "from platforms.executors.executor import CommandJob, Program;"
        "from platforms.executors.ray import RayHparams;"
        "from platforms.executors.registry import make_executor;"
        f"program = Program(entry='', command={COMMAND!r}, folder=Path({str(tmp_path)!r}));"
        f"job = CommandJob('a', ('--version',), Path({str(tmp_path / 'a.txt')!r}));"
        "executor = make_executor(RayHparams(executor='ray', ray_gpus=0), program);"
        "executor.submit(job);"
        "print(executor.ended(60.0)[0].exit_code);"
        "print(subprocess.run(['ss', '-Hltnp'], capture_output=True, text=True).stdout);"
        "executor.close()"
    )
    result = terminal.python(code)

    assert result.code == 0, result.err
    first, *sockets = result.out.splitlines()
    assert first == "0"
    rays = [line for line in sockets if "ray" in line or "gcs_server" in line]
    assert rays and all("127.0.0.1" in line for line in rays), rays


def test_a_cluster_that_is_not_there_is_an_error_that_names_its_address(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-cluster.txt")
    hparams = RayHparams(executor="ray", ray_address="127.0.0.1:1")

    with pytest.raises(EnvironmentFailure, match=r"127\.0\.0\.1:1.*refused"):
        make_executor(hparams, program(tmp_path))
