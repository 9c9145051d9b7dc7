"""Flags that select runs, for commands that act on them. It imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis.rows.lineage import by_descent
from analysis.rows.run_row import Row
from analysis.rows.runs import read_rows
from analysis.rows.selection import chosen
from cli.request.folder_flags import RootHparams
from foundations.description.hparams import hparam
from foundations.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ChosenHparams(RootHparams):
    """Location and selection of the runs."""

    where: str | None = hparam(None)
    """All runs with key=value, as in `ls` ('strategy=snip10,density<0.3'), in place of one by its address. They are
    listed first."""
    dry_run: bool = hparam(False)
    """List what would be done, and stop."""

    def rows(self, root: Path) -> list[Row]:
        """Return the runs that match `where`. Raises: UsageError where it is empty, or not a condition."""
        if not (self.where or "").strip(" ,"):
            raise UsageError("it chooses nothing; write a condition, such as status=incomplete.", "where")
        return chosen(by_descent(read_rows(root)), self.where)
