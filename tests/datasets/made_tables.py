"""Tables for tests, in the layouts in which people have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image
from tokenizers import Tokenizer, models

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


def write_shown(home: Path) -> None:
    """Write the data of the commands in docs/datasets.md, which shows what they print."""
    random, count = np.random.default_rng(0), 300
    frame = pd.DataFrame(
        {
            "id": range(count),
            "area": random.normal(100, 20, count).round(2),
            "rooms": random.integers(1, 6, count),
            "town": random.choice(["Bonn", "Köln", "Ulm"], count),
        }
    )
    frame["price"] = (frame.area * 3 + frame.rooms * 10 + random.normal(0, 5, count)).round(3)
    frame["kind"] = random.choice(["flat", "house"], count)
    frame.to_csv(home / "houses.csv", index=False)
    frame.to_parquet(home / "houses.parquet")
    for folder in ("reviews/pos", "reviews/neg", "books", "faces"):
        (home / folder).mkdir(parents=True)
    for n in range(20):
        (home / f"reviews/pos/{n}.txt").write_text(f"a good film {n}")
        (home / f"reviews/neg/{n}.txt").write_text(f"a bad film indeed {n}")
        (home / f"books/{n}.txt").write_text("once upon a time there was a king\n" * (20 + n))
        Image.fromarray(np.full((70, 80, 3), n, np.uint8)).save(home / f"faces/{n}.jpg")
    write_csv(home / "faces" / "labels.csv", [[f"{n}.jpg", str(n % 2), str(n // 2 % 2)] for n in range(20)], FACES)
    write_csv(
        home / "tweets.csv", [[f"so {'sad' if n % 2 else 'glad'}", f"{n % 2}"] for n in range(20)], "tweet,mood\n"
    )
    vocabulary = {"[UNK]": 0, "[PAD]": 1, "so": 2, "sad": 3}
    Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")).save(str(home / "tokenizer.json"))
    films = {split: films_of(number) for split, number in (("train", 30), ("test", 10), ("unsupervised", 5))}
    save_hf_splits(home / "imdb", films, {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}})


def films_of(count: int) -> pa.Table:
    texts = [f"film {n} was {'good' if n % 2 else 'bad'}" for n in range(count)]
    return pa.table({"text": texts, "label": pa.array([n % 2 for n in range(count)], pa.int64())})


FACES = "file,smiling,glasses\n"
