"""Files of papers: the runs of a figure or a table, their measures and drawings, at two scales.

title = "Accuracy of pruning at initialization"
paper = "Frankle et al. 2021, Pruning Neural Networks at Initialization: Why Are We Missing the Mark?"
figure = "Figure 1"
shows = "No method at initialization reaches magnitude pruning after training."

[cpu.sweep]                           # a sweep, as in its file (`cli.request.grid`)
command = "branch train oneshot"
grid = [{ strategy = ["random", "synflow"], density = "0.5^1..4", replicate = "1-3" }]

[full.sweep]
...

[[measure]]                           # a measure of runs of the sweep, with its flags; lists multiply
name = "effective_sparsity"
of = "strategy=synflow"

[[plot]]                              # the flags of `plot NAME`; lists are joined by commas
name = "curves"
lines = "strategy"

[[plot]]                              # with the options of the [[measure]], and of its runs
name = "measure"
file = "effective"                    # by default the name of the file; a table's ends with _table
measure = "effective_sparsity"

[[table]]                             # the flags of `table`
rows = "strategy"
labels = { synflow = "SynFlow" }      # or one text, as the flag has it; at the top of the file: of all plots and tables

Entries under [cpu] or [full], such as [[cpu.plot]], are for that scale alone. There, `takes` may give the time that
it took, and the machine.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.request.flags import arguments_of
from cli.request.grid import Grid, Sweep, Value, axes_of, read_toml, refuse_unknown, sweep_of, tables
from foundations.errors import UsageError, choose_from
from foundations.program import TOP

FOLDER = TOP / "papers"
"""The files that come with open_prune."""
SCALES = ("cpu", "full")
_ABOUT = ("title", "paper", "figure", "shows")
_TAKES = "takes"
_PARTS = ("measure", "plot", "table")
LABELS = "labels"
"""The key for labels of lines, in a plot, in a table, or in the whole file."""
_LABELLED = ("plot", "table")


@dataclass(frozen=True)
class Part:
    """A measurement or a drawing: a command and its arguments."""

    command: str
    """measure, plot or table."""
    name: str
    """The measure, or the kind of figure; empty for a table."""
    arguments: tuple[str, ...]
    where: str
    """Its place in the file, for errors."""
    of: str = ""
    """The condition on the runs to measure, as for `--where`; empty for all runs of the sweep."""
    file: str = ""
    """The name of the files to write, without ending."""


@dataclass(frozen=True)
class PaperFile:
    """A figure or a table of a paper."""

    name: str
    title: str
    paper: str
    figure: str
    shows: str
    sweeps: Mapping[str, Sweep]
    """By scale."""
    parts: Mapping[str, tuple[Part, ...]]
    """By scale: measures first, then drawings, in the order of the file."""
    takes: Mapping[str, str]
    """By scale: the approximate time and the machine, as text; absent if unknown."""


def paper_names() -> list[str]:
    """Return the names of the files that come with open_prune, in the order of numbers in them."""
    return sorted((path.stem for path in FOLDER.glob("*.toml")), key=_numbers_by_value)


def find_paper(text: str) -> PaperFile:
    """Return the file of a name, or of a path that ends with `.toml`.

    Raises: UsageError for an unknown name; as `read_paper`.
    """
    if text.endswith(".toml"):
        return read_paper(Path(text).expanduser())
    names = paper_names()
    if text not in names:
        raise UsageError(
            f"there is no paper '{text}'{choose_from(text, names)} Or give the path of a file of your own: ./FILE.toml."
        )
    return read_paper(FOLDER / f"{text}.toml")


def read_paper(path: Path) -> PaperFile:
    """Read a paper's file. Raises: EnvironmentFailure, or UsageError that names the file and the key."""
    tree = read_toml(path)
    refuse_unknown(tree, (*_ABOUT, LABELS, *_PARTS, *SCALES), str(path))
    about = {key: _text(tree, key, str(path)) for key in _ABOUT}
    sweeps: dict[str, Sweep] = {}
    parts: dict[str, tuple[Part, ...]] = {}
    takes: dict[str, str] = {}
    for scale in SCALES:
        if scale not in tree:
            continue
        own, where = tree[scale], f"{path}, [{scale}]"
        refuse_unknown(own, (_TAKES, "sweep", *_PARTS), where)
        if "sweep" not in own:
            raise UsageError(f"{path}: [{scale}.sweep] is missing: the runs at this scale.")
        if _TAKES in own:
            takes[scale] = _text(own, _TAKES, where)
        sweeps[scale] = sweep_of(own["sweep"], f"{path}, [{scale}.sweep]")
        parts[scale] = _parts(
            itertools.chain(_tables(tree, path), _tables(own, path, f"{scale}.")), path.stem, tree.get(LABELS)
        )
    if not sweeps:
        raise UsageError(f"{path}: [cpu.sweep] or [full.sweep] is missing: the runs of the figure.")
    return PaperFile(path.stem, **about, sweeps=sweeps, parts=parts, takes=takes)


def _tables(tree: Mapping[str, Any], path: Path, prefix: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the measurements and drawings: command, table in the file, and its place for errors."""
    for command in _PARTS:
        found = tables(tree, command, str(path))
        for number, table in enumerate(found, start=1):
            which = f" {number}" if len(found) > 1 else ""
            yield command, table, f"{path}, [[{prefix}{command}]]{which}"


def _parts(found: Iterator[tuple[str, dict[str, Any], str]], stem: str, labels: Any) -> tuple[Part, ...]:
    """Return the parts, measures first, since figures show them. labels: the file's, for parts without their own."""
    made, measured, taken = list[Part](), dict[str, dict[str, str]](), set[str]()
    for command, table, where in sorted(found, key=lambda each: each[0] != "measure"):
        name = "" if command == "table" else _text(table, "name", where)
        given = {key: value for key, value in table.items() if key not in ("name", "file", "of")}
        if command == "measure":
            axes, of = axes_of(given, where), str(table.get("of", ""))
            points = Grid((), {}, axes).points()
            made += [Part(command, name, tuple(arguments), where, of=of) for arguments, _ in points]
            pairs = [f"{axis.flags[0]}={value}" for axis in axes for (value,) in axis.values]
            measured[name] = {"options": ";".join([*pairs, ""]), **({"where": of} if of else {})}
            continue
        if "of" in table:
            raise UsageError(f"{where}: 'of' is for measures; use where.")
        file = str(table.get("file") or (stem if command == "plot" else f"{stem}_table"))
        if Path(file).name != file:
            raise UsageError(f"{where}: the file '{file}' is not a name; `--out` names the folder.")
        if file in taken:
            raise UsageError(f"{where}: another one is written to '{file}', too. Give each a `file` of its own.")
        taken.add(file)
        given = {**({LABELS: labels} if labels and command in _LABELLED else {}), **given}
        flags = {key: _joined(value, key, where) for key, value in given.items()}
        flags = {**measured.get(str(flags.get("measure")), {}), **flags} if name == "measure" else flags
        made.append(Part(command, name, tuple(arguments_of(flags)), where, file=file))
    return tuple(made)


def _joined(value: Any, key: str, where: str) -> Value:
    """Return the value of a flag; lists are joined by commas, labels may also be a table: { snip10 = "SNIP" }."""
    if key == LABELS and isinstance(value, dict) and all(isinstance(each, str) for each in value.values()):
        value = [f"{name}={label}" for name, label in value.items()]
    if key == LABELS and isinstance(value, list) and all(isinstance(each, str) for each in value) and value:
        return ";".join([*value, ""])
    if isinstance(value, list) and value and all(isinstance(each, str | int | float) for each in value):
        return ",".join(map(str, value))
    if isinstance(value, str | int | float):
        return value if isinstance(value, bool) else str(value)
    raise UsageError(f"{where}: '{value}' is not a value of {key}.")


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    found = table.get(key)
    if not isinstance(found, str) or not found.strip():
        raise UsageError(f"{where}: '{key}' is missing, a text.")
    return " ".join(found.split())


def _numbers_by_value(name: str) -> list[tuple[int, str]]:
    """Return the sort key of a name, with numbers by value: `figure_2` comes before `figure_10`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
