"""The interface of loggers: what each declares, and the calls that it receives. Imports no torch.

A logger copies what a run measures to where people watch it: TensorBoard, Weights & Biases. It follows the run from
outside: it adds nothing to the run's directory or its address.

A process may be killed at any time, and the next one continues the run from a checkpoint, or computes nothing. So
each time that a log is started, it receives everything that the run has measured, in order of the iterations, and it
must show each value once.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundations.plugins.declarations import check_call
from foundations.registry import Registered


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """The run of a log."""

    location: str
    """Its directory below the root, such as train_<digest>/replicate_1/main."""
    digest: str
    """Name of its description: the same for all its replicates."""
    replicate: int
    hyperparameters: Mapping[str, Any]
    """Hyperparameters by name; a branch has its training's and its own."""
    folder: Path
    """Folder for this logger's files of this run. It exists, and may have files of an earlier log of the run."""

    @property
    def address(self) -> str:
        """The first 8 digits of the digest, and the replicate, as `ls` prints them."""
        return f"{self.digest[:8]}/{self.replicate}"


class Log(ABC):
    """The log of one run by one logger. Its errors are reported; the run goes on without it."""

    place: str = ""
    """Place where people find it, if this is not known beforehand, such as a URL."""

    @abstractmethod
    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Take all measurements of an iteration, by the names in metrics.csv. Values may be infinite or NaN."""

    @abstractmethod
    def finish(self, iteration: int, results: Mapping[str, float]) -> None:
        """Take the other results of a complete run, such as its sparsity. iteration: the last one."""

    @abstractmethod
    def close(self) -> None:
        """Write everything that is not written yet. Without `finish` before, another process may continue the run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Logger(Registered):
    """A logger by name."""

    begin: Callable[..., Log]
    """Called with a LoggedRun, and with the groups that the name fills in `pattern`, by name."""
    shows: str
    """The place where it shows runs, in a few words."""
    package: str = ""
    """The optional module that it imports, which open_prune does not need otherwise."""
    extra: str = ""
    """The extra of open_prune's installation that includes the package."""

    def check_declared(self) -> None:
        """Check that `begin` takes what it is called with."""
        check_call("begin", self.begin, 1, re.compile(self.pattern).groupindex)

    def folder(self, root: Path) -> Path:
        """Return the folder with the logger's files about all runs under a root."""
        return root / ".logs" / self.spelling
