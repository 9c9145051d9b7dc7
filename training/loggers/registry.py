"""The loggers by name. Imports no torch."""

from __future__ import annotations

import importlib.util

from foundations.errors import UsageError
from foundations.registry import Registry
from training.loggers.logger import Logger

LOGGERS = Registry(Logger, "log", ("training.loggers.tensorboard", "training.loggers.wandb"))


def check_installed(name: str, hparam: str) -> None:
    """Check that a logger exists and has the package that it needs. Raises: UsageError about a hyperparameter."""
    if name not in LOGGERS:
        raise UsageError(LOGGERS.unknown(name).reason, hparam)
    logger = LOGGERS.find(name)
    if logger.package and importlib.util.find_spec(logger.package) is None:
        install = f"pip install 'open_prune[{logger.extra}]'" if logger.extra else f"install {logger.package}"
        raise UsageError(f"it needs the package {logger.package}, which is not installed here: {install}.", hparam)
