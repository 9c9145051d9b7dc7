"""The command that draws figures of finished runs. It imports no torch, unless a figure is of masks or measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.figures.figure import FORMATS, FigureKind, format_of
from analysis.figures.registry import FIGURES
from analysis.rows.runs import read_rows
from cli.commands.catalogue import entries_table
from cli.request.flags import Flags, HelpRequested, positional
from cli.request.folder_flags import RootHparams
from cli.request.help import ALL, split_help
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.program import PROGRAM
from foundations.storage.root import check_output


@dataclass(frozen=True, kw_only=True)
class PlotHparams(RootHparams):
    """Output of the figure."""

    out: str | None = hparam(None)
    """The file, whose ending says the format: .pdf, .svg or .png (300 dots an inch); several with commas between. The
    points and the addresses behind each are written beside it, as .csv. By default KIND.pdf."""


PLOT = Flags("plot KIND", "Draw a figure of runs: plot KIND.", output=PlotHparams)


def plot(argv: Sequence[str], environment: Environment) -> int:
    """`plot KIND`: draw a figure, and write its points beside it."""
    names, rest = positional(argv, PLOT)
    usage = f"usage: {PROGRAM} plot KIND [FLAGS]"
    if not names and (not rest or split_help(rest)[0] is not None):
        raise _overview()
    if len(names) != 1:
        raise UsageError(f"plot takes one kind of figure, such as: plot curves.\n{usage}")
    if names[0] not in FIGURES:
        raise UsageError(FIGURES.unknown(names[0]).reason)  # it is not given by a flag
    found = FIGURES.find(names[0])
    flags = flags_of(found).parse(rest)
    paths = [Path(each) for each in (flags.output.out or f"{names[0]}.{FORMATS[0]}").split(",")]
    for path in paths:
        format_of(path)  # reports a mistake before anything is drawn
    root = flags.output.root_in(environment)
    for path in paths:
        check_output(root, path)
    drawn = found.drawn(read_rows(root), flags.figure)
    for written in drawn.write(*paths):
        print(f"wrote {written}")
    for note in drawn.notes:
        print(note)
    return 0


def _overview() -> HelpRequested:
    """Return the help of `plot` without a kind: the kinds, and the flags of all."""
    kinds = entries_table(FIGURES, {"kind": "spelling", "shows": "summary"})
    try:
        PLOT.parse([f"--help={ALL}"])
    except HelpRequested as flags:
        return HelpRequested(f"{kinds}\n\n`plot KIND --help` lists the flags of one.\n\n{flags}")
    raise AssertionError("--help asks for help")


def flags_of(kind: FigureKind) -> Flags:
    """Return the flags of `plot` with the options of a kind of figure."""
    return Flags(f"plot {kind.spelling}", f"Draw {kind.spelling}: {kind.summary}.", **PLOT.groups, figure=kind.options)
