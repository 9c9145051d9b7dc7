"""Data of a run beside its row, for reports: metrics, the report on its mask, its manifest. Imports no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.compare.points import Point, points_along
from analysis.figures.layers import in_order
from analysis.rows.run_row import Row
from foundations.errors import OpenPruneError
from foundations.storage.manifest import Manifest
from pruning.weights.fused import with_parts

FEWEST_STEPS = 3
"""The fewest points of a training curve: a line through two would show nothing between them."""
DIGITS = 5
"""Significant digits of numbers that are only drawn."""


@dataclass(frozen=True)
class Details:
    """The files of a run, as far as they can be read."""

    manifest: Manifest | None = None
    metrics: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """By name and iteration."""
    layers: Mapping[str, tuple[float, float | None]] = field(default_factory=dict)
    """Density of each prunable tensor in the network's order, direct and effective (None if unknown), from
    0 to 1."""
    collapsed: tuple[str, ...] = ()
    """The tensors without any weight left."""
    problem: str = ""
    """A message on why something could not be read."""


@dataclass(frozen=True)
class Curve:
    """A metric over training: the replicates' mean and extremes at the epochs that all of them measured."""

    epochs: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...] = ()
    """Empty for a single run."""
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class Layers:
    """Densities of the prunable tensors, each the mean over replicates, from 0 to 1."""

    names: tuple[str, ...]
    direct: tuple[float, ...]
    effective: tuple[float, ...]
    """Counting only weights on a path from input to output; empty if unknown."""


def details_of(row: Row) -> Details:
    """Read a run's files. The details of an incomplete or damaged run have what could be read."""
    try:
        manifest = row.run.read_manifest()
        if manifest is None:
            return Details()
        metrics: dict[str, dict[int, float]] = {}
        for (name, iteration), value in row.run.metrics().values.items():
            metrics.setdefault(name, {})[iteration] = value
        return Details(manifest, metrics, *_mask(row.run.sparsity() or {"layers": {}, "collapsed_layers": []}))
    except (OpenPruneError, OSError) as error:
        return Details(problem=str(error).splitlines()[0])
    except (AttributeError, KeyError, TypeError, ValueError):
        return Details(problem=f"{row.run.folder} holds a report on its mask of another form.")


def curves_of(point: Point, details: Mapping[str, Details]) -> tuple[dict[str, Curve], dict[str, int]]:
    """Return the training curves of a point by metric, and for metrics too short for a curve, their number of steps."""
    runs = {row.location: details[row.location].metrics for row in point.rows}
    if not runs or len({row.iterations_per_epoch for row in point.rows}) > 1:
        return {}, {}
    found, too_short = {}, {}
    for name in sorted(set.intersection(*map(set, runs.values()))):
        by_step = points_along([(row, _finite_only(runs[row.location][name])) for row in point.rows])
        if len(by_step) < FEWEST_STEPS:
            too_short[name] = len(by_step)
        else:
            steps = sorted(by_step)
            epochs = _short(step / point.rows[0].iterations_per_epoch for step in steps)
            ends = [by_step[step].interval("minmax") for step in steps]
            extremes = [_short(pair[end] for pair in ends if pair) for end in (0, 1)]
            found[name] = Curve(epochs, _short(statistics.fmean(by_step[step].values) for step in steps), *extremes)
    return found, too_short


def _finite_only(values: Mapping[int, float]) -> dict[int, float]:
    return {step: value for step, value in values.items() if math.isfinite(value)}


def thinned(curve: Curve, points: int) -> Curve:
    """Return a curve with at most `points` points, evenly chosen, including the first and the last."""
    last = len(curve.epochs) - 1
    if last < points:
        return curve
    kept = [round(index * last / (points - 1)) for index in range(points)]
    parts = (curve.epochs, curve.mean, curve.low, curve.high)
    return Curve(*(tuple(part[index] for index in kept) if part else () for part in parts))


def layers_of(point: Point, details: Mapping[str, Details]) -> Layers | None:
    """Return the densities of a point's layers; None if no run has a mask, or their layers differ."""
    masks = [layers for row in point.rows if (layers := details[row.location].layers)]
    if not masks or len({tuple(layers) for layers in masks}) > 1:
        return None
    names = tuple(masks[0])
    direct = _short(statistics.fmean(layers[name][0] for layers in masks) for name in names)
    effective = [[layers[name][1] for layers in masks] for name in names]
    known = [[value for value in values if value is not None] for values in effective]
    return Layers(names, direct, _short(map(statistics.fmean, known)) if known == effective else ())


def collapsed_in(rows: Sequence[Row], details: Mapping[str, Details]) -> dict[str, list[Row]]:
    """Return the layers that are empty in some runs, with these runs."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        for name in details[row.location].collapsed:
            found.setdefault(name, []).append(row)
    return found


def _mask(report: Mapping[str, Any]) -> tuple[dict[str, tuple[float, float | None]], tuple[str, ...]]:
    """Return the densities of a mask's tensors, and the empty tensors, from `pruning.report.sparsity_report`."""
    found = with_parts(report["layers"])
    names = in_order({name: layer.get("shape", ()) for name, layer in found.items()})
    layers = {name: (_finite(found[name]["density"]), _effective(found[name])) for name in names}
    return layers, tuple(map(str, report["collapsed_layers"]))


def _effective(layer: Mapping[str, Any]) -> float | None:
    found = layer.get("effective_density")
    return None if found is None else _finite(found)


def _finite(value: Any) -> float:
    """Return a finite number. Raises: ValueError for anything else."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def short(value: float) -> float:
    """Round a number to DIGITS significant digits."""
    return float(f"{value:.{DIGITS}g}")


def _short(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(map(short, values))
