"""Settings of a job that cannot change its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets.prepared import ensure_prepared, fingerprint
from foundations.interrupts import Interrupts
from foundations.reporter import NullReporter, Reporter
from platforms.platform import Platform


@dataclass(frozen=True, kw_only=True)
class Context:
    """Settings of every job. Only the replicate, which is part of the run's path, can change a result."""

    root: Path
    """Directory of the runs."""
    datasets: Path
    """Directory of the prepared datasets."""
    platform: Platform
    replicate: int = 1
    """The replicate of the requested runs."""
    reporter: Reporter = field(default_factory=NullReporter)
    interrupts: Interrupts = field(default_factory=Interrupts)
    may_download: bool = True
    evaluate_only_at_end: bool = False
    evaluate_every: int = 1
    """The number of epochs from one evaluation to the next."""
    checkpoint_seconds: float = 60.0
    clock: Callable[[], float] = time.monotonic
    """Clock of the seconds that this process spends on the run, from an arbitrary origin."""
    num_workers: int | None = None
    """Processes that decode images, for each process that trains; None for as many as its share of the cores."""
    logs: tuple[str, ...] = ()
    """The names of the loggers that follow runs (`training.loggers`)."""
    cuda_graphs: bool = False
    """Whether training steps on a GPU are recorded as CUDA graphs (`training.loop.cuda_graph`)."""
    together: int = 1
    """Number of runs that are trained at once, step by step together (`training.jobs.together`)."""
    keep_best: bool = False
    """Whether runs keep the state where the headline metric on held out examples was best."""
    opened: dict[Hashable, Any] = field(default_factory=dict)
    """The dataset in memory that runs of this process share (`datasets.loading.loader.open_loader`)."""
    wait: bool = True
    """Whether to wait if another process works on a run; if not, raise Busy."""

    def prepare(self, dataset_name: str) -> None:
        """Make a dataset's prepared files if they are missing. Raises: EnvironmentFailure, DamagedError."""
        ensure_prepared(dataset_name, self.datasets, allow_download=self.may_download, report=self.reporter.say)

    def fingerprint(self, dataset_name: str) -> str | None:
        """Return the SHA-256 of a prepared dataset, read once, or None where it is missing."""
        if dataset_name not in self._fingerprints:
            found = fingerprint(dataset_name, self.datasets)
            if found is None:
                return None
            self._fingerprints[dataset_name] = found
        return self._fingerprints[dataset_name]

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {}
