"""Runs that a command's words choose: addresses, a condition, or the file of a sweep. It imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.rows.runs import read_rows
from analysis.rows.selection import chosen
from cli.commands.sweep import SWEEP, asked_by, described_by, parse_whole, plan_sweep, with_shared
from cli.request.folder_flags import RootHparams
from cli.request.sweep_flags import without_shared
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.storage.run import Run
from foundations.storage.store import find_run

SWEEP_ENDING = ".toml"
"""The ending of the names of sweeps' files."""


@dataclass(frozen=True, kw_only=True)
class ChosenRunsHparams(RootHparams):
    """Location and selection of the runs."""

    where: str | None = hparam(None)
    """All runs with key=value, as in `ls` ('strategy=snip10,density<0.3'), in place of addresses."""

    def runs(self, words: Sequence[str], environment: Environment) -> list[Run]:
        """Return the runs that `where`, or words, choose: addresses, and files of sweeps, whose names end with .toml.

        Raises: UsageError where they choose nothing, or a word fits no run.
        """
        root = self.root_in(environment)
        if (self.where is None) != bool(words):
            raise UsageError(
                "give addresses or the file of a sweep (.toml), or --where 'strategy=snip10', one of them."
            )
        if self.where is not None:
            if not self.where.strip(" ,"):
                raise UsageError("it chooses nothing; write a condition, such as status=complete.", "where")
            found = [row.run for row in chosen(read_rows(root), self.where)]
            if not found:
                raise UsageError(f"no run under {root} is {self.where}.", "where")
            return found
        runs: list[Run] = []
        for word in words:
            is_file = word.endswith(SWEEP_ENDING)
            runs += runs_of_sweep(Path(word), replace(environment, root=root)) if is_file else [find_run(root, word)]
        return list({run.location: run for run in runs}.values())


def runs_of_sweep(file: Path, environment: Environment) -> list[Run]:
    """Return the runs of the sweep in a file, whether or not they are there. Raises: UsageError, EnvironmentFailure."""
    described, own, behind = without_shared(described_by([str(file)])[0])
    flags = parse_whole(SWEEP, [*own, *behind], environment)
    asked = asked_by(with_shared(described, flags.job, flags.platform), environment)
    return [planned.run for planned in plan_sweep(asked, environment).requested()]
