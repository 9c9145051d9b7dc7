"""Runs that reports are made of, written by hand: every number in them is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foundations.description.address import digest
from foundations.files import sha256_of_file

FINISHED = "2026-01-02 03:04:05"


def write_training(root: Path, replicate: int = 1, accuracy: float | None = 0.9, **options: Any) -> str:
    """Write a training; it is not complete if it has no accuracy. Return its address."""
    record = _training(options.pop("hyperparameters", {}))
    folder = root / f"train_{record['digest']}" / f"replicate_{replicate}" / "main"
    _write(folder, record, {} if accuracy is None else {"test_accuracy": accuracy}, **options)
    return f"{record['digest'][:8]}/{replicate}"


def write_pruned(
    root: Path,
    strategy: str,
    density: float,
    replicate: int = 1,
    accuracy: float | None = 0.8,
    *,
    layers: Mapping[str, tuple[float, float]] | None = None,
    collapsed: Sequence[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    training: Mapping[str, Any] | None = None,
    pruning: Mapping[str, Any] | None = None,
    **options: Any,
) -> str:
    """Write a branch; it is not complete if it has no accuracy. Return its address.

    layers: direct and effective density by name. shapes: of some of them. training, pruning: hyperparameters.
    """
    main = _training(training or {})
    hyperparameters = {"pruning": {"strategy": strategy, "prune_fraction": 1 - density, **(pruning or {})}}
    canonical = {**hyperparameters, "main": main["digest"]}
    record: dict[str, Any] = {
        "schema": 2,
        "kind": "oneshot",
        "canonical": canonical,
        "hyperparameters": hyperparameters,
    }
    record |= {"digest": digest("oneshot", canonical), "main": main, "iterations_per_epoch": 10, "sources": {}}
    name = f"branch_oneshot_{record['digest']}"
    folder = root / f"train_{main['digest']}" / f"replicate_{replicate}" / name
    report = {
        "collapsed_layers": list(collapsed),
        "layers": {
            name: {"density": direct, "effective_density": effective, "shape": list((shapes or {}).get(name, ()))}
            for name, (direct, effective) in (layers or {"fc.weight": (density, density)}).items()
        },
    }
    results = {} if accuracy is None else {"test_accuracy": accuracy, "density": density, "sparsity": 1 - density}
    _write(folder, record, results, {"sparsity.json": json.dumps(report)}, **options)
    return f"{record['digest'][:8]}/{replicate}"


def _training(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    groups = {"training": {"dataset_name": "digits", "model_name": "lenet", "lr": 0.1, **hyperparameters}}
    return {
        "schema": 2,
        "kind": "train",
        "canonical": groups,
        "hyperparameters": groups,
        "digest": digest("train", groups),
        "iterations_per_epoch": 10,
    }


def _write(
    folder: Path,
    record: Mapping[str, Any],
    results: Mapping[str, float],
    files: Mapping[str, str] | None = None,
    *,
    metrics: Mapping[str, Mapping[int, float]] | None = None,
    versions: Mapping[str, str] | None = None,
    device: str = "cpu",
    data: str = "f" * 64,
) -> None:
    folder.mkdir(parents=True)
    curves = metrics or {"test_accuracy": {0: 0.1, 10: 0.5, 20: results.get("test_accuracy", 0.6)}}
    lines = [f"{name},{step},{value!r}" for name, values in curves.items() for step, value in values.items()]
    texts = {
        "description.json": json.dumps(record),
        "metrics.csv": "\n".join(["name,iteration,value", *lines, ""]),
        **(files or {}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    if results:
        manifest = {
            "files": {
                name: {"size": (folder / name).stat().st_size, "sha256": sha256_of_file(folder / name)}
                for name in texts
            },
            "results": results,
            "dataset": {"digits": data},
            "parents": {},
            "versions": versions or {"torch": "2.15.0"},
            "device": device,
            "wall_seconds": 1.5,
            "finished": FINISHED,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
