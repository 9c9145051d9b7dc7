"""Flags for the folders of runs and datasets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foundations.description.hparams import Hparams, hparam
from foundations.environment import Environment


@dataclass(frozen=True, kw_only=True)
class RootHparams(Hparams):
    """Location of the runs."""

    root: str | None = hparam(None)
    """Folder of runs; by default OPEN_PRUNE_ROOT, or ~/open_prune_data."""

    def root_in(self, environment: Environment) -> Path:
        """Return the root that the flag or the environment names."""
        return environment.root_at(self.root) if self.root else environment.root


@dataclass(frozen=True, kw_only=True)
class DatasetsRootHparams(Hparams):
    """Location of prepared datasets."""

    datasets_root: str | None = hparam(None)
    """Folder of prepared datasets; by default OPEN_PRUNE_DATASETS, or ~/open_prune_datasets."""

    def datasets_in(self, environment: Environment) -> Path:
        """Return the folder of all datasets that the flag or the environment names."""
        return Path(self.datasets_root).expanduser() if self.datasets_root else environment.datasets
