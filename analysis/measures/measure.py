"""What a measure declares about itself, and what it returns. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from foundations.description.hparams import Hparams, hparam
from foundations.registry import Registered

if TYPE_CHECKING:
    import pandas as pd

    from pruning.hparams import PruningHparams

Takes = Literal["one run", "two runs", "several runs"]
Columns = dict[str, list[Any]]
"""Columns of a table, by name: lists of str, int or float."""
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""How numbers that JSON does not know are written in it."""


@dataclass(frozen=True)
class Measured:
    """What a measure found.

    Raises: ValueError where the columns differ in length, or one holds both names and numbers.
    """

    values: dict[str, float]
    """Single numbers, by name."""
    table: Columns = field(default_factory=dict)
    """Columns of one length, by name: a row for each layer, unit, step, ... A column holds names or numbers; a number
    that does not exist is NaN."""

    def __post_init__(self) -> None:
        if len({len(column) for column in self.table.values()}) > 1:
            raise ValueError(f"columns of { ({name: len(column) for name, column in self.table.items()}) } rows")
        for name, column in self.table.items():
            names = [entry for entry in column if isinstance(entry, str)]
            if names and (len(names) < len(column) or set(names) <= set(NOT_FINITE)):
                raise ValueError(f"the column '{name}' must hold names, or numbers")

    def frame(self) -> pd.DataFrame:
        """Return the table as pandas has it."""
        import pandas as pd

        return pd.DataFrame(self.table)


@dataclass(frozen=True, kw_only=True)
class NoOptions(Hparams):
    """The options of a measure that has none."""


@dataclass(frozen=True, kw_only=True)
class StepOptions(Hparams):
    """Which state is measured."""

    step: str | None = hparam(None, step=True)
    """The step whose state is measured, such as 0it, 3ep or best; by default the last that was kept."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure(Registered):
    """Something to compute of the states and masks of runs, once: its results are kept (`analysis.measures.results`).

    `compute` is called with what it works with (`analysis.measures.inputs.Measuring`), the options, and each run
    (`MeasuredRun`, a `StoredRun`). It reads states and masks through these runs, so that it is known what a result
    rests on, and examples through `analysis.measures.data`. It imports torch itself, since measures are listed without.
    """

    summary: str
    """What it measures, in one line."""
    paper: str = ""
    compute: Callable[..., Measured]
    options: type[Hparams] = NoOptions
    """Options of its own, which become flags. Options that are steps (`hparam(step=True)`, `step_list=True`) are
    resolved for each run: None stands for the last state that was kept, or for all of them."""
    takes: Takes = "one run"
    """How many runs it is of: one, just two, or two and more."""
    scores_with: Callable[[Any], PruningHparams] | None = None
    """From the options to how the measure scores weights, where it does so."""
    version: int = 1
    """Raised by hand when results change. Addresses contain it if it is not 1."""
