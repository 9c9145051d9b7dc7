"""`--wandb`: Weights & Biases. It is set up as always: `wandb login`, WANDB_MODE=offline and the other variables."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from training.loggers.logger import Log, LoggedRun, Logger

_PROJECT = "open_prune"
"""The default project."""


class WandbLog(Log):
    """A W&B run with the same id each time: the digest and the replicate.

    Online, the server tells the last iteration that it has, and the log sends the rest. Offline, each process writes a
    folder of its own with everything, so that `wandb sync` needs only the last one. The others are removed.
    """

    def __init__(self, run: LoggedRun, project: str = _PROJECT) -> None:
        """Start the W&B run, or continue it."""
        import wandb

        self._run = wandb.init(
            project=project,
            id=f"{run.digest}-{run.replicate}",
            name=run.address,
            group=run.digest,
            resume="allow",
            config={**run.hyperparameters, "location": run.location, "replicate": run.replicate},
            dir=run.folder,
            settings=wandb.Settings(console="off", silent=True),
        )
        self._first = self._run.starting_step
        if self._run.offline:
            _remove_others(Path(self._run.settings.sync_dir))
        else:
            self.place = self._run.url or ""

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Log values that the server does not have yet."""
        if iteration >= self._first:
            self._run.log(dict(values), step=iteration, commit=True)

    def finish(self, iteration: int, results: Mapping[str, float]) -> None:
        """Add the results to the summary."""
        self._run.summary.update(dict(results))

    def close(self) -> None:
        """End the run there; wandb may wait until everything is uploaded."""
        self._run.finish()


def _remove_others(folder: Path) -> None:
    """Remove the folders of earlier offline processes of the run, which lie beside the folder of this one."""
    for other in folder.parent.glob("offline-run-*"):
        if other != folder and not other.is_symlink():
            shutil.rmtree(other)


WANDB = Logger(
    spelling="wandb",
    pattern=r"wandb(:(?P<project>[^/\\#?%:,]+))?",
    begin=WandbLog,
    shows="at Weights & Biases, or in its files if WANDB_MODE=offline",
    package="wandb",
    extra="wandb",
)
