"""Small tables that are shipped beside the files that declare them: safetensors files with their statistics.

A file holds `inputs` float32 (N, F) and `labels` int64 (N,) or `targets` float32 (N, 1), in a random order: the first
`num_train` are for training. Its metadata are the specification's constants, measured from these.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets.formats.source_files import Arrays, SourceFiles
from datasets.spec import DatasetSpec
from datasets.tasks.task import Task
from foundations.inputs import VECTORS


def shipped_table(path: Path, task: Task, source: str, origin: str) -> DatasetSpec:
    """Return the specification of a shipped table, named like its file. source: in prepared files."""
    with path.open("rb") as file:
        header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    metadata, (count, features) = header["__metadata__"], header["inputs"]["shape"]
    num_train, class_names = int(metadata["num_train"]), metadata.get("class_names", "")

    def numbers(name: str) -> tuple[float, ...]:
        return tuple(float(value) for value in metadata[name].split(",")) if name in metadata else ()

    def read(_: SourceFiles) -> dict[str, Arrays]:
        from safetensors.numpy import load_file

        tensors, names = load_file(path), tuple(class_names.split(",")) if class_names else ()
        more = {"features": metadata["features"]}
        parts = {"train": slice(num_train), "test": slice(num_train, count)}
        return {
            split: Arrays({name: array[part] for name, array in tensors.items()}, source, names, more)
            for split, part in parts.items()
        }

    return DatasetSpec(
        spelling=path.stem,
        task=task,
        inputs=VECTORS,
        num_train=num_train,
        num_test=count - num_train,
        num_classes=len(class_names.split(",")) if class_names else 0,
        num_outputs=0 if class_names else header["targets"]["shape"][1],
        input_shape=(features,),
        mean=numbers("mean"),
        std=numbers("std"),
        target_mean=numbers("target_mean"),
        target_std=numbers("target_std"),
        read=read,
        origin=origin,
    )
