"""`ray`: tasks of a Ray cluster, for clusters without Slurm. The root must be on a file system that all nodes share.

If a node dies, Ray restarts its tasks on another node. Tasks end with the process that submitted them; the same sweep,
started again, resumes from their checkpoints.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundations.description.hparams import hparam
from foundations.errors import EnvironmentFailure
from foundations.program import INSTALLED, TOP
from platforms.executors.registry import ExecutorHparams, ExecutorKind
from platforms.executors.scheduler import JobState, Scheduler
from platforms.executors.task import STOPPED, Task

_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Environment variables that Ray reads on import."""
_LOCAL_SETTINGS = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Keeps a cluster of one machine on the loopback address, as Ray does by itself on macOS; no other setting does."""
_OBJECT_STORE_BYTES = 100 * 2**20  # nothing but exit codes passes through it
_CAPACITY_SECONDS = 5.0
_KNOCK_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class RayHparams(ExecutorHparams):
    """Tasks of a Ray cluster."""

    ray_address: str | None = hparam(None)
    """HOST:PORT of a running cluster's head, or auto for the one that this machine belongs to; by default a cluster of
    this machine alone is started, and ended with the command."""
    ray_cpus: float = hparam(1.0, at_least=0)
    """CPU cores of a job; it has as many threads."""
    ray_gpus: float = hparam(0.0, at_least=0)
    """GPUs of a job. With 0.25, four jobs share one."""
    ray_retries: int = hparam(10, at_least=0)
    """Number of times that a job is restarted after its node died."""


class Ray(Scheduler):
    """Runs each job as a task of Ray."""

    poll_seconds = 0.0

    def __init__(self, hparams: RayHparams) -> None:
        """Take the resources of jobs."""
        self._hparams, self.threads = hparams, max(1, int(hparams.ray_cpus))
        self._environment = {name: value for name, value in os.environ.items() if name.startswith("OPEN_PRUNE_")}
        self._jobs: dict[str, tuple[Any, Task]] = {}
        self._asked, self._slots = 0.0, 1
        self._failure = ""

    def open(self, records: Path) -> None:
        """Connect to the cluster, or start one. Raises: EnvironmentFailure without Ray, or where it does not answer."""
        os.environ.update(_SETTINGS)
        if self._hparams.ray_address is None:
            os.environ.update(_LOCAL_SETTINGS)
        try:
            import ray
        except ImportError as error:
            raise EnvironmentFailure(
                "The executor ray needs Ray: pip install open_prune[ray], or ray alone."
            ) from error
        self._ray: Any = ray
        self._connect()
        self._run: Any = ray.remote(_run)
        self.slots(0)

    def slots(self, running: int) -> int:
        """Return the number of jobs that the nodes of the cluster run at once; as many more may wait."""
        if time.monotonic() - self._asked > _CAPACITY_SECONDS or not self._asked:
            self._asked = time.monotonic()
            there = self._ray.cluster_resources()
            needed = {"CPU": self._hparams.ray_cpus, "GPU": self._hparams.ray_gpus}
            self._slots = int(min((there.get(name, 0) / each for name, each in needed.items() if each), default=1000))
            self.max_jobs = 2 * max(1, self._slots)
        return self._slots

    def submit(self, tasks: Sequence[Task], after: Sequence[str]) -> list[str]:
        """Submit tasks to Ray. Raises: EnvironmentFailure if the cluster started here can never run them."""
        hparams = self._hparams
        if self.slots(0) < 1 and hparams.ray_address is None:
            raise EnvironmentFailure(
                f"This machine has no {hparams.ray_cpus:g} CPU cores and {hparams.ray_gpus:g} GPUs, which "
                "ray_cpus and ray_gpus ask for."
            )
        options = {
            "num_cpus": hparams.ray_cpus,
            "num_gpus": hparams.ray_gpus,
            "max_retries": hparams.ray_retries,
            "scheduling_strategy": "SPREAD",
        }
        refs = [self._run.options(name=task.name, **options).remote(task, self._environment) for task in tasks]
        self._jobs |= {ref.hex(): (ref, task) for ref, task in zip(refs, tasks, strict=True)}
        return [ref.hex() for ref in refs]

    def states(self, jobs: Sequence[str]) -> dict[str, JobState]:
        """Return the states of jobs."""
        self.slots(0)
        self._jobs = {job: self._jobs[job] for job in jobs}
        refs = [ref for ref, _ in self._jobs.values()]
        ended = set(self._ray.wait(refs, num_returns=len(refs), timeout=0)[0])
        return {job: self._state(ref, task, ref in ended) for job, (ref, task) in self._jobs.items()}

    def cancel(self, jobs: Sequence[str]) -> None:
        """Cancel tasks."""
        for job in jobs:
            self._ray.cancel(self._jobs[job][0])

    def wait(self, seconds: float) -> None:
        """Wait until a task has ended, at most some seconds. Raises: EnvironmentFailure if the cluster is gone."""
        if self._failure:
            raise EnvironmentFailure(f"The Ray cluster is gone: {self._failure}")
        if self._jobs:
            self._ray.wait([ref for ref, _ in self._jobs.values()], num_returns=1, timeout=seconds)
        else:
            super().wait(seconds)

    def how_to_look(self) -> str:
        """Return nothing: tasks end with this process."""
        return ""

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._ray.shutdown()

    def _connect(self) -> None:
        """Connect to a running cluster, or start one that only this machine can reach."""
        from ray.job_config import JobConfig

        found_at = [] if INSTALLED else [str(TOP)]  # the task's module is found there by name, on every node
        quiet = {
            "log_to_driver": False,
            "logging_level": "ERROR",
            "job_config": JobConfig(code_search_path=found_at),
        }
        address = self._hparams.ray_address
        try:
            if address is not None:
                _knock(address)
                self._ray.init(address=address, ignore_reinit_error=True, **quiet)
            else:
                self._ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    **quiet,
                )
        except (OSError, RuntimeError, ValueError) as error:
            where = "Ray could not be started" if address is None else f"No Ray cluster answers at '{address}'"
            why = str(error).strip().splitlines()[:1]
            raise EnvironmentFailure(f"{where}: {' '.join(why) or type(error).__name__}") from error

    def _state(self, ref: Any, task: Task, has_ended: bool) -> JobState:
        if not has_ended:
            return JobState("running" if task.started.exists() else "waiting")
        exceptions = self._ray.exceptions
        try:
            return JobState("ended", exit_code=self._ray.get(ref))
        except exceptions.TaskCancelledError:
            return JobState("ended", "it was cancelled", STOPPED)
        except exceptions.OutOfMemoryError:
            return JobState("ended", "its node ran out of memory", -9)
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError):
            return JobState("ended", f"its node died, {self._hparams.ray_retries + 1} times", -9)
        except exceptions.RayTaskError as error:  # the command could not be started
            return JobState("ended", str(error).strip().splitlines()[-1], 1)
        except exceptions.RayError as error:
            self._failure = str(error).strip().splitlines()[0]
            return JobState("running")


def _run(task: Task, environment: Mapping[str, str]) -> int:
    """Run a command on a node, with variables besides the node's own, and return its exit code."""
    os.environ.update(environment)
    return task.run()


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()


RAY = ExecutorKind(spelling="ray", hparams=RayHparams, scheduler=Ray, runs="as tasks of a Ray cluster")
