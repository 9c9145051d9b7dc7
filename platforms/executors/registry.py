"""The executors by name."""

from __future__ import annotations

from foundations.registry import Registry
from foundations.users_code import returned
from platforms.executors.base import Executor, ExecutorHparams, ExecutorKind, Program

EXECUTORS = Registry(
    ExecutorKind,
    "executor",
    (
        "platforms.executors.pool",
        "platforms.executors.slurm",
        "platforms.executors.ray",
    ),
)


def make_executor(hparams: ExecutorHparams, program: Program) -> Executor:
    """Return the executor that the hyperparameters name. Raises: UsageError for an unknown one; EnvironmentFailure."""
    found = EXECUTORS.find(hparams.executor or "pool")
    return returned(found.make(hparams, program), Executor, found.make, found)
