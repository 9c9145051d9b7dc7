"""Shared code of figures with one line per group of runs: labels, looks, panels, dots. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analysis.compare.cells import DENSE, LEVELS, SPREADS, Cell, Cells, Key, cells, names_in
from analysis.compare.labels import Known, Labels, known_line, labels_for
from analysis.figures.figure import GroupsOptions, LinesOptions
from analysis.figures.style import Look, looks, place_of
from analysis.rows.result_value import Value
from analysis.rows.run_row import Row
from analysis.rows.selection import chosen
from foundations.errors import UsageError
from foundations.metrics import BEST_BY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection

MASKED = "density"
"""A result of every run with a mask."""
_BAND = 0.18
"""The opacity of bands."""
_NAMES = {"test_accuracy": "Test accuracy", BEST_BY: "Validation accuracy"}
_SHORT = {"prune_fraction": "sparsity", "model_name": "model", "dataset_name": "data"}


@dataclass(frozen=True)
class Line:
    """The cells of a line in a panel."""

    keys: tuple[Key, ...]
    label: str
    look: Look
    panel: Key
    cells: tuple[Cell, ...]
    is_dense: bool = False


@dataclass(frozen=True)
class Lines:
    """The lines of a figure, in panels."""

    names: tuple[str, ...]
    """The keys that tell lines apart."""
    panel: str | None
    """The key that tells panels apart."""
    panels: tuple[Key, ...]
    lines: tuple[Line, ...]
    replicates: int
    """The most runs in a cell, complete or not."""
    labels: Labels
    """The labels of lines and panels."""

    def missing(self, cell: Cell) -> int:
        """Return the number of runs that a cell lacks compared with the largest one."""
        return self.replicates - cell.n

    def of_panel(self, panel: Key) -> list[Line]:
        """Return the lines of a panel. Dense networks without a known panel are in all."""
        return [line for line in self.lines if line.panel == panel or (line.is_dense and line.panel is None)]

    def identity(self, line: Line) -> dict[str, Key]:
        """Return the keys that tell a line apart, for the points."""
        panel = {self.panel: line.panel} if self.panel else {}
        return {**panel, **dict(zip(self.names, line.keys, strict=True))}


def grouped(rows: Sequence[Row], options: GroupsOptions, value: Value, then_by: Sequence[str] = ()) -> Cells:
    """Return the cells of a figure, grouped by panel and line, then by other keys.

    Raises: UsageError if no run is chosen, or a mean would be over different experiments.
    """
    by = _by(options)
    if not chosen(rows, options.where):
        raise UsageError("no run is chosen." if options.where else "there are no runs.", "where")
    keys = (*by, *(name for name in then_by if name not in by))
    flags = {**dict.fromkeys(by, "panels"), **dict.fromkeys(names_in(options.lines), "lines")}
    found = cells(rows, keys, value, where=options.where, over=names_in(options.over), flags=flags)
    found.refuse_mixed("lines")
    return found


def masked(rows: Sequence[Row], options: GroupsOptions) -> Cells:
    """Return the cells of a figure of masks, by line, without dense networks.

    Raises: UsageError if no complete run that prunes is chosen, or a mean would be over different experiments.
    """
    if not any(MASKED in row.results for row in chosen(rows, options.where)):
        raise UsageError("no complete run is chosen that has a mask.", "where")
    found = grouped(rows, options, Value(MASKED))
    dense = {id(each) for cell in found.dense for each in cell.left_out}
    left_out = tuple(each for each in found.left_out if id(each) not in dense)
    return replace(found, cells=found.pruned, left_out=left_out, untrained=())


def lines_of(found: Cells, options: GroupsOptions) -> Lines:
    """Return the lines of a figure's cells: dense networks first, then strategies in the order of the registry."""
    names, by_panel = names_in(options.lines), _panel(options)
    first = 1 if by_panel else 0
    groups: dict[tuple[bool, Key, tuple[Key, ...]], list[Cell]] = {}
    for cell in found.cells:
        is_in_all = not first or (cell.is_dense and by_panel in ("strategy", *LEVELS))
        group = cell.is_dense, None if is_in_all else cell.keys[0], cell.keys[first : first + len(names)]
        groups.setdefault(group, []).append(cell)
    kinds = list(dict.fromkeys((is_dense, keys) for is_dense, _, keys in groups))
    kinds.sort(key=lambda kind: (not kind[0], place_of(_strategy(names, kind[1]))))
    is_only_dense = sum(is_dense for is_dense, _ in kinds) == 1
    cells_of = [[cell for group in groups if (group[0], group[2]) == kind for cell in groups[group]] for kind in kinds]
    known = [
        known_group(names, () if dense and is_only_dense else keys, members, is_dense=dense)
        for (dense, keys), members in zip(kinds, cells_of, strict=True)
    ]
    panel_texts = [text for group in groups if by_panel for text in _texts_of(by_panel, group[1])]
    labels = labels_for(options.labels, known, panel_texts)
    drawn_as = looks([DENSE if is_dense else _strategy(names, keys) for is_dense, keys in kinds])
    lines = []
    for (is_dense, panel, keys), members in groups.items():
        place = kinds.index((is_dense, keys))
        lines.append(Line(keys, labels.of_line(known[place]), drawn_as[place], panel, tuple(members), is_dense))
    panels = tuple(dict.fromkeys(line.panel for line in lines if not line.is_dense or line.panel is not None))
    if by_panel == "strategy":
        panels = tuple(sorted(panels, key=lambda panel: place_of(str(panel))))
    lines.sort(key=lambda line: kinds.index((line.is_dense, line.keys)))
    counts = [cell.n + len(cell.left_out) for cell in found.pruned or found.cells]
    return Lines(names, by_panel, panels or (None,), tuple(lines), max(counts, default=0), labels)


def known_group(names: Sequence[str], keys: Sequence[Key], members: Sequence[Cell], *, is_dense: bool = False) -> Known:
    """Return the names of a group. Without labels, the legend calls it, for example, `snip10, lr 0.1`.

    keys: its values of the names; empty for values that tell nothing apart.
    """
    parts: dict[str, tuple[str, ...]] = {}
    known = dict(zip(names, keys, strict=True)) if keys else {}
    if is_dense or "strategy" in known:
        strategy = DENSE if is_dense else str(known["strategy"])
        parts["strategy"] = strategy, f"strategy={strategy}"
    parts |= {name: _texts_of(name, key) for name, key in known.items() if name != "strategy"}
    return known_line(", ".join(shown for shown, *_ in parts.values()), parts, members)


def panel_title(labels: Labels, name: str, panel: Key) -> str:
    """Return the title of a panel."""
    texts = _texts_of(name, panel)
    return next((labels.given[text] for text in texts if text in labels.given), texts[0])


def _texts_of(name: str, key: Key) -> tuple[str, ...]:
    return key_text(name, key), str(key), f"{name}={key}"


def key_text(name: str, key: Key) -> str:
    """Return the value of a key for legends and titles: `lr 0.1`, or a word without its key."""
    if isinstance(key, str) and not key.isdigit():
        return key
    value = f"{key:.4g}" if isinstance(key, float) else "none" if key is None else str(key)
    return f"{_SHORT.get(name, name).replace('_', ' ')} {value}"


def value_text(value: Value) -> str:
    """Return the label of a value's axis."""
    name = _NAMES.get(value.name, value.name.replace("_", " ").capitalize())
    when = {"": "", "best": ", best validation", "max": ", highest", "min": ", lowest"}.get(
        value.at, f", at {value.at}"
    )
    return f"{name}{when}{' (%)' if value.is_fraction else ''}"


def scale_of(value: Value) -> float:
    """Return the factor of an axis: 100 for fractions, which are shown in percent, else 1."""
    return 100.0 if value.is_fraction else 1.0


def draw_band(
    axes: Axes, x: Sequence[float], low: Sequence[float], high: Sequence[float], look: Look
) -> PolyCollection:
    """Draw the spread around a line."""
    return axes.fill_between(x, low, high, color=look.color, alpha=_BAND, linewidth=0)


def keep_in_range(panels: Sequence[Axes], value: Value) -> None:
    """Limit axes of fractions to about 0% and 100%, even if a computed band exceeds them."""
    for axes in panels if value.is_fraction else ():
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -2), min(high, 102))


def title_panels(found: Lines, axes: Sequence[Axes]) -> None:
    """Write a title above each panel."""
    if found.panel:
        for each, panel in zip(axes, found.panels, strict=True):
            each.set_title(panel_title(found.labels, found.panel, panel))


def spread_note(found: Lines, options: LinesOptions) -> str:
    """Return the meaning of lines and bands, for the caption."""
    if found.replicates < 2:
        return "Each point is a single run."
    band = f"bands: {SPREADS[options.spread]}"
    return f"Lines: mean of {found.replicates} replicates; {band}."


def _panel(options: GroupsOptions) -> str | None:
    return options.panels if isinstance(options, LinesOptions) else None


def _by(options: GroupsOptions) -> tuple[str, ...]:
    names, panel = names_in(options.lines), _panel(options)
    if not names:
        raise UsageError("name what the lines are, such as strategy.", "lines")
    if panel in names:
        raise UsageError(f"'{panel}' tells the lines apart already.", "panels")
    return (*((panel,) if panel else ()), *names)


def _strategy(names: Sequence[str], keys: Sequence[Key]) -> str | None:
    found = dict(zip(names, keys, strict=True)).get("strategy")
    return None if found is None else str(found)
