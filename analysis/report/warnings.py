"""Warnings for readers of a report. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.compare.cells import Cells
from analysis.report.details import Details, collapsed_in
from analysis.report.provenance import Provenance

Name = tuple[str, str]
"""The line and the level of a cell, as texts."""
MOST_NAMED = 8
"""The most cells or layers that a warning names; more are counted."""


@dataclass(frozen=True)
class Warned:
    """A warning."""

    title: str
    text: str


def warnings_of(
    found: Cells, names: Sequence[Name], details: Mapping[str, Details], provenance: Provenance
) -> tuple[Warned, ...]:
    """Return all warnings. names: the line and the level of each cell."""
    return (
        *(Warned("Different experiments", f"{mixed} No mean is shown; each run is.") for mixed in found.mixed),
        *(Warned("Runs and data", note) for note in found.notes()),
        *_missing_replicates(found, names),
        *_collapsed(found, names, details),
        *_versions(provenance),
        *_unreadable(details),
    )


def _missing_replicates(found: Cells, names: Sequence[Name]) -> Iterator[Warned]:
    """Replicates that some cells have and others lack; dense cells are compared with dense ones."""
    for is_dense in (True, False):
        chosen = [(cell, name) for cell, name in zip(found.cells, names, strict=True) if cell.is_dense == is_dense]
        expected = {row.replicate for cell, _ in chosen for row in cell.rows}
        lacking: dict[tuple[int, ...], list[Name]] = {}
        for cell, name in chosen:
            missing = tuple(sorted(expected - {row.replicate for row in cell.rows}))
            if missing:
                lacking.setdefault(missing, []).append(name)
        for missing, cells_lacking in lacking.items():
            which = (
                f"Replicates {', '.join(map(str, missing))} are" if len(missing) > 1 else f"Replicate {missing[0]} is"
            )
            yield Warned("Missing replicates", f"{which} missing for {_by_line(cells_lacking)}; other cells have more.")


def _collapsed(found: Cells, names: Sequence[Name], details: Mapping[str, Details]) -> Iterator[Warned]:
    """Layers without any weight left: nothing passes through them."""
    by_layers: dict[str, list[Name]] = {}
    for cell, (line, level) in zip(found.cells, names, strict=True):
        collapsed = collapsed_in(cell.rows, details)
        runs = {row.location for rows in collapsed.values() for row in rows}
        if collapsed:
            by_layers.setdefault(_some(list(collapsed)), []).append((line, f"{level} ({len(runs)} of {cell.n})"))
    for layers, where in by_layers.items():
        yield Warned("Collapsed layers", f"Nothing is left of {layers} in runs of {_by_line(where)}.")


def _versions(provenance: Provenance) -> Iterator[Warned]:
    """Libraries with different versions among the runs."""
    by_name: dict[str, set[str]] = {}
    for versions, _ in provenance.versions:
        for name, version in versions.items():
            by_name.setdefault(name, set()).add(version)
    differing = [f"{name} ({_some(sorted(found))})" for name, found in sorted(by_name.items()) if len(found) > 1]
    if differing:
        yield Warned("Different versions", f"The runs were computed by different versions of {', '.join(differing)}.")


def _unreadable(details: Mapping[str, Details]) -> Iterator[Warned]:
    problems = [each.problem for each in details.values() if each.problem]
    if problems:
        yield Warned("Damaged files", f"Drawn without what could not be read: {_some(problems)}")


def _by_line(names: Sequence[Name]) -> str:
    """Return cells as text, grouped by line."""
    levels: dict[str, list[str]] = {}
    for line, level in names:
        levels.setdefault(line, []).append(level)
    return _some([f"{line} at {_some(found)}" for line, found in levels.items()], "; ")


def _some(names: Sequence[str], between: str = ", ") -> str:
    more = len(names) - MOST_NAMED
    return between.join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
