"""Reading the files of loggers: event files with TensorBoard's reader, wandb's files by their format."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Points = dict[str, list[tuple[int, float]]]
"""(iteration, value) of each curve, in the order in which they stand in the files."""
_BLOCK, _HEADER = 32768, struct.Struct("<IHB")


def curves_of_events(folder: Path) -> Points:
    """Return all curves of the event files in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    read.Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def hparams_of_events(folder: Path) -> dict[str, Any]:
    """Return a run's row in TensorBoard's table of hyperparameters."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

    read = EventAccumulator(str(folder))
    read.Reload()
    content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}


def records_of_wandb(file: Path) -> Iterator[Any]:
    """Yield the records of a .wandb file: a LevelDB log of protocol buffers behind a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + _HEADER.size <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER.size:
            at += left
            continue
        _, length, kind = _HEADER.unpack_from(data, at)
        if kind == 0:  # nothing more was written
            return
        parts += data[at + _HEADER.size : at + _HEADER.size + length]
        at += _HEADER.size + length
        if kind in (1, 4):  # the whole of a record, or its last part
            yield vars(wandb_internal_pb2)["Record"].FromString(parts)
            parts = b""


def curves_of_wandb(file: Path) -> tuple[Points, dict[str, Any], Any]:
    """Return the curves of a .wandb file, its summary, and its record of the run."""
    curves: Points = {}
    summary: dict[str, Any] = {}
    run = None
    for record in records_of_wandb(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
        elif kind == "summary":
            summary |= {item.key: json.loads(item.value_json) for item in record.summary.update if item.key}
        elif kind == "history":
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for name, value in row.items():
                if not name.startswith("_"):
                    curves.setdefault(name, []).append((record.history.step.num, value))
    return curves, summary, run
