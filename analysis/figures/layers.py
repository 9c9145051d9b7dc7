"""Direct and effective density of each layer, one line per group of runs. Imports no torch.

A kept weight is effective if it is on a path of kept weights from the input to the output (Vysogorets and Kempe 2023).
Both densities are in the runs' reports on their masks (`pruning.report`).
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.compare.cells import Cell
from analysis.figures.figure import DrawnFigure, FigureKind, LinesOptions, Point
from analysis.figures.lines import Line, Lines, draw_band, lines_of, masked, spread_note, title_panels
from analysis.figures.style import EXPLAINED, key, label_axes, legend, log_ticks, new_figure, styled
from analysis.rows.run_row import Row
from foundations.description.hparams import hparam
from foundations.errors import OpenPruneError, UsageError
from foundations.files import sha256_of_file
from foundations.storage.run import SPARSITY, Run

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
    """The direct or the effective densities of a line: by layer, of each run."""

    line: Line
    kind: str
    rows: tuple[Row, ...]
    by_layer: Mapping[str, tuple[float, ...]]

    def at(self, layer: str) -> Cell:
        """Return a layer's densities."""
        return Cell(self.line.keys, self.line.is_dense, self.rows, self.by_layer[layer])


def draw(rows: Sequence[Row], options: LayersOptions) -> DrawnFigure:
    """Return densities by layer. Raises: UsageError if no chosen run has a report on its mask."""
    found = masked(rows, options)
    lines = lines_of(found, options)
    kinds: tuple[str, ...] = (DIRECT,) if options.direct_only else (DIRECT, EFFECTIVE)
    shapes: dict[str, Sequence[int]] = {}
    notes: list[str] = []
    densities = [each for line in lines.lines for each in _densities(line, kinds, shapes, notes)]
    if not densities:
        raise UsageError("no complete run that is chosen has a report on its mask.", "where")
    layers, kinds = in_order(shapes), tuple(dict.fromkeys(each.kind for each in densities))
    floor = _BELOW * min(
        (value for each in densities for layer in each.by_layer.values() for value in layer if value), default=0.01
    )
    with styled():
        figure, panels = new_figure(options.width, options.height, len(lines.panels))
        drawn: dict[str, Any] = {}
        for panel, axes in zip(lines.panels, panels, strict=True):
            shown = set(map(id, lines.of_panel(panel)))
            for each in densities:
                if id(each.line) in shown:
                    drawn.setdefault(each.line.label, _draw_densities(axes, each, layers, floor, options))
            _scale(axes, layers, floor)
        title_panels(lines, panels)
        label_axes(figure, panels, "Layer", "Density (%)")
        entries = [(artist, label) for label, artist in drawn.items()]
        legend(figure, [*entries, *_explained(kinds, densities)], options.title)
    points = [_point(each, layer, lines, options) for each in densities for layer in layers if layer in each.by_layer]
    if EFFECTIVE in kinds:
        notes.insert(0, "Effective: weights on a path of kept weights from the input to the output.")
    notes += _collapsed(densities, layers)
    return DrawnFigure(figure, tuple(points), (spread_note(lines, options), *notes, *found.notes()))


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
    rows, reports = [], []
    for row in (row for cell in line.cells for row in cell.rows):
        try:
            layers = _report(row.run).get("layers", {})
            shapes |= {name: layer["shape"] for name, layer in layers.items()}
        except (OpenPruneError, KeyError, TypeError):
            notes.append(f"Left out, its report on the mask is damaged: {row.address}.")
            continue
        if layers:
            rows.append(row)
            reports.append(layers)
    found = []
    for kind in kinds if reports else ():
        column = "density" if kind == DIRECT else "effective_density"
        names = [name for name in reports[0] if all(column in report.get(name, {}) for report in reports)]
        if names:
            by_layer = {name: tuple(float(report[name][column]) for report in reports) for name in names}
            found.append(Densities(line, kind, tuple(rows), by_layer))
        else:
            notes.append(f"{line.label}: effective densities are not known of this network.")
    return found


def _report(run: Run) -> dict[str, Any]:
    """Return a run's report on its mask, empty if it has none. Raises: DamagedError."""
    manifest = run.read_manifest()
    recorded = manifest.files.get(SPARSITY) if manifest else None
    if recorded is not None and sha256_of_file(run.folder / SPARSITY) != recorded.sha256:
        raise run.damaged(SPARSITY, "its SHA-256 is not the one of its manifest")
    return run.sparsity() or {}


def _draw_densities(axes: Axes, drawn: Densities, layers: Sequence[str], floor: float, options: LayersOptions) -> Any:
    """Draw a line over the layers, with crosses for collapsed ones at the axis; return its handle for the legend."""
    look, is_direct = drawn.line.look, drawn.kind == DIRECT
    names = [layer for layer in layers if layer in drawn.by_layer]
    x = [layers.index(layer) for layer in names]
    cells = [drawn.at(layer) for layer in names]
    means = [100 * max(floor, statistics.fmean(cell.values)) for cell in cells]
    if is_direct:
        pairs = [cell.interval(options.spread) or (cell.values[0], cell.values[0]) for cell in cells]
        draw_band(
            axes, x, [100 * max(floor, low) for low, _ in pairs], [100 * max(floor, high) for _, high in pairs], look
        )
    (artist,) = axes.plot(
        x,
        means,
        label=drawn.line.label if is_direct else f"_{EFFECTIVE} {drawn.line.label}",
        color=look.color,
        linestyle=look.linestyle if is_direct else ":",
        **(look.filled if is_direct else look.open),
    )
    empty = [place for place, cell in zip(x, cells, strict=True) if not any(cell.values)]
    if empty:
        axes.plot(
            empty,
            [100 * floor] * len(empty),
            linestyle="none",
            color=look.color,
            **_CROSS,
            label=f"_collapsed {drawn.line.label}",
            clip_on=False,
            zorder=5,
        )
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


def _explained(kinds: Sequence[str], densities: Sequence[Densities]) -> list[tuple[Any, str]]:
    """Return entries of the legend that explain lines and markers."""
    found: list[tuple[Any, str]] = []
    if EFFECTIVE in kinds:
        found.append((key(":", **EXPLAINED.open), EFFECTIVE))
    if any(not any(values) for each in densities for values in each.by_layer.values()):
        found.append((key("none", **_CROSS), "collapsed"))
    return found


def _collapsed(densities: Sequence[Densities], layers: Sequence[str]) -> list[str]:
    """Return sentences on layers that are empty in some runs."""
    found = []
    for each in densities:
        names = [layer for layer in layers if layer in each.by_layer and 0 in each.by_layer[layer]]
        if names:
            number = max(each.by_layer[name].count(0) for name in names)
            found.append(
                f"{each.line.label}: nothing is left ({each.kind}) of {', '.join(names)} in up to {number} of "
                f"{len(each.rows)} runs."
            )
    return found


def _point(drawn: Densities, layer: str, lines: Lines, options: LayersOptions) -> Point:
    summary = drawn.at(layer).summary(options.spread)
    return {**lines.identity(drawn.line), "layer": layer, "kind": drawn.kind, **summary}


LAYERS = FigureKind(
    spelling="layers",
    summary="the density of each layer, direct and effective: a line for each group of runs",
    draw=draw,
    options=LayersOptions,
    reads_metrics=False,
)
