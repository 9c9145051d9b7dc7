"""The executors by name, and their hyperparameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from foundations.description.hparams import Hparams, hparam
from foundations.errors import UsageError
from foundations.plugins.users_code import check_methods, returned
from foundations.registry import Registered, Registry

if TYPE_CHECKING:
    from platforms.executors.executor import Executor, Program
    from platforms.executors.scheduler import Scheduler


@dataclass(frozen=True, kw_only=True)
class ExecutorHparams(Hparams):
    """The executor, which runs the jobs. Not part of a run's address."""

    executor: str | None = hparam(None)
    """The executor of jobs: pool (processes of this machine), slurm or ray. By default, and with None, a single job
    runs here and now."""

    together: int = hparam(1, at_least=1)
    """Number of runs of one network and one data set that a job trains at once: stacked on a GPU, in turns on a CPU."""

    @classmethod
    def group_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """Return the class with the options of the named executor."""
        name = values.get("executor")
        found = cls if name in (None, "None") else EXECUTORS.find(name).hparams
        return found if issubclass(found, cls) else cls

    @classmethod
    def owners(cls) -> Mapping[str, type[Hparams]]:
        """Return the executors, and the groups of their options."""
        return {f"executor={each.spelling}": each.hparams for each in EXECUTORS}


@dataclass(frozen=True, kw_only=True, eq=False)
class ExecutorKind(Registered):
    """An executor by name: a scheduler of a cluster, or something else that runs commands."""

    hparams: type[ExecutorHparams]
    scheduler: Callable[[Any], Scheduler] | None = None
    """Called with hyperparameters of the class above, for an executor of a cluster."""
    make: Callable[[Any, Program], Executor] | None = None
    """In place of it, for any other executor. Raises: EnvironmentFailure if the engine is missing."""
    runs: str
    """The place where it runs jobs, in a few words."""
    is_local: bool = False
    """Whether it runs jobs on this machine only, and needs nothing else to start."""

    def check_declared(self) -> None:
        """Check that there is either a scheduler or `make`, with all methods. Raises: UsageError."""
        if (self.scheduler is None) == (self.make is None):
            raise UsageError("give it either a scheduler or, if it is none of a cluster, make.")
        lacking = sorted(getattr(self.scheduler or self.make, "__abstractmethods__", ()))
        if lacking:
            name = getattr(self.scheduler or self.make, "__name__", "")
            raise UsageError(f"{name} has no {', '.join(lacking)}; each executor needs its own.")


EXECUTORS = Registry(
    ExecutorKind,
    "executor",
    (
        "platforms.executors.pool",
        "platforms.executors.slurm",
        "platforms.executors.ray",
    ),
)
"""The executors by name."""


def make_executor(hparams: ExecutorHparams, program: Program) -> Executor:
    """Return the executor named by the hyperparameters. Raises: UsageError for an unknown one; EnvironmentFailure."""
    kind = EXECUTORS.find(hparams.executor or "pool")
    if kind.scheduler is not None:
        from platforms.executors.cluster import ClusterExecutor  # imported here: listings start faster without it

        return ClusterExecutor(kind, make_scheduler(kind, hparams), program)
    assert kind.make is not None
    from platforms.executors.executor import Executor

    return returned(kind.make(hparams, program), Executor, kind.make, kind)


def make_scheduler(kind: ExecutorKind, hparams: ExecutorHparams) -> Scheduler:
    """Return the scheduler of a kind of executor that has one. Raises: PluginError for a class that is none."""
    from platforms.executors.scheduler import METHODS, Scheduler

    assert kind.scheduler is not None
    scheduler = returned(kind.scheduler(hparams), Scheduler, kind.scheduler, kind)
    check_methods(scheduler, Scheduler, METHODS, kind)
    return scheduler
