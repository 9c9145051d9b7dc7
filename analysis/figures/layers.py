"""Direct and effective density of each layer, one line per group of runs. Imports no torch.

A kept weight is effective if it is on a path of kept weights from the input to the output (Vysogorets and Kempe 2023).
Both densities are in the runs' reports on their masks (`pruning.report`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.compare.comparison import Line
from analysis.compare.points import Point, points_along
from analysis.figures.figure import DrawnFigure, FigureKind, LinesOptions
from analysis.figures.lines import draw_mean, draw_panels, masked, spread_note
from analysis.figures.style import EXPLAINED, log_ticks
from analysis.rows.run_row import Row
from foundations.description.hparams import hparam
from foundations.errors import OpenPruneError, UsageError
from foundations.files import sha256_of_file
from foundations.storage.run import SPARSITY, Run
from pruning.weights.fused import with_parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIRECT, EFFECTIVE = "direct", "effective"
_MOST_NAMES = 14
"""With more layers, the axis shows numbers instead of names."""
_CROSS: Any = {"marker": "x", "markersize": 5, "markeredgewidth": 1.2}
_BELOW = 0.5
"""The position of collapsed layers on the logarithmic axis, as a share of the lowest density."""


@dataclass(frozen=True, kw_only=True)
class LayersOptions(LinesOptions):
    """Runs to draw, and the size of the figure."""

    direct_only: bool = hparam(False)
    """Leave effective densities out."""


@dataclass(frozen=True)
class Densities:
    """The direct or the effective densities of a line, by layer."""

    line: Line
    kind: str
    by_layer: Mapping[str, Point]


def draw(rows: Sequence[Row], options: LayersOptions) -> DrawnFigure:
    """Return densities by layer. Raises: UsageError if no chosen run has a report on its mask."""
    found = masked(rows, options)
    shapes: dict[str, Sequence[int]] = {}
    notes: list[str] = []
    wanted = (DIRECT,) if options.direct_only else (DIRECT, EFFECTIVE)
    densities = [each for line in found.lines for each in _densities(line, wanted, shapes, notes)]
    if not densities:
        raise UsageError("no complete run that is chosen has a report on its mask.", "where")
    layers, kinds = in_order(shapes), {each.kind for each in densities}
    values = [value for each in densities for point in each.by_layer.values() for value in point.values]
    floor = _BELOW * min(filter(None, values), default=0.01)

    def draw_line(axes: Axes, line: Line) -> Any:
        drawn = [_draw_densities(axes, each, layers, floor, options) for each in densities if each.line is line]
        return drawn[0] if drawn else None

    explained: list[tuple[dict[str, Any], str]] = []
    if EFFECTIVE in kinds:
        explained.append(({"linestyle": ":", **EXPLAINED.open}, EFFECTIVE))
    if not all(any(point.values) for each in densities for point in each.by_layer.values()):
        explained.append(({"linestyle": "none", **_CROSS}, "collapsed"))
    figure = draw_panels(
        found, options, draw_line, lambda axes: _scale(axes, layers, floor), ("Layer", "Density (%)"), explained
    )
    points = tuple(
        {
            **found.identity(each.line),
            "layer": layer,
            "kind": each.kind,
            **each.by_layer[layer].summary(options.spread),
        }
        for each in densities
        for layer in layers
        if layer in each.by_layer
    )
    if EFFECTIVE in kinds:
        notes.insert(0, "Effective: weights on a path of kept weights from the input to the output.")
    notes += _collapsed(densities, layers)
    return DrawnFigure(figure, points, (spread_note(found, options), *notes, *found.notes()))


def in_order(shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the names of layers in the network's order, inferred from names and shapes of the weights.

    The layer on the image is first, convolutions precede linear layers, numbers ascend, the output layer is last.
    """
    of_image = [name for name, shape in shapes.items() if len(shape) == 4 and shape[1] == 3] or [
        name for name, shape in shapes.items() if len(shape) == 4 and shape[1] == 1
    ]
    linear = [name for name, shape in shapes.items() if len(shape) == 2]
    outputs = min((shapes[name][0] for name in linear), default=0)
    first = of_image[0] if len(of_image) == 1 else None
    last = next((name for name in linear if shapes[name][0] == outputs), None)

    def place(name: str) -> tuple[bool, bool, bool, list[tuple[bool, int, str]]]:
        # `denseblock1` precedes `transition1`, which precedes `denseblock2`; `downsample` comes after `conv2`.
        numbers = [(re.search(r"\d+", part), part) for part in name.split(".")]
        parts = [(found is None, int(found[0]) if found else 0, part) for found, part in numbers]
        return name == last, name in linear, name != first, parts

    return sorted(shapes, key=place)


def _densities(line: Line, kinds: Sequence[str], shapes: dict[str, Sequence[int]], notes: list[str]) -> list[Densities]:
    """Return the densities of a line's runs, by kind. Adds layers to `shapes`, and missing reports to `notes`."""
    reports: list[tuple[Row, dict[str, Any]]] = []
    for row in (row for point in line.points for row in point.rows):
        try:
            layers = with_parts(_report(row.run).get("layers", {}))
            shapes |= {name: layer["shape"] for name, layer in layers.items()}
        except (OpenPruneError, KeyError, TypeError):
            notes.append(f"Left out, its report on the mask is damaged: {row.address}.")
            continue
        if layers:
            reports.append((row, layers))
    found = []
    for kind in kinds if reports else ():
        column = "density" if kind == DIRECT else "effective_density"
        known = [
            (row, {name: float(layer[column]) for name, layer in layers.items() if column in layer})
            for row, layers in reports
        ]
        if by_layer := points_along(known):
            found.append(Densities(line, kind, by_layer))
        else:
            notes.append(f"{line.label}: effective densities are not known of this network.")
    return found


def _report(run: Run) -> dict[str, Any]:
    """Return a run's report on its mask, empty if it has none. Raises: DamagedError."""
    manifest = run.read_manifest()
    recorded = manifest.files.get(SPARSITY) if manifest else None
    if recorded is not None and sha256_of_file(run.path(SPARSITY)) != recorded.sha256:
        raise run.damaged(SPARSITY, "its SHA-256 is not the one of its manifest")
    return run.sparsity() or {}


def _draw_densities(axes: Axes, drawn: Densities, layers: Sequence[str], floor: float, options: LayersOptions) -> Any:
    """Draw a line over the layers, with crosses for collapsed ones at the axis; return its handle for the legend."""
    look, label, is_direct = drawn.line.look, drawn.line.label, drawn.kind == DIRECT
    points = {place: drawn.by_layer[layer] for place, layer in enumerate(layers) if layer in drawn.by_layer}
    artist = draw_mean(
        axes,
        list(points),
        list(points.values()),
        look,
        label if is_direct else f"_{EFFECTIVE} {label}",
        spread=options.spread if is_direct else None,
        scaled=lambda density: 100 * max(floor, density),
        **({} if is_direct else {**look.open, "linestyle": ":"}),
    )
    empty = [place for place, point in points.items() if not any(point.values)]
    if empty:
        cross: Any = {"linestyle": "none", "color": look.color, **_CROSS, "clip_on": False, "zorder": 5}
        axes.plot(empty, [100 * floor] * len(empty), label=f"_collapsed {label}", **cross)
    return artist


def _scale(axes: Axes, layers: Sequence[str], floor: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(100 * floor, 130)
    log_ticks(axes.yaxis, 100 * floor, 130)
    axes.set_xlim(-0.4, len(layers) - 0.6)
    if len(layers) <= _MOST_NAMES:
        names = [name.removesuffix(".weight").replace("_layers", "") for name in layers]
        slanted: Any = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 4 else {}
        axes.set_xticks(range(len(layers)), names, **slanted)
    else:
        every = next(step for step in (1, 2, 5, 10, 20, 50, 100) if len(layers) / step <= _MOST_NAMES)
        places = sorted({0, *range(every - 1, len(layers), every)})
        axes.set_xticks(places, [str(place + 1) for place in places])


def _collapsed(densities: Sequence[Densities], layers: Sequence[str]) -> list[str]:
    """Return sentences on layers that are empty in some runs."""
    found = []
    for each in densities:
        empty = {name: each.by_layer[name].values.count(0) for name in layers if name in each.by_layer}
        names = [name for name, number in empty.items() if number]
        if names:
            number = next(iter(each.by_layer.values())).n
            found.append(
                f"{each.line.label}: nothing is left ({each.kind}) of {', '.join(names)} in up to "
                f"{max(empty.values())} of {number} runs."
            )
    return found


LAYERS = FigureKind(
    spelling="layers",
    summary="the density of each layer, direct and effective: a line for each group of runs",
    draw=draw,
    options=LayersOptions,
    reads_metrics=False,
)
