"""Tables in CSV files, read in chunks of rows. `arrow_tables` reads those of Parquet and Arrow in the same form."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from foundations.access import reason
from foundations.errors import EnvironmentFailure, UsageError, choose_from

CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".csv.bz2", ".csv.xz", ".tsv.gz")
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
"""Cells without a value, in lower case."""
_ROWS = 20_000
"""Rows in a chunk."""
_MOST_LETTERS = 1 << 28
"""In one cell."""
_SHOWN_LETTERS = 60
"""Of a cell in a message."""
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
NUMBERS, TEXTS, ARRAYS, IMAGES, MIXED = "numbers", "texts", "arrays of numbers", "images", "numbers and texts"


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a table."""

    rows: NDArray[np.int64]
    """The number of each row in its file, as errors give it."""
    cells: dict[str, NDArray[Any]]
    """By column: float64 (N,), with NaN for missing cells; texts as objects (N,), with None for them; float64 (N, ...)
    for columns of arrays; bytes as objects (N,) for columns of images."""


@dataclass
class Kind:
    """The content of a column."""

    numbers: int = 0
    texts: int = 0
    first_text: tuple[int, str] = (0, "")
    """The first cell that is not a number, and its row."""
    declared: str = ""
    """The kind by a file's schema, in place of the counts."""

    @property
    def name(self) -> str:
        """One of the kinds of columns; columns without any value are numbers."""
        if self.declared:
            return self.declared
        return MIXED if self.numbers and self.texts else TEXTS if self.texts else NUMBERS


class Table(ABC):
    """A table that is read in chunks, any number of times."""

    path: Path
    columns: list[str]

    @abstractmethod
    def kinds(self) -> dict[str, Kind]:
        """Return the kind of each column."""

    @abstractmethod
    def chunks(self, columns: Collection[str], texts: Collection[str] = ()) -> Iterator[Chunk]:
        """Yield the rows. columns: those to read. texts: those to read as texts, also where they hold numbers."""

    def need(self, names: Sequence[str], hparam: str) -> None:
        """Raise UsageError that names a column that the table lacks. hparam: the option that names it."""
        for name in names:
            if name not in self.columns:
                raise UsageError(f"'{name}' is not a column of {self.path}{choose_from(name, self.columns)}", hparam)

    def refuse_repeated(self, where: object) -> None:
        """Raise UsageError where several columns have one name. where: for the error."""
        repeated = [name for name, count in Counter(self.columns).items() if count > 1 and name]
        if repeated:
            raise UsageError(f"{where}: several columns are named '{repeated[0]}'; rename them.")


class CsvTable(Table):
    """A CSV file with a line of names: UTF-8, with commas, semicolons or tabs between cells."""

    def __init__(self, path: Path) -> None:
        """Read the line of names. Raises: UsageError where there is none that names every column."""
        self.path = path
        self._delimiter = ","
        with self._opened() as file:
            first = self._line(file)
        counts = {each: first.count(each) for each in ("\t", ";", ",")}
        self._delimiter = max(counts, key=lambda each: counts[each])
        names = next(self._records(), (0, []))[1]
        if not names or not any(names):
            raise UsageError(f"{path} is empty; its first row must hold the names of the columns.")
        self._skipped = 1 if not names[0] and len(names) > 1 else 0  # an index that pandas has written
        self._names = names
        self.columns = names[self._skipped :]
        self._check_names()

    def _check_names(self) -> None:
        if all(_number(name) is not None for name in self.columns):
            raise UsageError(f"{self.path}, row 1: it holds numbers; the first row must hold the names of the columns.")
        self.refuse_repeated(f"{self.path}, row 1")
        if "" in self.columns:
            place = self._names.index("", self._skipped) + 1
            raise UsageError(f"{self.path}, row 1: column {place} has no name; name it, or remove it.")

    def kinds(self) -> dict[str, Kind]:
        """Return the kind of each column, by all of its cells."""
        kinds = {name: Kind() for name in self.columns}
        for rows, cells in self._blocks():
            for name, column in zip(self.columns, cells, strict=True):
                kind, numbers = kinds[name], _numbers(column)
                if numbers is not None:
                    kind.numbers += int(np.count_nonzero(~np.isnan(numbers)))
                    continue
                for row, cell in zip(rows, column, strict=True):
                    if _is_missing(cell):
                        continue
                    if _number(cell) is not None:
                        kind.numbers += 1
                    else:
                        kind.first_text = kind.first_text if kind.texts else (row, cell.strip())
                        kind.texts += 1
        return kinds

    def chunks(self, columns: Collection[str], texts: Collection[str] = ()) -> Iterator[Chunk]:
        """Yield the rows. Raises: UsageError that names the row of a cell that is not a number."""
        places = {name: place for place, name in enumerate(self.columns) if name in columns}
        for rows, cells in self._blocks():
            found: dict[str, NDArray[Any]] = {}
            for name, place in places.items():
                if name in texts:
                    values = [None if _is_missing(cell) else cell.strip() for cell in cells[place]]
                    found[name] = np.array([*values, None], object)[:-1]
                    continue
                numbers = _numbers(cells[place])
                if numbers is None:
                    wrong = next(at for at, cell in enumerate(cells[place]) if _wrong(cell))
                    raise not_a_number(self.path, rows[wrong], name, cells[place][wrong].strip())
                found[name] = numbers
            yield Chunk(np.array(rows, np.int64), found)

    def _blocks(self) -> Iterator[tuple[list[int], list[tuple[str, ...]]]]:
        """Yield the numbers of some rows, and the cells of each column."""
        records, width = self._records(), len(self._names)
        next(records)
        rows: list[int] = []
        lines: list[list[str]] = []
        for row, record in records:
            if len(record) != width:
                if not record:  # an empty line
                    continue
                raise UsageError(
                    f"{self.path}, row {row}: it has {len(record)} cells; the first row names {width} columns."
                )
            rows.append(row)
            lines.append(record)
            if len(rows) == _ROWS:
                yield rows, list(zip(*lines, strict=True))[self._skipped :]
                rows, lines = [], []
        if rows:
            yield rows, list(zip(*lines, strict=True))[self._skipped :]

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the cells of each row, and the number of its first line in the file."""
        csv.field_size_limit(_MOST_LETTERS)
        with self._opened() as file:
            reader = csv.reader(file, delimiter=self._delimiter, strict=True, skipinitialspace=True)
            started = 0
            while True:
                started = reader.line_num
                try:
                    record = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    why = "a quotation mark is not closed" if "end of data" in str(error) else error
                    raise UsageError(f"{self.path}, row {started + 1}: {why}.") from error
                except UnicodeDecodeError as error:
                    raise self._not_utf8() from error
                except (OSError, EOFError, lzma.LZMAError) as error:
                    raise self._unreadable(error) from error
                yield started + 1, [cell.strip() for cell in record] if not started else record

    def _opened(self) -> IO[str]:
        try:
            opener: Any = _OPENERS.get(self.path.suffix.lower(), open)
            return opener(self.path, "rt", encoding="utf-8-sig", newline="")  # type: ignore[no-any-return]
        except OSError as error:
            raise self._unreadable(error) from error

    def _line(self, file: IO[str]) -> str:
        try:
            return file.readline(_MOST_LETTERS)
        except UnicodeDecodeError as error:
            raise self._not_utf8() from error
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise self._unreadable(error) from error

    def _not_utf8(self) -> UsageError:
        opener: Any = _OPENERS.get(self.path.suffix.lower(), open)
        row = 1
        with opener(self.path, "rb") as file:
            for row, line in enumerate(file, 1):  # noqa: B007 (the last one is used)
                try:
                    line.decode()
                except UnicodeDecodeError:
                    break
        return UsageError(f"{self.path}, row {row}: the text is not UTF-8; save the file in that encoding.")

    def _unreadable(self, error: Exception) -> EnvironmentFailure:
        return EnvironmentFailure(f"Cannot read {self.path}: {reason(error) if isinstance(error, OSError) else error}.")


def shortened(text: str) -> str:
    """Return a text in quotation marks for a sentence, cut where it is long."""
    return repr(text if len(text) <= _SHOWN_LETTERS else f"{text[: _SHOWN_LETTERS - 3]}...")


def not_a_number(path: Path, row: int, column: str, cell: str) -> UsageError:
    """Return the error for a text in a column of numbers."""
    return UsageError(
        f"{path}, row {row}: {shortened(cell)} in column '{column}' is not a number, unlike other cells; correct it, "
        f"or give --categorical={column} or --ignore={column}."
    )


def _numbers(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """Return cells as numbers, NaN where they are missing, or None where one is a text."""
    try:
        return np.array([math.nan if _is_missing(cell) else _parsed(cell) for cell in cells], np.float64)
    except ValueError:
        return None


def _is_missing(cell: str) -> bool:
    return len(cell) < 6 and cell.strip().lower() in MISSING


def _parsed(cell: str) -> float:
    if "_" in cell:  # Python reads 1_000 as a number
        raise ValueError
    return float(cell)


def _number(cell: str) -> float | None:
    try:
        return _parsed(cell)
    except ValueError:
        return None


def _wrong(cell: str) -> bool:
    return not _is_missing(cell) and _number(cell) is None
