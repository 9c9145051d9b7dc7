"""The flags that say where runs and datasets are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foundations.description.hparams import Hparams, hparam
from foundations.environment import Environment


@dataclass(frozen=True, kw_only=True)
class RootHparams(Hparams):
    """Where runs are."""

    root: str | None = hparam(None)
    """Where runs are; by default OPEN_PRUNE_ROOT, or ~/open_prune_data."""

    def root_in(self, environment: Environment) -> Path:
        """Return the root that the flag or the environment names."""
        return Path(self.root).expanduser() if self.root else environment.root


@dataclass(frozen=True, kw_only=True)
class DatasetsRootHparams(Hparams):
    """Where prepared datasets are."""

    datasets_root: str | None = hparam(None)
    """Where prepared datasets are; by default OPEN_PRUNE_DATASETS, or ~/open_prune_datasets."""

    def datasets_in(self, environment: Environment) -> Path:
        """Return the folder of all datasets that the flag or the environment names."""
        return Path(self.datasets_root).expanduser() if self.datasets_root else environment.datasets
