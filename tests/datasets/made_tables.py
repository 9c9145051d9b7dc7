"""Tables for tests, in the layouts in which people have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

HOUSES = "area,rooms,town,price\n"


def houses(count: int = 40, seed: int = 0) -> list[list[str]]:
    """Return rows of a table of HOUSES: two columns of numbers, one of three towns, and a price with a fraction."""
    random = np.random.default_rng(seed)
    towns = ["Bonn", "Köln", "Ulm"]
    return [
        [f"{random.normal(100, 20):.2f}", str(random.integers(1, 6)), towns[n % 3], f"{n + 0.5 + random.normal():.3f}"]
        for n in range(count)
    ]


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: str = HOUSES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + "".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def save_hf(folder: Path, table: pa.Table, features: Mapping[str, Any] | None = None, files: int = 1) -> Path:
    """Write a table as Hugging Face's `datasets` does by save_to_disk."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{files:05}.arrow" for number in range(files)]
    size = -(-table.num_rows // files)
    for number, name in enumerate(names):
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table.slice(number * size, size), 7)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_format_columns": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features or {}, "description": ""}))
    return folder


def save_hf_splits(folder: Path, splits: Mapping[str, pa.Table], features: Mapping[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    for split, table in splits.items():
        save_hf(folder / split, table, features)
    return folder
