"""Measurements and drawings of paper files: flags of `measure`, `plot` and `table`, parsed before work begins."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.compare.labels import FLAG, entries_of
from analysis.compare.points import GRID
from analysis.figures.figure import FigureKind
from analysis.figures.measure import MeasureOptions, measure_of
from analysis.figures.registry import FIGURES
from analysis.measures.measure import Measure, NoOptions
from analysis.measures.registry import MEASURES
from analysis.measures.results import result_of
from analysis.rows.conditions import conditions_of
from analysis.rows.run import StoredRun
from analysis.rows.run_row import ACHIEVED, COLUMNS, REQUESTED, Row
from analysis.rows.selection import chosen
from analysis.tables.registry import TABLE_FORMATS
from analysis.tables.table import TableOptions, make_table
from cli.request.flags import Flags
from cli.request.paper_file import Part
from foundations.description.hparams import Hparams
from foundations.environment import Environment
from foundations.errors import UsageError, did_you_mean
from foundations.files import write_atomically
from foundations.metrics import metric_of
from foundations.reporter import Reporter
from foundations.storage.store import SOURCE_FLAGS
from pruning.hparams import PruningHparams

FIGURE_FORMATS = ("pdf", "png")
"""Formats of each figure: one for papers, one for the screen."""
TABLE_FORMATS_WRITTEN = ("latex", "markdown")


_CHOOSING_KEYS = ("rows", "columns", "lines", "panels", "over")
"""Options of figures and tables that name columns, hyperparameters or results."""


def _is_measured(key: str) -> bool:
    """Return whether a key is a result that no hyperparameter has; others are known from finished runs only."""
    return key.endswith("loss") or metric_of(key) is not None


@dataclass(frozen=True)
class _PaperPart:
    """A part of a paper's file with its parsed options."""

    options: Any
    part: Part

    @property
    def reads_metrics(self) -> bool:
        """Whether it may need the metrics of training, or only states and masks."""
        return True

    def check_keys(self, hyperparameters: Collection[str]) -> None:
        """Raise UsageError for a key that no run of the sweep will have, as far as that is known before computing.

        hyperparameters: the names of those of the runs.
        """
        steps = (f"{name}_step" for name in SOURCE_FLAGS.values())
        known = {*COLUMNS, *ACHIEVED, REQUESTED, GRID, *steps, *hyperparameters}
        options = NoOptions() if self.part.command == "measure" else self.options
        choosing = () if self.part.name == "measure" else _CHOOSING_KEYS  # its lines may be columns of the measure
        keys = [(name, key.strip()) for name in choosing for key in (getattr(options, name, None) or "").split(",")]
        for name, where in (("of", self.part.of), ("where", getattr(options, "where", None))):
            keys += [(name, condition.key) for condition in conditions_of(where)]
        with _said_of(self.part):
            for name, key in keys:
                if key and key not in known and not _is_measured(key) and "." not in key:
                    raise UsageError(f"no run of the sweep has a '{key}'.{did_you_mean(key, known)}", name)


@dataclass(frozen=True)
class Measurement(_PaperPart):
    """A measure of some runs of a sweep."""

    kind: Measure

    @property
    def reads_metrics(self) -> bool:
        """Measures of plug-ins may read them."""
        return self.kind.plugin is not None

    @property
    def scoring(self) -> PruningHparams | None:
        """The pruning hyperparameters for scoring networks; None if it does not score them."""
        return None if self.kind.scores_with is None else self.kind.scores_with(self.options)

    def measure(self, rows: Sequence[Row], environment: Environment, device: str, reporter: Reporter) -> int:
        """Measure the selected runs, each once, and return their number. Existing results are reused.

        Raises: UsageError that names the part of the file; as `analysis.measures.results.result_of`.
        """
        with _said_of(self.part):
            meant = {row.run.location for row in chosen(rows, self.part.of or None)}
            if not meant:
                raise UsageError(f"no run of the sweep has {self.part.of}.", "of")
        runs = [StoredRun(location, environment) for location in sorted(meant, key=str)]
        no_download = environment.no_download
        for group in [[run] for run in runs] if self.kind.takes == "one run" else [runs]:
            result_of(self.kind, group, self.options, device=device, reporter=reporter, no_download=no_download)
        return len(runs)

    def __str__(self) -> str:
        return " ".join((self.kind.spelling, *(argument.removeprefix("--") for argument in self.part.arguments)))


@dataclass(frozen=True)
class FigureDrawing(_PaperPart):
    """A [[plot]]: a figure, and its points beside it."""

    kind: FigureKind

    @property
    def reads_metrics(self) -> bool:
        """The figure knows."""
        return self.kind.reads_metrics

    def write(self, rows: Sequence[Row], folder: Path) -> list[str]:
        """Write files into a folder; return a line for each file, and the notes for readers.

        Raises: UsageError that names the part of the file; EnvironmentFailure.
        """
        with _said_of(self.part):
            drawn = self.kind.drawn(rows, self.options)
        paths = [folder / f"{self.part.file}.{ending}" for ending in FIGURE_FORMATS]
        return [*(f"wrote {path}" for path in drawn.write(*paths)), *drawn.notes]


@dataclass(frozen=True)
class TableDrawing(_PaperPart):
    """A [[table]]."""

    def write(self, rows: Sequence[Row], folder: Path) -> list[str]:
        """See `FigureDrawing`."""
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


Drawing = FigureDrawing | TableDrawing


def measurement_of(part: Part) -> Measurement:
    """Return the measurement of a [[measure]]. Raises: UsageError that names its place."""
    with _said_of(part):
        kind = MEASURES.find(part.name)
        return Measurement(_options_of(kind.options, part), part, kind)


def drawing_of(part: Part) -> Drawing:
    """Return the drawing of a [[plot]] or a [[table]]. Raises: UsageError that names its place."""
    with _said_of(part):
        if part.command == "table":
            return TableDrawing(_options_of(TableOptions, part), part)
        kind = FIGURES.find(part.name)
        options = _options_of(kind.options, part)
        if isinstance(options, MeasureOptions):
            measure_of(options)
        return FigureDrawing(options, part, kind)


def _options_of(options: type[Hparams], part: Part) -> Any:
    """Return the options that a part gives a measure, a figure or a table."""
    command = " ".join(filter(None, (part.command, part.name)))
    found = Flags(command, "", options=options).parse(part.arguments).options
    for where in (part.of, getattr(found, "where", None)):
        conditions_of(where)
    entries_of(getattr(found, FLAG, None))
    return found


@contextlib.contextmanager
def _said_of(part: Part) -> Iterator[None]:
    """Add the file and the part to each UsageError of the block."""
    try:
        yield
    except UsageError as error:
        names = f"{', '.join(error.hparams)}: " if error.hparams else ""
        raise UsageError(f"{part.where}: {names}{error.reason}") from error
