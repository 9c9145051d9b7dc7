"""Provenance of the numbers in a report: runs, data, software, machines. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from analysis.compare.comparison import Comparison
from analysis.report.details import Details
from analysis.rows.run_row import Row

T = TypeVar("T")


@dataclass(frozen=True)
class RunLine:
    """A run in the list of all runs."""

    address: str
    location: str
    point: int | None
    """The index of its point in the page's points."""
    replicate: int
    status: str
    """`counts`, or the reason for its exclusion."""
    value: float | None
    device: str
    finished: str
    seconds: float | None
    versions: int | None
    """The index of its set of versions."""
    fingerprint: str
    upstream: str
    """Empty for a run in the root itself."""


@dataclass(frozen=True)
class Provenance:
    """Software, data and machines of all runs that count, each with the number of runs."""

    versions: tuple[tuple[dict[str, str], int], ...]
    """Sets of versions, the most frequent first."""
    devices: tuple[tuple[str, int], ...]
    data: tuple[tuple[str, str, int], ...]
    """Name and fingerprint of prepared datasets."""
    replicates: tuple[tuple[int, int], ...]
    first: str
    last: str
    """The time when the last run ended; `first` is the time for the first run."""
    seconds: float
    """Seconds of computing, in total over all runs."""
    number: int
    """The number of runs that count."""


COUNTS = "counts"


def provenance_of(
    found: Comparison, rows: Sequence[Row], details: Mapping[str, Details]
) -> tuple[tuple[RunLine, ...], Provenance]:
    """Return a line for each run, and a summary of the runs that count.

    rows: all runs of the report, in the order of the returned lines.
    """
    point_of = {row.location: number for number, point in enumerate(found.points) for row in point.members}
    value_of = {row.location: value for each in found.points for row, value in zip(each.rows, each.values, strict=True)}
    why = {row.location: f"no dense reference: {row.status}" for row in found.untrained}
    why |= {each.row.location: each.why for each in found.left_out}
    counted = [row for row in rows if row.location in value_of]
    manifests = {row.location: details[row.location].manifest for row in rows}
    sets = Counter(
        tuple(sorted(manifest.versions.items())) for row in counted if (manifest := manifests[row.location]) is not None
    )
    versions = {each: place for place, (each, _) in enumerate(_by_number(sets))}

    def line(row: Row) -> RunLine:
        manifest = manifests[row.location]
        return RunLine(
            address=row.address,
            location=row.location,
            point=point_of.get(row.location),
            replicate=row.replicate,
            status=COUNTS if row.location in value_of else why.get(row.location, row.status),
            value=value_of.get(row.location),
            device=manifest.device if manifest else "",
            finished=manifest.finished if manifest else "",
            seconds=manifest.wall_seconds if manifest else None,
            versions=versions.get(tuple(sorted(manifest.versions.items()))) if manifest else None,
            fingerprint=row.fingerprint or "",
            upstream=row.upstream or "",
        )

    known = [manifest for row in counted if (manifest := manifests[row.location])]
    finished = sorted(filter(None, (manifest.finished for manifest in known)))
    data = Counter((row.data or "", row.fingerprint or "") for row in counted)
    return tuple(map(line, rows)), Provenance(
        versions=tuple((dict(each), number) for each, number in _by_number(sets)),
        devices=tuple(_by_number(Counter(manifest.device for manifest in known))),
        data=tuple((name, fingerprint, number) for (name, fingerprint), number in sorted(data.items())),
        replicates=tuple(sorted(Counter(row.replicate for row in counted).items())),
        first=finished[0] if finished else "",
        last=finished[-1] if finished else "",
        seconds=sum(manifest.wall_seconds for manifest in known),
        number=len(counted),
    )


def _by_number(counter: Counter[T]) -> list[tuple[T, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], str(item[0])))
