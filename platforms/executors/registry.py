"""The executors by name."""

from __future__ import annotations

from foundations.registry import Registry
from platforms.executors.base import Executor, ExecutorHparams, ExecutorKind, Program

EXECUTORS = Registry(ExecutorKind, "executor", ("platforms.executors.pool",))


def make_executor(hparams: ExecutorHparams, program: Program) -> Executor:
    """Return the executor that the hyperparameters name. Raises: UsageError for an unknown one; EnvironmentFailure."""
    return EXECUTORS.find(hparams.executor or "pool").make(hparams, program)
