"""What files of papers measure and draw: the flags of `measure`, `plot` and `table`, read before work begins."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from analysis.figures.figure import FigureKind, FigureOptions
from analysis.figures.registry import FIGURES
from analysis.measures.measure import Measure
from analysis.measures.registry import MEASURES
from analysis.measures.results import result_of
from analysis.row import Row
from analysis.run import StoredRun
from analysis.selection import chosen
from analysis.tables.registry import TABLE_FORMATS
from analysis.tables.table import TableOptions, make_table
from cli.flags import parse
from cli.paper_file import Part
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.files import write_atomically
from foundations.hparams import Hparams
from foundations.reporter import Reporter
from pruning.hparams import PruningHparams

FIGURE_FORMATS = ("pdf", "png")
"""In which a figure is written: for papers, and to look at."""
TABLE_FORMATS_WRITTEN = ("latex", "markdown")


@dataclass(frozen=True)
class Measurement:
    """A measure of some runs of a sweep."""

    kind: Measure
    options: Hparams
    part: Part

    @property
    def reads_metrics(self) -> bool:
        """Whether it may need what was measured while runs trained: those of plug-ins may."""
        return self.kind.plugin is not None

    @property
    def scoring(self) -> PruningHparams | None:
        """How it scores networks, if it does."""
        return None if self.kind.scores_with is None else self.kind.scores_with(self.options)

    def measure(self, rows: Sequence[Row], environment: Environment, device: str, reporter: Reporter) -> int:
        """Measure the runs that are meant, each once, and return their number; results that are there are reused.

        Raises: UsageError that says which part of the file it is about; as `analysis.measures.results.result_of`.
        """
        with _said_of(self.part):
            meant = {row.run.location for row in chosen(rows, self.part.of or None)}
            if not meant:
                raise UsageError(f"no run of the sweep has {self.part.of}.", "of")
        runs = [StoredRun(location, environment) for location in sorted(meant, key=str)]
        for group in [[run] for run in runs] if self.kind.takes == "one run" else [runs]:
            result_of(
                self.kind,
                group,
                self.options,
                device=device,
                reporter=reporter,
                no_download=environment.no_download,
            )
        return len(runs)

    def __str__(self) -> str:
        return " ".join((self.kind.spelling, *(argument.removeprefix("--") for argument in self.part.arguments)))


class Drawing(Protocol):
    """A figure or a table of the runs of a sweep."""

    @property
    def reads_metrics(self) -> bool:
        """Whether it needs what was measured while runs trained, or only their states and masks."""

    def write(self, rows: Sequence[Row], folder: Path) -> list[str]:
        """Write files into a folder; return which, in words, and what a reader must know beside them.

        Raises: UsageError that says which part of the file it is about; EnvironmentFailure.
        """


@dataclass(frozen=True)
class FigureDrawing:
    """A [[plot]]: a figure, and its points beside it."""

    kind: FigureKind
    options: FigureOptions
    part: Part

    @property
    def reads_metrics(self) -> bool:
        """See `Drawing`."""
        return self.kind.reads_metrics

    def write(self, rows: Sequence[Row], folder: Path) -> list[str]:
        """See `Drawing`."""
        with _said_of(self.part):
            drawn = self.kind.drawn(rows, self.options)
        paths = [folder / f"{self.part.file}.{ending}" for ending in FIGURE_FORMATS]
        return [*(f"wrote {path}" for path in drawn.write(*paths)), *drawn.notes]


@dataclass(frozen=True)
class TableDrawing:
    """A [[table]]."""

    options: TableOptions
    part: Part
    reads_metrics: ClassVar[bool] = True

    def write(self, rows: Sequence[Row], folder: Path) -> list[str]:
        """See `Drawing`."""
        with _said_of(self.part):
            made = make_table(rows, self.options)
        said = []
        folder.mkdir(parents=True, exist_ok=True)
        for name in TABLE_FORMATS_WRITTEN:
            found = TABLE_FORMATS.find(name)
            path = folder / f"{self.part.file}{found.endings[0]}"
            write_atomically(path, found.text(made).encode())
            said.append(f"wrote {path}")
        return [*said, *made.notes]


def measurement_of(part: Part) -> Measurement:
    """Return what a [[measure]] says. Raises: UsageError that says where it stands."""
    with _said_of(part):
        kind = MEASURES.find(part.name)
        return Measurement(kind, _options_of(kind.options, part), part)


def drawing_of(part: Part) -> Drawing:
    """Return what a [[plot]] or a [[table]] says. Raises: UsageError that says where it stands."""
    with _said_of(part):
        if part.command == "table":
            return TableDrawing(_options_of(TableOptions, part), part)
        kind = FIGURES.find(part.name)
        return FigureDrawing(kind, _options_of(kind.options, part), part)


def _options_of(options: type[Hparams], part: Part) -> Any:
    """Return the options that a part gives a measure, a figure or a table."""
    flags = dataclasses.make_dataclass("PartFlags", [("options", options)], frozen=True)
    return parse(flags, part.arguments, " ".join(filter(None, (part.command, part.name)))).options


@contextlib.contextmanager
def _said_of(part: Part) -> Iterator[None]:
    """Let mistakes say in which part of which file they are."""
    try:
        yield
    except UsageError as error:
        names = f"{', '.join(error.hparams)}: " if error.hparams else ""
        raise UsageError(f"{part.where}: {names}{error.reason}") from error
