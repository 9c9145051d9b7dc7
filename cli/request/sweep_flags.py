"""Flags that all runs of a sweep share, and checks that the flags of its runs agree.

Settings of the computation, which are not part of a description, are the same for all runs of a sweep: dry_run, root,
threads, executor, ... Give these flags before `--`, after it, or in the `base` of a file.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cli.request.flags import arguments_of, plain_name, separated
from cli.request.foreign_answers import given_in
from cli.request.grid import Grid, Point, Sweep, Value
from cli.request.help import OF_EVERY_COMMAND, PLUGIN
from cli.request.job_flags import RequestHparams
from foundations.description.hparams import HparamField, fields_of
from foundations.errors import UsageError


@functools.cache
def shared_fields() -> Mapping[str, HparamField]:
    """Return the flags that all runs of a sweep share, by name: of the work, of platforms and of executors."""
    from platforms.executors.registry import EXECUTORS
    from platforms.platform import PLATFORMS

    groups = [RequestHparams, *(kind.hparams for kind in PLATFORMS), *(kind.hparams for kind in EXECUTORS)]
    return {field.name: field for group in groups for field in fields_of(group)}


def without_shared(described: Sweep) -> tuple[Sweep, list[str], list[str]]:
    """Return a sweep without its shared flags; then the shared flags of its files, and those after `--`, as arguments.

    Raises: UsageError where one of them varies, or where they differ between grids.
    """
    split = [_split(grid) for grid in described.grids]
    if not split:
        return described, [], []
    _, given, behind = split[0]
    for _, other, others in split[1:]:
        _refuse_difference(given | behind, other | others)
    return Sweep(tuple(grid for grid, *_ in split)), arguments_of(given), arguments_of(behind)


def refuse_two_values(before: Sequence[str], behind: Sequence[str]) -> None:
    """Raise UsageError where a shared flag has one value before `--` and another one after it."""
    first, second = (_given(separated(argv, shared_fields())[0]) for argv in (before, behind))
    for name, value in first.items():
        if name in second and not _is_same(value, second[name]):
            raise UsageError(
                f"it is {_shown(value)} before -- and {_shown(second[name])} behind it; all runs of a sweep share it. "
                "Keep one of the two.",
                name,
            )


def refuse_disagreement(described: Sweep) -> None:
    """Raise UsageError where a grid varies a flag twice, or one with another value that is fixed for every run."""
    for grid in described.grids:
        words = [*grid.command, *arguments_of(grid.base), *grid.flags]
        fixed = dict(_plain(name, value) for name, value in given_in(words).items())
        of, varied = f" (in the grid '{grid.name}')" if grid.name else "", set()
        for flag, values in ((flag, column) for axis in grid.axes for flag, column in axis.columns()):
            name, _ = _plain(flag, True)
            plain = [_plain(flag, each)[1] for each in values]
            if name in varied:
                raise UsageError(f"the grid varies it twice{of}. Keep one of the two.", name)
            varied.add(name)
            if name in fixed and not all(_is_same(fixed[name], each) for each in plain):
                some = ", ".join(map(_shown, plain[:4])) + (", ..." if len(plain) > 4 else "")
                raise UsageError(
                    f"the grid varies it ({some}), and it is fixed for every run at {_shown(fixed[name])}{of}. "
                    "Keep one of the two.",
                    name,
                )


def _split(grid: Grid) -> tuple[Grid, Point, Point]:
    """Return a grid without shared flags; then the shared ones of its file (also lists of one value) and after `--`."""
    known = shared_fields()
    given, words = separated(grid.command, known)
    behind, flags = separated(grid.flags, known)
    file = _given(given) | _given(arguments_of({name: each for name, each in grid.base.items() if _is_shared(name)}))
    axes = []
    for axis in grid.axes:
        shared = [flag for flag in axis.flags if _is_shared(flag)]
        if not shared:
            axes.append(axis)
        elif len(axis.flags) > 1 or len(axis.values) > 1:
            raise UsageError("all runs of a sweep share it, so a grid cannot vary it; give one value.", shared[0])
        else:
            file |= _given(arguments_of(dict(zip(axis.flags, axis.values[0], strict=True))))
    for rule in grid.rules:
        for name in rule.set:
            if _is_shared(name):
                raise UsageError("all runs of a sweep share it, so it cannot depend on other flags.", name)
    base = {name: value for name, value in grid.base.items() if not _is_shared(name)}
    return replace(grid, command=tuple(words), base=base, axes=tuple(axes), flags=tuple(flags)), file, _given(behind)


def _is_shared(name: str) -> bool:
    """Return whether all runs share a flag. Raises: UsageError for those that are read before files."""
    plain = name.replace("-", "_")
    if plain == PLUGIN:
        raise UsageError(f"plug-ins are loaded first; give --{PLUGIN}=FILE.py on the command line.", PLUGIN)
    if plain in OF_EVERY_COMMAND:
        raise UsageError(f"it computes nothing; write --{plain} on the command line.", plain)
    return plain in shared_fields() or plain.removeprefix("no_") in shared_fields()


def _refuse_difference(given: Point, other: Point) -> None:
    for name in {**given, **other}:
        first, second = given.get(name), other.get(name)
        if first is None or second is None or not _is_same(first, second):
            raise UsageError(
                f"all runs of a sweep share it, and its grids differ: {_shown(first)} in one, {_shown(second)} in "
                "another. Give one value for all.",
                name,
            )


def _given(argv: Sequence[str]) -> Point:
    """Return the flags among arguments and their values, `--no_name` as the name and False."""
    named = ((plain_name(name, shared_fields()), name, value) for name, value in given_in(argv).items())
    return {plain: value if plain == name else False for plain, name, value in named}


def _plain(flag: str, value: Value) -> tuple[str, Value]:
    """Return a flag and its value in the form for comparisons: augment=False for no_augment."""
    name = flag.replace("-", "_")
    is_off = name.startswith("no_") and isinstance(value, bool)
    return (name.removeprefix("no_"), not value) if is_off else (name, value)


def _is_same(first: Value, second: Value) -> bool:
    """Return whether two values are equal, as texts or as numbers such as 0.1 and 1e-1."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first == second
    try:
        return first == second or float(first) == float(second)
    except ValueError:
        return False


def _shown(value: Value | None) -> str:
    if value is None:
        return "not given"
    return ("on" if value else "off") if isinstance(value, bool) else value
