"""Warnings for readers of a report. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.compare.comparison import Comparison
from analysis.report.details import Details, collapsed_in
from analysis.report.provenance import Provenance

Name = tuple[str, str]
"""The line and the level of a point, as texts."""
MOST_NAMED = 8
"""The most points or layers that a warning names; more are counted."""


@dataclass(frozen=True)
class Warned:
    """A warning."""

    title: str
    text: str


def warnings_of(
    found: Comparison, names: Sequence[Name], details: Mapping[str, Details], provenance: Provenance
) -> tuple[Warned, ...]:
    """Return all warnings. names: the line and the level of each point."""
    return (
        *(Warned("Different experiments", f"{mixed} No mean is shown; each run is.") for mixed in found.mixed),
        *(Warned("Runs and data", note) for note in found.notes()),
        *_missing_replicates(found, names),
        *_collapsed(found, names, details),
        *_versions(provenance),
        *_unreadable(details),
    )


def _missing_replicates(found: Comparison, names: Sequence[Name]) -> Iterator[Warned]:
    """Replicates that some points have and others lack; dense points are compared with dense ones."""
    for is_dense in (True, False):
        chosen = [(point, name) for point, name in zip(found.points, names, strict=True) if point.is_dense == is_dense]
        expected = {row.replicate for point, _ in chosen for row in point.rows}
        lacking: dict[tuple[int, ...], list[Name]] = {}
        for point, name in chosen:
            missing = tuple(sorted(expected - {row.replicate for row in point.rows}))
            if missing:
                lacking.setdefault(missing, []).append(name)
        for missing, points in lacking.items():
            which = (
                f"Replicates {', '.join(map(str, missing))} are" if len(missing) > 1 else f"Replicate {missing[0]} is"
            )
            yield Warned("Missing replicates", f"{which} missing for {_by_line(points)}; other cells have more.")


def _collapsed(found: Comparison, names: Sequence[Name], details: Mapping[str, Details]) -> Iterator[Warned]:
    """Layers without any weight left: nothing passes through them."""
    by_layers: dict[str, list[Name]] = {}
    for point, (line, level) in zip(found.points, names, strict=True):
        collapsed = collapsed_in(point.rows, details)
        runs = {row.location for rows in collapsed.values() for row in rows}
        if collapsed:
            by_layers.setdefault(_some(list(collapsed)), []).append((line, f"{level} ({len(runs)} of {point.n})"))
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
        yield Warned("Unreadable files", f"Drawn without what could not be read: {_some(problems)}")


def _by_line(names: Sequence[Name]) -> str:
    """Return points as text, grouped by line."""
    levels: dict[str, list[str]] = {}
    for line, level in names:
        levels.setdefault(line, []).append(level)
    return _some([f"{line} at {_some(found)}" for line, found in levels.items()], "; ")


def _some(names: Sequence[str], between: str = ", ") -> str:
    more = len(names) - MOST_NAMED
    return between.join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
