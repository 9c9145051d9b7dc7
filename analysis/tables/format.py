"""The declaration of a table format. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.tables.table import ResultsTable
from foundations.plugins.users_code import returned
from foundations.registry import Registered


@dataclass(frozen=True, kw_only=True, eq=False)
class TableFormat(Registered):
    """A named format of tables."""

    summary: str
    """Its use, in one line."""
    endings: tuple[str, ...]
    """Endings of its files, with the point."""
    write: Callable[[ResultsTable], str]
    """Returns the whole text, ending with a line break."""
    has_notes: bool = True
    """Whether the text includes the notes; if not, they are printed separately."""

    def text(self, made: ResultsTable) -> str:
        """Return the text of a table. Raises: also PluginError if a plug-in's `write` does not return text."""
        return returned(self.write(made), str, self.write, self)
