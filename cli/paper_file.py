"""Files of papers: the runs of a figure or a table, what is measured of them, and what is drawn, at two scales.

title = "Accuracy of pruning at initialization"
paper = "Frankle et al. 2021, Pruning Neural Networks at Initialization: Why Are We Missing the Mark?"
figure = "Figure 1"
shows = "No method at initialization reaches magnitude pruning after training."

[cpu.sweep]                           # a sweep, as in its file (`cli.grid`)
command = "branch train oneshot"
grid = [{ strategy = ["random", "synflow"], density = "0.5^1..4", replicate = "1-3" }]

[full.sweep]
...

[[measure]]                           # a measure of runs of the sweep, with its flags; lists multiply
name = "effective_sparsity"
of = "strategy=synflow"

[[plot]]                              # the flags of `plot KIND`; lists are joined by commas
kind = "curves"
lines = "strategy"

[[table]]                             # the flags of `table`
rows = "strategy"

What stands under [cpu] or [full], such as [[cpu.plot]], is of that scale alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.grid import Grid, Sweep, Value, arguments_of, axes_of, read_toml, refuse_unknown, sweep_of, tables
from foundations.errors import UsageError, choose_from
from foundations.program import TOP

FOLDER = TOP / "papers"
"""The files that come with open_prune."""
SCALES = ("cpu", "full")
_ABOUT = ("title", "paper", "figure", "shows")
_PARTS = ("measure", "plot", "table")


@dataclass(frozen=True)
class Part:
    """Something to measure or to draw: a command, and the arguments that it is given."""

    command: str
    """measure, plot or table."""
    name: str
    """The measure, or the kind of figure."""
    arguments: tuple[str, ...]
    where: str
    """How errors call it."""
    of: str = ""
    """Which runs of the sweep are measured, as `--where` says it; all where it is empty."""
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
    """By scale: measures first, then what is drawn, in the order of the file."""


def paper_names() -> list[str]:
    """Return the names of the files that come with open_prune, in the order of numbers in them."""
    return sorted((path.stem for path in FOLDER.glob("*.toml")), key=_numbers_by_value)


def find_paper(text: str) -> PaperFile:
    """Return the file of a name, or of a path that ends with `.toml`.

    Raises: UsageError for a name that there is not, and as `read_paper`.
    """
    if text.endswith(".toml"):
        return read_paper(Path(text).expanduser())
    names = paper_names()
    if text not in names:
        raise UsageError(
            f"there is no paper '{text}'{choose_from(text, names)} A file of your own is named by its path: ./FILE.toml."
        )
    return read_paper(FOLDER / f"{text}.toml")


def read_paper(path: Path) -> PaperFile:
    """Return what a file says. Raises: EnvironmentFailure, or UsageError that names the file and the key."""
    tree = read_toml(path)
    refuse_unknown(tree, (*_ABOUT, *_PARTS, *SCALES), str(path))
    about = {key: _text(tree, key, str(path)) for key in _ABOUT}
    sweeps: dict[str, Sweep] = {}
    parts: dict[str, tuple[Part, ...]] = {}
    for scale in SCALES:
        if scale not in tree:
            continue
        own, where = tree[scale], f"{path}, [{scale}]"
        refuse_unknown(own, ("sweep", *_PARTS), where)
        if "sweep" not in own:
            raise UsageError(f"{path}: [{scale}.sweep] is missing: the runs at this scale.")
        sweeps[scale] = sweep_of(own["sweep"], f"{path}, [{scale}.sweep]")
        parts[scale] = _parts(itertools.chain(_tables(tree, path), _tables(own, path, f"{scale}.")), path.stem)
    if not sweeps:
        raise UsageError(f"{path}: [cpu.sweep] or [full.sweep] is missing: the runs of the figure.")
    return PaperFile(path.stem, **about, sweeps=sweeps, parts=parts)


def _tables(tree: Mapping[str, Any], path: Path, prefix: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield what is measured and drawn: the command, the table in the file, and how errors call it."""
    for command in _PARTS:
        found = tables(tree, command, str(path))
        for number, table in enumerate(found, start=1):
            which = f" {number}" if len(found) > 1 else ""
            yield command, table, f"{path}, [[{prefix}{command}]]{which}"


def _parts(found: Iterator[tuple[str, dict[str, Any], str]], stem: str) -> tuple[Part, ...]:
    """Return measures first: figures show them."""
    made, taken = [], set[str]()
    for command, table, where in sorted(found, key=lambda each: each[0] != "measure"):
        key = {"measure": "name", "plot": "kind"}.get(command)
        name = _text(table, key, where) if key else command
        given = {other: value for other, value in table.items() if other not in (key, "file", "of")}
        if command == "measure":
            for point in _points(given, where):
                made.append(Part(command, name, point, where, of=str(table.get("of", ""))))
            continue
        if "of" in table:
            raise UsageError(f"{where}: 'of' is for measures; use where.")
        file = str(table.get("file") or (stem if command == "plot" else f"{stem}_table"))
        if file in taken:
            raise UsageError(
                f"{where}: another one is written to {file}, too. Give it a name of its own: file = '...'."
            )
        taken.add(file)
        made.append(Part(command, name, tuple(arguments_of({k: _joined(v, k, where) for k, v in given.items()})),
                         where, file=file))  # fmt: skip
    return tuple(made)


def _points(given: Mapping[str, Any], where: str) -> list[tuple[str, ...]]:
    """Return the arguments of each combination of values."""
    return [tuple(words) for words, _ in Grid((), {}, axes_of(given, where)).points()]


def _joined(value: Any, key: str, where: str) -> Value:
    """Return the value of a flag; lists are joined by commas."""
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


def _numbers_by_value(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split("_")]
