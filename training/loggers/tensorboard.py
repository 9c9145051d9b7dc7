"""`--tensorboard`: event files, for `tensorboard --logdir ROOT/.logs/tensorboard`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.loggers.logger import Log, LoggedRun, Logger

_IS_EVENT_FILE = "tfevents"
"""Part of the names of files that TensorBoard reads."""


class TensorBoardLog(Log):
    """An event file with everything that was measured, written from scratch each time that the log is started.

    So no value is there twice or missing, whenever a process was killed. Keeps the times of former files.
    """

    def __init__(self, run: LoggedRun) -> None:
        """Replace the event files in the run's folder with one that has the hyperparameters."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.record_writer import RecordWriter

        former = sorted(path for path in run.folder.iterdir() if _IS_EVENT_FILE in path.name)
        self._times = {known: time for path in former for known, time in _times_of(path).items()}
        for path in former:
            path.unlink(missing_ok=True)
        # Named as TensorBoard's own writer does.
        name = f"events.out.{_IS_EVENT_FILE}.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.0"
        self._writer = RecordWriter((run.folder / name).open("wb"))
        self._write(0, file_version="brain.Event:2")
        shown = {name: value for name, value in run.hyperparameters.items() if value is not None}
        self._write(0, summary=hparams_pb(shown, trial_id=run.location))

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Write values, which event files hold in single precision."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        known = [self._times[name, iteration] for name in values if (name, iteration) in self._times]
        made = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        self._write(iteration, min(known, default=None), summary=made)

    def finish(self, iteration: int, results: Mapping[str, float]) -> None:
        """Write the results as curves of one point."""
        self.add(iteration, {f"results/{name}": value for name, value in results.items()})

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, step: int, when: float | None = None, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(wall_time=time.time() if when is None else when, step=step, **content)
        self._writer.write(event.SerializeToString())
        self._writer.flush()


def _times_of(path: Path) -> dict[tuple[str, int], float]:
    """Return the time at which each value of an event file was written, by tag and step; skip damaged records."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    events = LegacyEventFileLoader(str(path)).Load()
    return {(value.tag, event.step): event.wall_time for event in events for value in event.summary.value}


TENSORBOARD = Logger(
    spelling="tensorboard",
    begin=TensorBoardLog,
    shows="in TensorBoard, from event files",
    package="tensorboard",
    extra="tensorboard",
)
