"""Readers by themselves, without a command around them: thousands of inputs a second."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from analysis.rows.result_value import Value
from analysis.rows.run_row import Row
from analysis.rows.selection import chosen, ordered
from cli.request.grid import parse_axis, parse_rule, parse_values, read_sweep
from cli.request.paper_file import read_paper
from datasets.prepared import read_header
from foundations.description.address import MAIN, Location
from foundations.description.desc import check_record
from foundations.description.step import Step, parse_steps
from foundations.errors import DamagedError
from foundations.metrics import Metrics
from foundations.program import TOP
from foundations.storage import tensor_files
from foundations.storage.manifest import Manifest
from foundations.storage.run import Run
from pruning.masks.mask_files import pack, unpack
from tests.fuzzing.file_targets import SWEEP, toml_like
from tests.fuzzing.formats import safetensors_like
from tests.fuzzing.harness import Attempt, Target, Wrong
from tests.fuzzing.mutations import bytes_like, text_like, to_json, tree_like
from tests.fuzzing.run_targets import sealed_like
from tests.fuzzing.seeds import Seeds

_TEXTS: Mapping[str, tuple[Callable[[str], object], tuple[str, ...]]] = {
    "steps": (lambda text: (parse_steps(text, 6), Step.parse(text, 6)), ("0it,1ep,2ep30it", "2ep-8ep@2ep", "80ep")),
    "values of grids": (
        lambda text: parse_values(text, "grid"),
        ("a,b,c", "1-5,10-50@10", "0.8^1..10", "2^0..6@2", "a;b,c"),
    ),
    "axes": (parse_axis, ("strategy=snip10,synflow", "lr,batch_size=0.1:128,0.01:64", "replicate=1-5")),
    "rules": (parse_rule, ("strategy=synflow:prune_iterations=100", "a=1,b=2:c=3")),
    "values of tables": (Value.parse, ("test_accuracy@best", "test_loss@10ep", "test_accuracy@max")),
}


def reader_targets(seeds: Seeds) -> list[Target]:
    """Return the targets."""
    made = [Target(f"text of {name}", partial(_text, name), 5_000, 5_000) for name in _TEXTS]
    readers: dict[str, Callable[[Seeds, Path], Attempt]] = {
        "manifests by themselves": _manifests,
        "descriptions by themselves": _records,
        "metrics by themselves": _metrics,
        "tensors by themselves": _tensors,
        "headers by themselves": _headers,
        "masks by themselves": _masks,
        "choices of rows": _rows,
        "sweeps and papers by themselves": _toml,
    }
    return made + [Target(name, partial(reader, seeds), 6_000, 3_000) for name, reader in readers.items()]


def _text(name: str, _: Path) -> Attempt:
    read, valid = _TEXTS[name]
    return lambda stream: _read(partial(read, text_like(stream.choice(valid), stream)))


def _read(reader: Callable[[], object]) -> None:
    _ = reader()


def _manifests(seeds: Seeds, _: Path) -> Attempt:
    texts = [path.read_bytes() for path in seeds.root.rglob("manifest.json")]

    def attempt(stream: random.Random) -> None:
        try:
            found = Manifest.from_bytes(sealed_like(stream.choice(texts), stream))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:  # as it says
            raise DamagedError("it is not a manifest") from error
        if any("/" in name or name.startswith(".") for name in found.files):
            raise Wrong(f"a file outside of the run's folder: {list(found.files)}")

    return attempt


def _records(seeds: Seeds, _: Path) -> Attempt:
    found = {path.parent: json.loads(path.read_bytes()) for path in seeds.root.rglob("description.json")}

    def attempt(stream: random.Random) -> None:
        place = stream.choice(list(found))
        check_record(json.loads(to_json(tree_like(found[place], stream))), place)

    def reading(stream: random.Random) -> None:
        try:
            attempt(stream)
        except (ValueError, RecursionError) as error:  # no JSON at all
            raise DamagedError("it is not JSON") from error

    return reading


def _metrics(seeds: Seeds, _folder: Path) -> Attempt:
    (text, *_) = [path.read_bytes() for path in seeds.root.rglob("metrics.csv")]
    return lambda stream: _read(partial(Metrics.from_csv, bytes_like(text, stream).decode(errors="replace")))


def _tensors(seeds: Seeds, folder: Path) -> Attempt:
    files = [path.read_bytes() for path in (*seeds.cut_off.rglob("*.safetensors"), seeds.ticket)]
    path = folder / "some.safetensors"

    def attempt(stream: random.Random) -> None:
        path.write_bytes(safetensors_like(stream.choice(files), stream))
        tensor_files.read(path, "", "x/y")
        tensor_files.owner(path)

    return attempt


def _headers(seeds: Seeds, folder: Path) -> Attempt:
    files = [path.read_bytes()[:4096] for path in seeds.datasets.rglob("*.safetensors")]
    path = folder / "some.safetensors"

    def attempt(stream: random.Random) -> None:
        path.write_bytes(safetensors_like(stream.choice(files), stream))
        read_header(path)

    return attempt


def _masks(_: Seeds, _folder: Path) -> Attempt:
    bits, header = pack({"a.weight": torch.ones(3, 5, dtype=torch.bool), "b.weight": torch.zeros(7, dtype=torch.bool)})

    def attempt(stream: random.Random) -> None:
        try:
            changed: Any = json.loads(to_json(tree_like(header, stream)))
        except (ValueError, RecursionError) as error:
            raise DamagedError("it is not JSON") from error
        unpack(bits, changed)

    return attempt


def _rows(_: Seeds, folder: Path) -> Attempt:
    run = Run(folder, Location("train_0", 1, MAIN))
    first = Row(
        run=run, status="complete", hyperparameters={"lr": 0.1, "seed": None, "strategy": "snip1", "n": 3, "x": True}
    )
    rows = [first, dataclasses.replace(first, results={"test_accuracy": None, "sparsity": 0.5}, age=1.0), first]
    texts = (
        "strategy=snip1,lr=0.1",
        "status=complete,n=3",
        "test_accuracy=None,training_steps=3ep",
        "x=True",
        "hparam.lr=1e-1",
    )

    def attempt(stream: random.Random) -> None:
        chosen(rows, text_like(stream.choice(texts), stream))
        key = stream.choice(("lr", "strategy", "age", "x", "test_accuracy", text_like("lr", stream)))
        ordered(rows, key, descending=stream.random() < 0.5)

    return attempt


def _toml(_: Seeds, folder: Path) -> Attempt:
    path, papers = folder / "some.toml", [paper.read_text() for paper in (TOP / "papers").glob("*.toml")]

    def attempt(stream: random.Random) -> None:
        if stream.random() < 0.5:
            path.write_bytes(toml_like(SWEEP, stream))
            list(read_sweep(path).points())
        else:
            path.write_bytes(toml_like(stream.choice(papers), stream))
            read_paper(path)

    return attempt
