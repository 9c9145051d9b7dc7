"""`ray`: tasks of a Ray cluster, for clusters without Slurm. The root must be on a file system that all nodes share.

If a node dies, Ray restarts its tasks on another node. Tasks end with the process that submitted them; the same sweep,
started again, resumes from their checkpoints.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foundations.description.hparams import hparam
from foundations.errors import EnvironmentFailure
from foundations.program import INSTALLED, TOP
from platforms.executors.executor import (
    CommandJob,
    Ended,
    Executor,
    ExecutorHparams,
    ExecutorKind,
    Program,
    with_threads,
)
from platforms.executors.ray_task import run_command
from platforms.executors.stopping import STOP, STOPPED

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


class Ray(Executor):
    """Runs each job as a task of Ray."""

    def __init__(self, hparams: RayHparams, program: Program) -> None:
        """Connect to the cluster, or start one. Raises: EnvironmentFailure without Ray, or where it does not answer."""
        os.environ.update(_SETTINGS)
        if hparams.ray_address is None:
            os.environ.update(_LOCAL_SETTINGS)
        try:
            import ray
        except ImportError as error:
            raise EnvironmentFailure(
                "The executor ray needs Ray: pip install open_prune[ray], or ray alone."
            ) from error
        self._ray: Any = ray
        self._hparams, self._program = hparams, program
        self._connect()
        when = time.strftime("%Y%m%d-%H%M%S")
        self._records = program.folder.absolute() / "ray" / f"{when}-{socket.gethostname()}-{os.getpid()}"
        self._records.mkdir(parents=True, exist_ok=True)
        self._environment = {name: value for name, value in os.environ.items() if name.startswith("OPEN_PRUNE_")}
        self._task = ray.remote(run_command)
        self._jobs: dict[Any, tuple[CommandJob, str]] = {}
        self._count, self._slots, self._asked = 0, 1, 0.0
        self._is_stopping = False

    def has_room(self) -> bool:
        """Return whether a job would start soon: until as many jobs wait as run."""
        return len(self._jobs) < 2 * self.slots()

    def slots(self) -> int:
        """Return the number of jobs that the nodes of the cluster run at once, at least 1."""
        if time.monotonic() - self._asked > _CAPACITY_SECONDS or not self._asked:
            self._asked = time.monotonic()
            there = self._ray.cluster_resources()
            needed = {"CPU": self._hparams.ray_cpus, "GPU": self._hparams.ray_gpus}
            self._slots = int(min((there.get(name, 0) / each for name, each in needed.items() if each), default=1000))
        return max(1, self._slots)

    def submit(self, job: CommandJob) -> None:
        """Submit a job to Ray. Raises: EnvironmentFailure if the cluster started here can never run it."""
        self.slots()
        if self._slots < 1 and self._hparams.ray_address is None:
            raise EnvironmentFailure(
                f"This machine has no {self._hparams.ray_cpus:g} CPU cores and {self._hparams.ray_gpus:g} GPUs, which "
                "ray_cpus and ray_gpus ask for."
            )
        key = f"{self._count:06d}"
        self._count += 1
        ref = self._task.options(
            num_cpus=self._hparams.ray_cpus,
            num_gpus=self._hparams.ray_gpus,
            max_retries=self._hparams.ray_retries,
            scheduling_strategy="SPREAD",
            name=job.name,
        ).remote(
            [*self._program.command, *with_threads(job, max(1, int(self._hparams.ray_cpus)))],
            str(job.output.absolute()),
            self._environment,
            str(self._records),
            key,
        )
        self._jobs[ref] = (job, key)

    def ended(self, seconds: float) -> list[Ended]:
        """Return the jobs that have ended, waiting up to some seconds for one. Raises: EnvironmentFailure."""
        refs = list(self._jobs)
        if not refs:
            time.sleep(seconds)
            return []
        self._ray.wait(refs, num_returns=1, timeout=seconds)
        ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        return [self._ended(ref) for ref in ready]

    def stop(self) -> None:
        """Cancel waiting tasks. Running ones see a file, and ask their commands to end."""
        self._is_stopping = True
        (self._records / STOP).touch()
        running = self._started()
        for ref, (_, key) in self._jobs.items():
            if key not in running:
                self._ray.cancel(ref)

    def states(self) -> Mapping[str, str]:
        """Return the state of each job: running or waiting."""
        running = self._started()
        return {job.name: "running" if key in running else "pending" for job, key in self._jobs.values()}

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._ray.shutdown()
        shutil.rmtree(self._records, ignore_errors=True)

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

    def _started(self) -> set[str]:
        return {path.stem for path in self._records.glob("*.started")}

    def _ended(self, ref: Any) -> Ended:
        """Return the outcome of a finished task."""
        exceptions = self._ray.exceptions
        job, _ = self._jobs.pop(ref)
        try:
            return Ended(job.name, self._ray.get(ref))
        except exceptions.TaskCancelledError:
            return Ended(job.name, STOPPED, "it was cancelled before it started")
        except exceptions.OutOfMemoryError:
            return Ended(job.name, -9, "its node ran out of memory")
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError):
            return Ended(job.name, -9, f"its node died, {self._hparams.ray_retries + 1} times")
        except exceptions.RayTaskError as error:  # the command could not be started
            return Ended(job.name, 1, str(error).strip().splitlines()[-1])
        except exceptions.RayError as error:
            raise EnvironmentFailure(f"The Ray cluster is gone: {str(error).strip().splitlines()[0]}") from error


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()


RAY = ExecutorKind(spelling="ray", hparams=RayHparams, make=Ray, runs="as tasks of a Ray cluster")
