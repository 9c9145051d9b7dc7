"""Comparisons: runs as points of lines, which tables, figures and reports draw. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from analysis.compare.labels import Known, Labels, known_line, labels_for
from analysis.compare.looks import Look, looks, place_of
from analysis.compare.points import DENSE, LEVELS, Key, LeftOut, Point, points_of, text_of
from analysis.rows.result_value import CLOSED, DAMAGED, Value
from analysis.rows.run_row import REQUESTED, Row
from analysis.rows.selection import Where, chosen
from foundations.errors import UsageError, did_you_mean

Kind = tuple[bool, tuple[Key, ...]]
"""Whether a line is of dense networks, and its values of the keys that tell lines apart."""
Parts = dict[str, tuple[str, ...]]
"""By key, the texts for a line's value, the usual text first."""
_MOST_NAMED = 6


@dataclass(frozen=True)
class Line:
    """Points that differ only in the last keys, such as their level."""

    keys: tuple[Key, ...]
    """Its values of the keys that tell lines apart."""
    is_dense: bool
    points: tuple[Point, ...]
    known: Known
    """The names that labels can be given to."""
    label: str
    look: Look
    """Its colour, dashes and marker."""
    panel: Key = None


@dataclass(frozen=True)
class Comparison:
    """Runs that are grouped by some keys. Tables, figures and reports draw its lines."""

    by: tuple[str, ...]
    """The keys: the panel's if there are panels, then those of the lines, then those of the points."""
    value: Value
    points: tuple[Point, ...]
    """Points of dense networks first, then by key: numbers ascending, texts in alphabetical order."""
    left_out: tuple[LeftOut, ...] = ()
    """All excluded runs, including runs with too little information to belong to a point."""
    untrained: tuple[Row, ...] = ()
    """Incomplete trainings that the runs prune: their dense reference is missing."""
    names: tuple[str, ...] = ()
    """The keys that tell lines apart."""
    lines: tuple[Line, ...] = ()
    labels: Labels = Labels()
    panel: str | None = None
    """The key that tells panels apart."""
    panels: tuple[Key, ...] = (None,)

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        by: Sequence[str],
        value: Value,
        *,
        where: Where | None = None,
        over: Collection[str] = (),
        flags: Mapping[str, str] | None = None,
        has_dense: bool = True,
    ) -> Comparison:
        """Group runs by their values of some keys, together with the trainings that they prune.

        rows: the runs under a root. Those that `where` does not choose may still be needed, as the dense reference.
        by: columns, hyperparameters or results; `sparsity`, `density` and `compression` are from achieved counts.
        over: hyperparameters over which means are taken on purpose, such as `data_order_seed`.
        flags: by key, the argument that gives it, for errors.
        has_dense: whether points of dense networks are kept.
        Raises: UsageError where a key or the value is unknown to all runs.
        """
        selected = [row for row in chosen(rows, where) if row.is_readable]
        _check_keys({**dict.fromkeys(by, ""), **dict.fromkeys(over, "over"), **(flags or {})}, selected)
        points, untrained = points_of(rows, selected, by, value, over)
        if not any(point.n for point in points):
            value.refuse_unknown({name for row in selected for name in row.results})
            if value.read is not None:
                _refuse_failure([each for point in points for each in point.left_out])
        if not has_dense:
            points, untrained = [point for point in points if not point.is_dense], []
        unreadable = [
            LeftOut(row, CLOSED if row.status == "closed" else DAMAGED) for row in rows if not row.is_readable
        ]
        left_out = [*unreadable, *(each for point in points for each in point.left_out)]
        return cls(tuple(by), value, tuple(points), tuple(left_out), tuple(untrained))

    def arranged(
        self,
        names: Sequence[str],
        labels: str | None,
        parts_of: Callable[[Sequence[str], Sequence[Kind]], Sequence[Parts]],
        *,
        panel: str | None = None,
        others: Iterable[str] = (),
        looks_of: Callable[[Sequence[str | None]], Sequence[Look]] = looks,
        by_method: bool = False,
    ) -> Comparison:
        """Return the comparison with lines.

        names: the keys that tell lines apart. panel: the key that tells panels apart, the first one.
        parts_of: returns the texts of each line. labels: see `labels_for`; others: further keys of labels.
        looks_of: returns the looks of lines by strategy.
        by_method: whether lines and panels are in the order of the registry of methods, those of dense networks first.
        """
        members: dict[Kind, dict[Key, list[Point]]] = {}
        panels: dict[Key, None] = {}
        for point in self.points:
            is_in_all = panel is None or (point.is_dense and panel in ("strategy", *LEVELS))
            place = None if is_in_all else point.keys[0]
            keys = point.keys[panel is not None :][: len(names)]
            members.setdefault((point.is_dense, keys), {}).setdefault(place, []).append(point)
            if not point.is_dense or place is not None:
                panels[place] = None
        strategies = {kind: DENSE if kind[0] else _strategy(names, kind[1]) for kind in members}
        kinds = list(members)
        if by_method:
            kinds.sort(key=lambda kind: (not kind[0], place_of(strategies[kind])))
        parts = parts_of(names, kinds)
        wholes = line_names(names, kinds, parts)
        known = [
            known_line(whole, texts, [point for points in members[kind].values() for point in points])
            for kind, whole, texts in zip(kinds, wholes, parts, strict=True)
        ]
        found = labels_for(labels, known, others)
        drawn_as = looks_of([strategies[kind] for kind in kinds])
        lines = [
            Line(kind[1], kind[0], tuple(points), line, found.of_line(line), look, place)
            for kind, line, look in zip(kinds, known, drawn_as, strict=True)
            for place, points in members[kind].items()
        ]
        shown = sorted(panels, key=lambda key: place_of(str(key))) if panel == "strategy" else list(panels)
        return replace(
            self, names=tuple(names), lines=tuple(lines), labels=found, panel=panel, panels=tuple(shown) or (None,)
        )

    @cached_property
    def dense(self) -> tuple[Point, ...]:
        """The points of dense networks."""
        return tuple(point for point in self.points if point.is_dense)

    @cached_property
    def pruned(self) -> tuple[Point, ...]:
        """All other points."""
        return tuple(point for point in self.points if not point.is_dense)

    @property
    def mixed(self) -> tuple[Point, ...]:
        """The points whose runs are different experiments; they have no mean."""
        return tuple(point for point in self.points if point.differing)

    @cached_property
    def replicates(self) -> int:
        """The most runs of a point, complete or not."""
        return max((len(point.members) for point in self.pruned or self.points), default=0)

    def missing(self, point: Point) -> int:
        """Return the number of runs that a point lacks compared with the largest one."""
        return self.replicates - point.n

    def of_panel(self, panel: Key) -> list[Line]:
        """Return the lines of a panel. Dense networks without a known panel are in all."""
        return [line for line in self.lines if line.panel == panel or (line.is_dense and line.panel is None)]

    def identity(self, line: Line) -> dict[str, Key]:
        """Return the keys that tell a line apart, with its panel's first."""
        panel = {self.panel: line.panel} if self.panel else {}
        return {**panel, **dict(zip(self.names, line.keys, strict=True))}

    def best(self, group: Callable[[Line, Point], Hashable]) -> dict[Hashable, float]:
        """Return the best mean of each group of points that has several. Dense networks do not compete."""
        means: dict[Hashable, list[float]] = {}
        for line in self.lines:
            for point in line.points:
                if not line.is_dense and point.mean is not None:
                    means.setdefault(group(line, point), []).append(point.mean)
        better = max if self.value.is_better_higher else min
        return {key: better(found) for key, found in means.items() if len(found) > 1}

    def refuse_mixed(self, argument: str) -> None:
        """Raise UsageError if a point mixes experiments. argument: the flag that groups them."""
        if self.mixed:
            first, names = self.mixed[0], ", ".join(self.mixed[0].differing)
            raise UsageError(
                f"{first} Their mean would be of different experiments. Group by what they differ in, choose one value "
                f"with --where, or average on purpose with --over={names.replace(', ', ',')}.",
                argument,
            )

    def notes(self) -> list[str]:
        """Return the notes for a reader of the numbers, as sentences."""
        found = left_out_notes(self.left_out)
        if self.untrained:
            found.append(f"No dense reference, the training is not complete: {_addresses(self.untrained)}.")
        counts = {point.n for point in self.pruned if point.n}
        if len(counts) > 1:
            found.append(f"The number of replicates differs: {min(counts)} to {max(counts)}.")
        rows = [row for point in self.points for row in point.rows]
        return [*found, *_data_notes(rows), *_origin_notes(rows), *run_notes(rows), *upstream_notes(rows)]


def _refuse_failure(left_out: Sequence[LeftOut]) -> None:
    """Raise the error of a value that cannot be computed for any run, for one reason: the runs are not the reason."""
    errors = [each.error for each in left_out if each.error is not None]
    if errors and len({str(error) for error in errors}) == 1:
        raise errors[0]


def left_out_notes(left_out: Iterable[LeftOut]) -> list[str]:
    """Return a sentence for each reason, with the runs that it excludes."""
    reasons: dict[str, list[Row]] = {}
    for each in left_out:
        reasons.setdefault(each.why, []).append(each.row)
    return [f"Left out, {why}: {_addresses(rows)}." for why, rows in reasons.items()]


def run_notes(rows: Iterable[Row]) -> list[str]:
    """Return sentences about runs that diverged, and about outcomes."""
    listed = list(rows)
    diverged = [row for row in listed if row.has_diverged]
    lost = f"Diverged, the loss is not a finite number and accuracies mean little: {_addresses(diverged)}."
    return [*([lost] if diverged else []), *outcome_notes(listed)]


def outcome_notes(rows: Iterable[Row]) -> list[str]:
    """Return a sentence for each technique and level at which training learned the mask: reached and requested."""
    found: dict[tuple[str, float | None], list[float]] = {}
    for row in rows:
        if (learned := row.learned_mask) is not None:
            found.setdefault(learned, []).append(row.sparsity or 0.0)
    notes = []
    for (technique, level), reached in sorted(found.items(), key=lambda each: (each[0][0], each[0][1] or 0.0)):
        span = " to ".join(dict.fromkeys(f"{sparsity:.2%}" for sparsity in (min(reached), max(reached))))
        asked = "" if level is None else f", where {level:.2%} was requested"
        notes.append(f"The sparsity of {technique} is an outcome: {span}{asked}.")
    return notes


def upstream_notes(rows: Iterable[Row]) -> list[str]:
    """Return a sentence for each upstream that holds some of the runs."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.upstream is not None:
            found.setdefault(row.upstream, {})[row.location] = row
    return [f"In the upstream {upstream}: {_addresses(list(runs.values()))}." for upstream, runs in found.items()]


def names_in(text: str | None) -> tuple[str, ...]:
    """Return the names in a list separated by commas."""
    return tuple(filter(None, (name.strip() for name in (text or "").split(","))))


def line_names(names: Sequence[str], kinds: Sequence[Kind], parts: Sequence[Parts]) -> list[str]:
    """Return the names of lines without labels, from their texts. No two lines have the same name."""
    pairs = [", ".join(f"{name}={text_of(key)}" for name, key in zip(names, keys, strict=True)) for _, keys in kinds]
    shown = [", ".join(texts for texts, *_ in each.values()) for each in parts]
    wholes = [whole or pair or "all runs" for whole, pair in zip(shown, pairs, strict=True)]
    counts = Counter(wholes)
    return [f"{whole} ({pair})" if counts[whole] > 1 else whole for whole, pair in zip(wholes, pairs, strict=True)]


def _check_keys(flags: Mapping[str, str], rows: Sequence[Row]) -> None:
    known = {"strategy", *LEVELS, REQUESTED, *(name for row in rows for name in (*row.hyperparameters, *row.results))}
    for key, flag in flags.items():
        if rows and key not in known and all(row.value(key) is None for row in rows):
            raise UsageError(
                f"no run has a '{key}'.{did_you_mean(key, known)} "
                "A key is a column of `ls`, a hyperparameter or a result.",
                *filter(None, [flag]),
            )


def _data_notes(rows: Iterable[Row]) -> list[str]:
    fingerprints: dict[str, set[str]] = {}
    for row in rows:
        if row.data and row.fingerprint:
            fingerprints.setdefault(row.data, set()).add(row.fingerprint)
    return [
        f"Runs on {data} were computed from different data: fingerprints {', '.join(sorted(f[:8] for f in found))}."
        for data, found in fingerprints.items()
        if len(found) > 1
    ]


def _origin_notes(rows: Sequence[Row]) -> list[str]:
    counts = Counter(row.origin for row in rows if row.origin is not None)
    return [f"{number} of {len(rows)} runs came in {origin}." for origin, number in sorted(counts.items())]


def _addresses(rows: Sequence[Row]) -> str:
    more = len(rows) - _MOST_NAMED
    return ", ".join(row.address for row in rows[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _strategy(names: Sequence[str], keys: Sequence[Key]) -> str | None:
    found = dict(zip(names, keys, strict=True)).get("strategy")
    return None if found is None else str(found)
