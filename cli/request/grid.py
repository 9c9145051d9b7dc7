"""Grids: every combination of some values of some flags, from the command line or from a TOML file.

command = "branch train oneshot"

[base]                                # flags of every run
default_hparams = "mnist_lenet_300_100"

[[grid]]                              # every combination; several grids are added together
strategy = ["random", "snip10", "synflow"]
density = "0.8^1..10"
replicate = "1-5"

[[grid]]
name = "dense"                        # the label of its runs
command = "train"                     # this grid has another command, and two flags that vary together
zip = { lr = [0.1, 0.01], batch_size = [128, 64] }

[[when]]                              # flags of the runs that have these values
strategy = "synflow"
set = { prune_iterations = 100 }
"""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from cli.request.flags import arguments_of
from cli.request.foreign_answers import given_in
from cli.request.foreign_words import key_of
from foundations.access import reason
from foundations.errors import EnvironmentFailure, UsageError, choose_from
from foundations.files import read_file

Value = str | bool
Point = dict[str, Value]
"""The value of each flag of a run. True and False are for flags that take no value."""

_POWERS = re.compile(
    r"(?P<base>\d{1,20}(\.\d{1,20})?)\^(?P<first>-?\d{1,3})\.\.(?P<last>-?\d{1,3})(@(?P<step>[1-9]\d{0,2}))?", re.ASCII
)
_RANGE = re.compile(r"(?P<first>\d{1,18})-(?P<last>\d{1,18})(@(?P<step>[1-9]\d{0,17}))?", re.ASCII)
_MOST_VALUES = 100_000


@dataclass(frozen=True)
class Axis:
    """Flags that vary together, and the values that they take."""

    flags: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]

    def columns(self) -> Iterator[tuple[str, list[Value]]]:
        """Yield each flag with its values."""
        for place, flag in enumerate(self.flags):
            yield flag, [values[place] for values in self.values]

    def __post_init__(self) -> None:
        for values in self.values:
            if len(values) != len(self.flags):
                words = ":".join(map(str, values))
                raise UsageError(f"'{words}' does not have one value for each of {', '.join(self.flags)}.", "grid")


@dataclass(frozen=True)
class Rule:
    """Flags for the runs that have some values."""

    where: Point
    set: Point


@dataclass(frozen=True)
class Grid:
    """Every combination of the values of some axes, for one command."""

    command: tuple[str, ...]
    base: Point
    axes: tuple[Axis, ...]
    rules: tuple[Rule, ...] = ()
    flags: tuple[str, ...] = ()
    """Arguments of every run that override the base."""
    name: str = ""
    """The label that tells its runs from runs of other grids."""

    def points(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield the arguments of each run, and its label; the last axis varies fastest."""
        for values in itertools.product(*(axis.values for axis in self.axes)):
            varied: Point = {}
            for axis, chosen in zip(self.axes, values, strict=True):
                varied |= dict(zip(axis.flags, chosen, strict=True))
            point = self.base | given_in(self.flags) | varied
            added: Point = {}
            for rule in self.rules:
                if all(point.get(name) == value for name, value in rule.where.items()):
                    _refuse_change(rule, varied, added)
                    added = rule.set | added
            added |= varied
            words = (*self.command, *arguments_of(self.base), *self.flags, *arguments_of(added))
            yield words, " ".join(filter(None, (self.name, *(f"{name}={value}" for name, value in varied.items()))))

    def values(self) -> dict[str, set[Value]]:
        """Return the values of the runs, by flag."""
        found = {name: {value} for name, value in (self.base | given_in(self.flags)).items()}
        for axis in self.axes:
            found |= {flag: set(column) for flag, column in axis.columns()}
        return found

    def __len__(self) -> int:
        return math.prod(len(axis.values) for axis in self.axes)


@dataclass(frozen=True)
class Sweep:
    """Several grids."""

    grids: tuple[Grid, ...] = ()

    def points(self) -> Iterator[tuple[tuple[str, ...], str, str]]:
        """Yield the points of each grid, with its name. Raises: UsageError where there are too many points."""
        if (count := sum(map(len, self.grids))) > _MOST_VALUES:
            raise UsageError(f"{count} runs are too many for one sweep; {_MOST_VALUES} at most.", "grid")
        return ((*point, grid.name) for grid in self.grids for point in grid.points())

    def unknown_conditions(self) -> set[str]:
        """Return the flags that rules look at and that no run is given."""
        given = {name for grid in self.grids for name in grid.values()}
        return {name for grid in self.grids for rule in grid.rules for name in rule.where} - given

    def refuse_idle(self, rules: Sequence[Rule]) -> None:
        """Raise UsageError for a rule with a value that no run of any grid has."""
        values = [grid.values() for grid in self.grids]
        for name, value in (pair for rule in rules for pair in rule.where.items()):
            if not any(value in given.get(name, ()) for given in values):
                raise UsageError(f"no run is given {name}={value}, so nothing would be set.", "when")


def _refuse_change(rule: Rule, varied: Point, added: Point) -> None:
    """Raise UsageError where a rule would change a flag that the grid varies, or that another rule has set."""
    where = ", ".join(f"{flag}={each}" for flag, each in rule.where.items())
    for name, value in rule.set.items():
        if varied.get(name, value) != value:
            given = f"the grid varies it ({varied[name]}, ...), and it is to be {value} where {where}"
        elif added.get(name, value) != value:
            given = f"it is to be both {added[name]} and {value} where {where}"
        else:
            continue
        raise UsageError(f"{given}. Keep one of the two.", name)


def parse_values(text: str, flag: str) -> list[Value]:
    """Return the values that a text lists.

    `a,b,c`; `1-5` and `10-50@10` for whole numbers; `0.8^1..10` and `2^0..6@2` for powers. Where there is a semicolon,
    the text is split at semicolons alone (for values with commas). Raises: UsageError.
    """
    if ";" in text:
        return [_plain(part) for part in text.split(";")]
    found: list[Value] = []
    for part in text.split(","):
        match = _POWERS.fullmatch(part) or _RANGE.fullmatch(part)
        if match is None:
            found.append(_plain(part))
            continue
        numbers = range(int(match["first"]), int(match["last"]) + 1, int(match["step"] or 1))
        if not 0 < len(numbers) <= _MOST_VALUES:
            raise UsageError(f"'{part}' lists {len(numbers)} values.", flag)
        base = match.groupdict().get("base")
        found += [_power(base, number) if base else str(number) for number in numbers]
    if "" in found:
        raise UsageError(f"a value is missing in '{text}'.", flag)
    return found


def parse_axis(text: str) -> Axis:
    """Return the axis of `--grid`: `flag=values`, or `flag,flag=value:value,value:value` for flags that vary together.

    Raises: UsageError.
    """
    names, equals, values = text.partition("=")
    flags = tuple(key_of(name.strip()) for name in names.split(","))
    if not equals or not all(flags):
        raise UsageError(f"'{text}' is not a valid value; write --grid FLAG=VALUE,VALUE.", "grid")
    listed = parse_values(values, "grid")
    if len(flags) == 1:
        return Axis(flags, tuple((value,) for value in listed))
    return Axis(flags, tuple(tuple(map(_plain, str(value).split(":"))) for value in listed))


def parse_rule(text: str) -> Rule:
    """Return the rule of `--when`: `flag=value:flag=value,flag=value`, with the flags to set after the colon.

    Raises: UsageError.
    """
    sides = ([part.partition("=") for part in side.split(",")] for side in text.partition(":")[::2])
    points = [{key_of(name.strip()): _plain(value) for name, _, value in parts} for parts in sides]
    if any("" in pair for point in points for pair in point.items()):
        raise UsageError(f"'{text}' is not a valid value; write --when FLAG=VALUE:FLAG=VALUE.", "when")
    return Rule(*points)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file. Raises: EnvironmentFailure, or UsageError for a file that is not TOML."""
    try:
        return tomllib.loads(read_file(path).decode())
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {path}: {reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a TOML file: {error}") from error


def read_sweep(path: Path, command: Sequence[str] = ()) -> Sweep:
    """Return the sweep of a TOML file. command: in place of the file's.

    Raises: EnvironmentFailure where it cannot be read; UsageError that names the file and the key.
    """
    return sweep_of(read_toml(path), str(path), command)


def sweep_of(tree: Any, where: str, command: Sequence[str] = ()) -> Sweep:
    """Return the sweep that a tree of TOML describes. where: how errors call the tree. command: in place of its own.

    Raises: UsageError that names the tree and the key.
    """
    refuse_unknown(tree, ("command", "base", "grid", "when"), where)
    rules = []
    for rule in tables(tree, "when", where):
        changes = rule.pop("set", None)
        if not isinstance(changes, dict) or not rule:
            raise UsageError(f"{where}: a [[when]] takes values of flags, and a table `set`.")
        rules.append(Rule(_values(rule, where), _values(changes, where)))
    grids = []
    for grid in tables(tree, "grid", where) or [{}]:
        words = " ".join(command) or grid.pop("command", None) or tree.get("command")
        if not isinstance(words, str):
            raise UsageError(f"{where}: `command` is missing, such as command = 'branch train oneshot'.")
        grid.pop("command", None)
        fixed = _values(tree.get("base", {}), where) | _values(grid.pop("base", {}), where)
        name = str(grid.pop("name", ""))
        grids.append(Grid(tuple(words.split()), fixed, axes_of(grid, where), tuple(rules), name=name))
    return Sweep(tuple(grids))


def axes_of(table: Mapping[str, Any], where: str) -> tuple[Axis, ...]:
    """Return the axes of a table of flags: lists of values, or texts that list them; under `zip`, what varies together.

    where: how errors call the table. Raises: UsageError.
    """
    axes = [_axis(name, value, where) for name, value in table.items() if name != "zip"]
    return (*axes, _zipped(table["zip"], where)) if "zip" in table else tuple(axes)


def _axis(name: str, value: Any, where: str) -> Axis:
    listed = value if isinstance(value, list) else [value]
    values = parse_values(value, name) if isinstance(value, str) else [_scalar(each, name, where) for each in listed]
    return Axis((name,), tuple((each,) for each in values))


def _zipped(table: Any, where: str) -> Axis:
    if not isinstance(table, dict) or not table:
        raise UsageError(f"{where}: `zip` takes a table with a list of values for each flag.")
    axes = [_axis(name, value, where) for name, value in table.items()]
    if len({len(axis.values) for axis in axes}) != 1:
        raise UsageError(f"{where}: the flags of `zip` do not have equally many values.")
    rows = zip(*(axis.values for axis in axes), strict=True)
    return Axis(tuple(table), tuple(tuple(value for (value,) in row) for row in rows))


def _values(table: Any, where: str) -> Point:
    if not isinstance(table, dict):
        raise UsageError(f"{where}: '{table}' is not a table of flags.")
    return {name: _scalar(value, name, where) for name, value in table.items()}


def _scalar(value: Any, name: str, where: str) -> Value:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int | float):
        return _plain(str(value))
    raise UsageError(f"{where}: '{value}' is not a value of a flag.", name)


def tables(tree: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """Return the tables of an array of tables, none where it is not there. Raises: UsageError for anything else."""
    found = tree.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UsageError(f"{where}: '{key}' is written [[{key}]], a table for each.")
    return [dict(each) for each in found]


def refuse_unknown(tree: Any, known: Sequence[str], where: str) -> None:
    """Raise UsageError, which names `where`, for anything but a table and for an unknown key."""
    if not isinstance(tree, dict):
        raise UsageError(f"{where}: '{tree}' is not a table.")
    for key in tree:
        if key not in known:
            raise UsageError(f"{where}: there is no key '{key}' here{choose_from(key, known)}")


def _plain(text: str) -> Value:
    text = text.strip()
    return {"true": True, "false": False}.get(text.lower(), text)


def _power(base: str, exponent: int) -> str:
    """Return a power in decimal digits: exact, without an exponent."""
    found = Decimal(base) ** exponent
    text = format(found, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
