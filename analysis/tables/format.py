"""What a format of tables declares about itself. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.tables.table import ResultsTable
from foundations.plugins.users_code import returned
from foundations.registry import Registered


@dataclass(frozen=True, kw_only=True, eq=False)
class TableFormat(Registered):
    """A format of tables by name."""

    summary: str
    """What it is for, in one line."""
    endings: tuple[str, ...]
    """Of its files, with the point."""
    write: Callable[[ResultsTable], str]
    """Returns the whole text, which ends with a line break."""
    has_notes: bool = True
    """Whether the text has the notes; if not, they are told beside it."""

    def text(self, made: ResultsTable) -> str:
        """Return the text of a table. Raises: also PluginError where a plug-in's `write` returns something else."""
        return returned(self.write(made), str, self.write, self)
