"""The content of a table of results, independent of its format. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.compare.comparison import Comparison, Kind, Line, Parts, names_in
from analysis.compare.labels import Labels
from analysis.compare.points import DENSE, LEVELS, SPREADS, Key, Point
from analysis.rows.result_value import Value
from analysis.rows.run_row import REQUESTED, Row
from analysis.rows.runs import read_rows
from analysis.rows.selection import chosen
from foundations.description.hparams import Hparams, hparam
from foundations.environment import Environment

if TYPE_CHECKING:
    import pandas as pd

_MOST_DIGITS = 17
_NOTHING = "-"
"""The text for a key without a value."""


@dataclass(frozen=True, kw_only=True)
class TableOptions(Hparams):
    """Runs to compare, and the layout of the table."""

    rows: str = hparam("strategy")
    """A row for each combination of values of these, with commas between: columns of `ls`, hyperparameters or
    results."""
    columns: str = hparam("sparsity")
    """A column for each value of this. sparsity, density and compression are from achieved counts."""
    value: str | None = hparam(None)
    """A metric or another result: test_accuracy (at the end), test_accuracy@best (where it is best on held out
    examples), test_accuracy@10ep, or test_accuracy@max (the highest of all steps, which selects on the test set). By
    default the headline metric of the runs' task."""
    where: str | None = hparam(None)
    """Only runs with key=value, several with commas, as in `ls`: strategy=snip10,strategy=random, 'density<0.3'."""
    over: str | None = hparam(None)
    """Take means over runs that differ in these on purpose, with commas between: hyperparameters, such as
    data_order_seed. Runs that differ in anything but their replicate are refused otherwise."""
    labels: str | None = hparam(None)
    """Names of rows, KEY=LABEL, with commas between, or semicolons where names have commas: snip10=SNIP,
    oneshot:magnitude=IMP. A key is a strategy, branch:strategy, another value that tells rows apart, or a whole
    name."""
    spread: str = hparam("std", choices=tuple(SPREADS))
    """The spread after the mean: std (standard deviation), sem (standard error of the mean), minmax (lowest and
    highest), ci95 (95% confidence interval of the mean, by Student's t)."""
    digits: int | None = hparam(None, at_least=0, at_most=_MOST_DIGITS)
    """Digits behind the point; by default two of percentages, and four of other values."""
    caption: str | None = hparam(None)
    """A caption; by default it says what the numbers are."""

    def validate(self) -> None:
        """Check that the value can be read."""
        if self.value is not None:
            Value.parse(self.value)


@dataclass(frozen=True)
class Entry:
    """A point as text. If `point` is None, there are no such runs."""

    is_expected: bool = True
    """Whether such runs are possible: dense networks are not pruned."""

    point: Point | None = None
    mean: str = ""
    spread: str = ""
    """`± 0.12`, or `[97.10, 97.40]`; empty for a single run."""
    n: str = ""
    """`(3)`; empty if it is the same everywhere and in the caption."""
    is_best: bool = False
    """Whether no other mean of its column is better. Dense networks do not compete."""

    @property
    def is_partial(self) -> bool:
        """Whether replicates of the experiment are excluded."""
        return self.point is not None and bool(self.point.left_out)

    @property
    def text(self) -> str:
        """The entry as plain text. A star marks excluded replicates; `(0)` means that all are excluded."""
        if self.point is None:
            return "—" if self.is_expected else ""
        star = "*" if self.is_partial else ""
        return " ".join(filter(None, (self.mean, self.spread, self.n))) + star if self.mean else f"(0){star}"


@dataclass(frozen=True)
class TableRow:
    """A row of a table: a line of the comparison as text."""

    keys: tuple[str, ...]
    entries: tuple[Entry, ...]


_BOLD, _PLAIN = "\033[1m", "\033[0m"


@dataclass(frozen=True)
class ResultsTable:
    """Results in rows and columns. `str` is the text format."""

    head: tuple[str, ...]
    """The names of the keys of the rows."""
    column_key: str
    columns: tuple[str, ...]
    lines: tuple[TableRow, ...]
    """The row of dense networks first."""
    caption: str
    notes: tuple[str, ...]
    """Sentences for the reader: excluded runs, and why."""
    comparison: Comparison
    spread: str

    def __str__(self) -> str:
        return self.aligned()

    def aligned(self, *, is_terminal: bool = False) -> str:
        """Return the table as text with aligned columns, its caption above and its notes below.

        is_terminal: whether the best of each column is bold.
        """
        head = [*self.head, *self.columns]
        rows = [[*line.keys, *(entry.text for entry in line.entries)] for line in self.lines]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        first = len(self.head)

        def padded(cells: list[str]) -> list[str]:
            pairs = zip(cells, widths, strict=True)
            return [
                cell.ljust(width) if place < first else cell.rjust(width) for place, (cell, width) in enumerate(pairs)
            ]

        place = sum(width + 2 for width in widths[:first])  # the columns' own name stands above the first of them
        named = " " * place + self.column_key if self.columns else ""
        lines = [self.caption, "", named, "  ".join(padded(head)), "  ".join("-" * width for width in widths)]
        for row, line in zip(rows, self.lines, strict=True):
            cells = padded(row)
            for place, entry in enumerate(line.entries, first):
                if is_terminal and entry.is_best:
                    cells[place] = f"{_BOLD}{cells[place]}{_PLAIN}"
            lines.append("  ".join(cells))
        if self.notes:
            lines += ["", *self.notes]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def points(self) -> list[dict[str, Any]]:
        """Return a row for each point: its keys, mean, low, high, n, values, and the addresses of its runs."""
        by = self.comparison.by
        return [
            {**dict(zip(by, point.keys, strict=True)), "is_dense": point.is_dense, **point.summary(self.spread)}
            for point in self.comparison.points
        ]

    def frame(self) -> pd.DataFrame:
        """Return `points` as a data frame. Accuracies and sparsities are fractions from 0 to 1."""
        import pandas as pd

        return pd.DataFrame(self.points())


def results_table(root: Path | str | None = None, **options: Any) -> ResultsTable:
    """Return a table of the runs under a root: `results_table(rows="strategy", where="model=cifar_resnet_20")`.

    root: where runs are; by default OPEN_PRUNE_ROOT, or ~/open_prune_data. options: see `TableOptions`.
    Raises: UsageError if an option cannot be read, or a mean would be over different experiments.
    """
    return make_table(read_rows(Environment.read(root).root), TableOptions(**options))


def make_table(rows: Sequence[Row], options: TableOptions) -> ResultsTable:
    """Return a table of runs. rows: all runs under a root; runs outside `where` may serve as dense references.

    Raises: UsageError if a mean would be over different experiments, or no run has a key or the value.
    """
    head, value = names_in(options.rows), Value.of_runs(options.value, chosen(rows, options.where))
    flags = {**dict.fromkeys(head, "rows"), options.columns: "columns"}
    by = [*head, options.columns]
    found = Comparison.of(rows, by, value, where=options.where, over=names_in(options.over), flags=flags)
    found.refuse_mixed("rows")
    keys = list(dict.fromkeys(point.keys[-1] for point in found.points))
    keys.sort(key=lambda key: (isinstance(key, str), key is None, key))
    texts = _texts(options.columns, keys)
    of_columns = () if options.columns in LEVELS else texts.values()
    found = found.arranged(head, options.labels, _parts_of, others=of_columns)
    counts = {point.n for point in found.points if point.n}
    best, pruned_at = found.best(lambda _, point: point.keys[-1]), {point.keys[-1] for point in found.pruned}

    def entry(line: Line, key: Key, point: Point | None) -> Entry:
        if point is None:
            return Entry(is_expected=not line.is_dense and key in pruned_at)
        is_best = not line.is_dense and point.mean is not None and point.mean == best.get(key)
        mean, spread = point.texts(options.spread, lambda number: _number(number, value, options.digits))
        return Entry(True, point, mean, spread, f"({point.n})" if len(counts) > 1 else "", is_best)

    lines = []
    for line in found.lines:
        at = {point.keys[-1]: point for point in line.points}
        entries = tuple(entry(line, key, at.get(key)) for key in keys)
        lines.append(TableRow(_labelled(line, found.labels), entries))
    notes = [note for note in found.notes() if lines]
    if any(each.is_partial for line in lines for each in line.entries):
        notes.insert(0, "* Replicates are left out of the mean.")
    columns = tuple(found.labels.given.get(texts[key], texts[key]) if of_columns else texts[key] for key in keys)
    caption = options.caption or _caption(value, options.spread, counts)
    return ResultsTable(head, options.columns, columns, tuple(lines), caption, tuple(notes), found, options.spread)


def level_text(key: str, level: float, digits: int = 3) -> str:
    """Return a sparsity, density or compression as text. digits: significant digits of the share that is left."""
    if key == "compression":
        return f"{level:.{digits}g}x"
    density = 1 - level if key == "sparsity" else level
    if key == "density" or not density:
        return f"{100 * level:.{digits}g}%"
    decimals = max(0, digits - 3 - math.floor(math.log10(density)))
    text = f"{100 * level:.{decimals}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "%"


def _texts(name: str, keys: Sequence[Key]) -> dict[Key, str]:
    """Return the texts of keys: levels with enough digits to tell them apart."""
    distinct = list(dict.fromkeys(keys))
    if name not in (*LEVELS, REQUESTED):
        return {key: _NOTHING if key is None else str(key) for key in distinct}
    found: dict[Key, str] = {}
    name = "density" if name == REQUESTED else name
    for digits in range(3, _MOST_DIGITS):
        found = {key: _NOTHING if key is None else level_text(name, float(key), digits) for key in distinct}
        if len(set(found.values())) == len(distinct):
            break
    return found


def _parts_of(names: Sequence[str], kinds: Sequence[Kind]) -> list[Parts]:
    """Return the texts in the first columns of each row."""
    texts = [_texts(name, [keys[place] for _, keys in kinds]) for place, name in enumerate(names)]
    found = []
    for is_dense, keys in kinds:
        parts: Parts = {
            name: (shown[key], str(key), f"{name}={key}") for name, shown, key in zip(names, texts, keys, strict=True)
        }
        if is_dense and names and "strategy" not in names:
            last = parts[names[-1]][0]
            parts[names[-1]] = (DENSE if last == _NOTHING else f"{last} ({DENSE})", DENSE)
        found.append(parts)
    return found


def _labelled(line: Line, labels: Labels) -> tuple[str, ...]:
    """Return the first columns of a row. A label of the whole row goes into the strategy's column, or the first one."""
    row = line.known
    names = {name: labels.part(row, name) for name in row.parts}
    of_row = [labels.given[key] for key in (row.whole, *row.pairs) if key in labels.given]
    if of_row and names:
        names["strategy" if "strategy" in names else next(iter(names))] = of_row[0]
    return tuple(names.values())


def _number(number: float, value: Value, digits: int | None) -> str:
    """Return a value as text: fractions in percent, by default with two decimals, others with four."""
    scale, usual = (100, 2) if value.is_fraction else (1, 4)
    return f"{scale * number:.{usual if digits is None else digits}f}"


def _caption(value: Value, spread: str, counts: set[int]) -> str:
    words = SPREADS[spread]
    name = str(value).replace("_", " ") + (" in %" if value.is_fraction else "")
    if counts <= {1}:
        return f"{name[0].upper()}{name[1:]}, one run each."
    number = f"{next(iter(counts))} runs" if len(counts) == 1 else "(n) runs"
    return f"{name[0].upper()}{name[1:]}: mean and {words} of {number}."
