"""The declaration of a kind of figure, and the drawn figure. Imports no torch; matplotlib only to draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.compare.points import SPREADS
from analysis.figures.style import inches, to_bytes
from analysis.rows.run_row import Row
from analysis.rows.runs import to_csv
from foundations.access import reason
from foundations.description.hparams import Hparams, hparam
from foundations.errors import EnvironmentFailure, UsageError, choose_from
from foundations.files import write_atomically
from foundations.plugins.users_code import mistake, returned
from foundations.registry import Registered

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMATS = ("pdf", "svg", "png")
"""Endings of the files of figures."""
POINTS = ".csv"
"""Ending of the file with a figure's points, beside it."""
DrawnPoint = dict[str, str | int | float | bool | None]
"""The values of a drawn point and the addresses of its runs, by column."""


@dataclass(frozen=True, kw_only=True)
class FigureOptions(Hparams):
    """Runs to draw, and the size of the figure."""

    where: str | None = hparam(None)
    """Only runs with key=value, several with commas, as in `ls`: strategy=snip10,strategy=random, 'density<0.3'."""
    width: str = hparam("single")
    """single (a column of a paper: 3.25 inches), double (both columns: 6.75 inches), or a number of inches."""
    height: float | None = hparam(None, above=0, at_most=40)
    """Inches; by default what goes with the width and the number of panels."""
    title: str | None = hparam(None)
    """A title above the figure."""

    def validate(self) -> None:
        """Check that the width can be read."""
        inches(self.width)


@dataclass(frozen=True, kw_only=True)
class GroupsOptions(FigureOptions):
    """Groups of runs to draw, and the size of the figure."""

    lines: str = hparam("strategy")
    """A line for each combination of values of these, with commas between: columns of `ls`, hyperparameters or
    results."""
    over: str | None = hparam(None)
    """Take means over runs that differ in these on purpose, with commas between: hyperparameters, such as
    data_order_seed. Runs that differ in anything but their replicate are refused otherwise."""
    labels: str | None = hparam(None)
    """Names of lines, KEY=LABEL, with commas between, or semicolons where names have commas: snip10=SNIP,
    oneshot:magnitude=IMP. A key is a strategy, branch:strategy, another value that tells lines apart, or a whole
    name."""


@dataclass(frozen=True, kw_only=True)
class LinesOptions(GroupsOptions):
    """Runs to draw as lines, and the size of the figure."""

    panels: str | None = hparam(None)
    """A panel for each value of this, with axes that are shared."""
    spread: str = hparam("minmax", choices=tuple(SPREADS))
    """The bands around the replicates' mean: minmax (lowest to highest), std (standard deviation), sem (standard error
    of the mean), ci95 (95% confidence interval of the mean, by Student's t)."""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure, and the data that it shows."""

    figure: Figure
    """The matplotlib figure, for further changes."""
    points: tuple[DrawnPoint, ...]
    """The drawn points: a row of the CSV for each, with the addresses of its runs."""
    notes: tuple[str, ...] = ()
    """Sentences for the caption: the meaning of lines and bands, and the excluded runs."""

    def frame(self) -> pd.DataFrame:
        """Return the points as a data frame."""
        import pandas as pd

        return pd.DataFrame(list(self.points), columns=self.columns)

    @property
    def columns(self) -> list[str]:
        """The names of the columns of the points."""
        return list(dict.fromkeys(name for point in self.points for name in point))

    def to_csv(self) -> str:
        """Return the points as text, one per line; floats in their shortest exact form, None as empty."""
        return to_csv(self.columns, self.points)

    def write(self, *paths: Path | str) -> list[Path]:
        """Write the figure in the format of each path's ending, and the points beside it; return the written paths.

        Raises: UsageError, before it writes anything, for an ending that is not in FORMATS; EnvironmentFailure if a
        file cannot be written.
        """
        found = [Path(path).expanduser() for path in paths]
        formats = [format_of(path) for path in found]
        written = []
        for path, kind in zip(found, formats, strict=True):
            _write(path, to_bytes(self.figure, kind))
            written.append(path)
        for path in dict.fromkeys(path.with_suffix(POINTS) for path in found):
            _write(path, self.to_csv().encode())
            written.append(path)
        return written


@dataclass(frozen=True, kw_only=True, eq=False)
class FigureKind(Registered):
    """A named kind of figure.

    `draw` takes all rows under a root and the options. `options.where` selects from the rows; the others may still be
    needed as the dense reference.
    """

    summary: str
    """A description of the figure, in one line."""
    draw: Callable[[Sequence[Row], Any], DrawnFigure]
    options: type[FigureOptions] = FigureOptions
    """Its options, which become flags."""
    reads_metrics: bool = True
    """Whether it needs the metrics of training, not only states and masks."""

    def drawn(self, rows: Sequence[Row], options: FigureOptions) -> DrawnFigure:
        """Return the figure of some rows. Raises: also PluginError if a plug-in's `draw` returns something else."""
        drawn = returned(self.draw(rows, options), DrawnFigure, self.draw, self)
        fields: dict[str, tuple[type, str]] = {"points": (Mapping, "dictionaries"), "notes": (str, "texts")}
        for name, (kind, words) in fields.items():
            found: Any = getattr(drawn, name)
            is_right = isinstance(found, tuple | list) and all(isinstance(each, kind) for each in found)
            if self.plugin is not None and not is_right:
                raise mistake(self.draw, self, f"returned {name} that are not a tuple of {words}.")
        return drawn


def format_of(path: Path) -> str:
    """Return the format of a figure's file from its ending. Raises: UsageError for an unknown one."""
    ending = path.suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        raise UsageError(
            f"'{path}' does not end with a known format{choose_from(ending, [f'.{each}' for each in FORMATS])}", "out"
        )
    return ending


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        raise EnvironmentFailure(f"Cannot write {path}: {reason(error)}.") from error
