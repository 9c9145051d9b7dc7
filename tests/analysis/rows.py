"""Rows of runs that need no directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.rows.run_row import Row
from foundations.description.address import Location
from foundations.storage.run import Run

TRAINING = f"train_{'a' * 32}"


def training(
    replicate: int = 1, accuracy: float | None = 0.9, *, digest: str = "a" * 32, **hyperparameters: Any
) -> Row:
    """Return the row of a training; it is not complete if it has no accuracy."""
    location = Location(f"train_{digest}", replicate, "main")
    return _row(location, {} if accuracy is None else {"test_accuracy": accuracy}, hyperparameters)


def pruned(
    strategy: str,
    sparsity: float,
    replicate: int = 1,
    accuracy: float | None = 0.8,
    *,
    achieved: float | None = None,
    data: str = "f" * 64,
    **hyperparameters: Any,
) -> Row:
    """Return the row of a branch; it is not complete if it has no accuracy. achieved: its sparsity, if another one."""
    digest = f"{abs(hash((strategy, sparsity, tuple(hyperparameters.items())))):032x}"
    location = Location(TRAINING, replicate, f"branch_oneshot_{digest}")
    results = {"test_accuracy": accuracy, "sparsity": sparsity if achieved is None else achieved}
    values = {"strategy": strategy, "prune_fraction": sparsity, **hyperparameters}
    return _row(location, {} if accuracy is None else results, values, data)


def imported(sparsity: float | None, replicate: int = 1, accuracy: float | None = None, digest: str = "b" * 32) -> Row:
    """Return the row of an imported run. sparsity: the sparsity of the imported mask; None if there is none."""
    results = {
        name: value for name, value in (("sparsity", sparsity), ("test_accuracy", accuracy)) if value is not None
    }
    row = _row(Location(f"import_{digest}", replicate, "main"), results, {"is_pruned": sparsity is not None})
    return replace(row, status="complete")


def damaged(replicate: int = 1) -> Row:
    """Return the row of a branch that cannot be read."""
    location = Location(TRAINING, replicate, f"branch_oneshot_{'d' * 32}")
    return Row(run=Run(Path("/nowhere"), location), status="damaged", damage="it is not JSON")


def _row(location: Location, results: dict[str, Any], hyperparameters: dict[str, Any], data: str = "f" * 64) -> Row:
    return Row(
        run=Run(Path("/nowhere"), location),
        status="complete" if results else "incomplete",
        hyperparameters={"dataset_name": "digits", **hyperparameters},
        results=results,
        fingerprint=data if results else None,
    )
