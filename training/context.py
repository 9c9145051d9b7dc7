"""Everything about a job that is not its description: where it runs, what it may do, whom it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from datasets.prepared import ensure_prepared
from foundations.interrupts import Interrupts
from foundations.reporter import Reporter, Silence
from platforms.base import Platform


@dataclass(frozen=True, kw_only=True)
class Context:
    """Handed to every job; nothing in it can change a result but the replicate, which stands in the run's path."""

    root: Path
    """Where the runs lie."""
    datasets: Path
    """Where the prepared datasets lie."""
    platform: Platform
    replicate: int = 1
    reporter: Reporter = field(default_factory=Silence)
    interrupts: Interrupts = field(default_factory=Interrupts)
    may_download: bool = True
    evaluate_only_at_end: bool = False
    checkpoint_seconds: float = 60.0

    def prepare(self, dataset_name: str) -> None:
        """Make a dataset's prepared files where they are not there. Raises: EnvironmentFailure, DamagedError."""
        ensure_prepared(dataset_name, self.datasets, allow_download=self.may_download, report=self.reporter.say)
