"""The declaration of a measure, and its return value. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from foundations.description.hparams import Hparams, hparam
from foundations.plugins.declarations import check_call
from foundations.registry import Registered

if TYPE_CHECKING:
    import pandas as pd

    from pruning.hparams import PruningHparams

Takes = Literal["one run", "two runs", "several runs"]
Columns = dict[str, list[Any]]
"""Columns of a table, by name: lists of str, int or float."""
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""Texts for numbers that JSON does not support."""


def columns(rows: Iterable[Mapping[str, Any]]) -> Columns:
    """Return the columns of a table from its rows, which all have the same names."""
    found: Columns = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return found


@dataclass(frozen=True)
class Measured:
    """The result of a measure.

    Raises: ValueError if the columns differ in length, or one has both names and numbers.
    """

    values: dict[str, float]
    """Single numbers, by name."""
    table: Columns = field(default_factory=dict)
    """Columns of one length, by name: a row for each layer, unit, step, ... A column has names or numbers; missing
    numbers are NaN."""

    def __post_init__(self) -> None:
        if len({len(column) for column in self.table.values()}) > 1:
            raise ValueError(f"columns of { ({name: len(column) for name, column in self.table.items()}) } rows")
        for name, column in self.table.items():
            names = [entry for entry in column if isinstance(entry, str)]
            if names and (len(names) < len(column) or set(names) <= set(NOT_FINITE)):
                raise ValueError(f"the column '{name}' must hold names, or numbers")

    def frame(self) -> pd.DataFrame:
        """Return the table as a data frame."""
        import pandas as pd

        return pd.DataFrame(self.table)


@dataclass(frozen=True, kw_only=True)
class NoOptions(Hparams):
    """No options."""


@dataclass(frozen=True, kw_only=True)
class StepOptions(Hparams):
    """State to measure."""

    step: str | None = hparam(None, step=True)
    """The step whose state is measured, such as 0it, 3ep or best; by default the last that was kept."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure(Registered):
    """A computation on the states and masks of runs, whose results are kept (`analysis.measures.results`).

    `compute` takes its context (`analysis.measures.inputs.Measuring`), the options, and each run (`MeasuredRun`, a
    `StoredRun`). It reads states and masks through these runs, so that the result records its inputs, and examples
    through `analysis.measures.data`. It imports torch itself, since listing measures does not.
    """

    summary: str
    """A description, in one line."""
    paper: str = ""
    compute: Callable[..., Measured]
    options: type[Hparams] = NoOptions
    """The class of its options, which become flags. Options that are steps (`hparam(step=True)`, `step_list=True`) are
    resolved for each run: None means the last kept state, or all kept states."""
    takes: Takes = "one run"
    """The number of runs that it takes: one, exactly two, or at least two."""
    scores_with: Callable[[Any], PruningHparams] | None = None
    """Returns the scoring of weights for the options, if the measure scores weights."""
    version: int = 1
    """Increased by hand when results change. Addresses contain it if it is not 1."""

    def check_declared(self) -> None:
        """Check that `compute` takes the context, the options, and as many runs as declared."""
        for runs in {"one run": (1,), "two runs": (2,), "several runs": (2, 3)}[self.takes]:
            check_call("compute", self.compute, 2 + runs)
