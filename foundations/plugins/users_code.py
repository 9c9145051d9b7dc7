"""The code of plug-ins: where a function or an error of it stands, so that messages name the user's own lines."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from foundations.errors import PluginError
from foundations.program import PREFIX, TOP
from foundations.registry import KEPT, Registered, loaded_plugins, plugins_under_way

T = TypeVar("T")
_LINES = 3
"""The most lines of an error's own message that are shown."""
_WIDTH = 400
"""The most characters of such a line."""
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_FLOORS = frozenset(path.name for path in TOP.iterdir() if (path / "__init__.py").is_file()) | {"open_prune"}


def place_of(function: Any) -> str:
    """Return `FILE, line N` of the definition of a function, a class or a callable object, or nothing where unknown."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(getattr(function, "__func__", function))
    try:
        if not (inspect.isclass(function) or inspect.isfunction(function)):
            function = type(function)
        if inspect.isfunction(function):
            return f"{function.__code__.co_filename}, line {function.__code__.co_firstlineno}"
        return f"{inspect.getsourcefile(function)}, line {inspect.getsourcelines(function)[1]}"
    except (OSError, TypeError):
        return ""


def place_of_entry(entry: Registered) -> str:
    """Return `FILE, line N` of the declaration of a loaded plug-in's entry, or nothing for one of open_prune's own."""
    return f"{entry.plugin.path}, line {entry.line}" if entry.plugin is not None else ""


def name_of(function: Any) -> str:
    """Return the name of a function or a class, or of the class of a callable object."""
    return getattr(function, "__name__", type(function).__name__)


def mistake(function: Callable[..., Any], entry: Registered, reason: str) -> PluginError:
    """Return the error for a mistake in an entry's function. reason: the words after the function's name."""
    name = name_of(function)
    place = place_of(function) or place_of_entry(entry)
    return PluginError(f"{place}: {name}, of '{entry.spelling}', {reason}" if place else f"{name} {reason}")


def check_methods(instance: object, base: type[Any], names: Iterable[str], entry: Registered) -> None:
    """Check that methods of a user's class take the arguments of their base class. Raises: PluginError."""
    for name in names:
        count = len(inspect.signature(getattr(base, name)).parameters) - 1
        try:
            inspect.signature(getattr(instance, name)).bind(*[None] * count)
        except TypeError:
            reason = f"is called with {count} argument{'s' if count != 1 else ''} after self, and does not take them."
            raise mistake(getattr(type(instance), name), entry, reason) from None


def returned(value: T, kind: type[Any], function: Callable[..., Any], entry: Registered) -> T:
    """Return the result of an entry's function. Raises: PluginError where a plug-in's result has another type."""
    if entry.plugin is not None and not isinstance(value, kind):
        raise mistake(function, entry, f"returned {article(value)}; it must return {with_article(kind)}.")
    return value


def article(value: object) -> str:
    """Return the type of a value with its article, for a sentence: `nothing (None)`, `a list`, `an int`."""
    if value is None:
        return "nothing (None)"
    return with_article(type(value))


def with_article(kind: type[Any]) -> str:
    """Return the name of a type with its article."""
    return f"an {kind.__name__}" if kind.__name__[0].lower() in "aeiou" else f"a {kind.__name__}"


def place_of_error(error: BaseException) -> str:
    """Return `FILE, line N` of the innermost line of a plug-in that an error passed through, or nothing.

    Where an error was raised from another one, that one counts as well.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        lines = [place for place in _places(current) if place]
        if isinstance(current, SyntaxError) and current.filename and _is_users_file(current.filename):
            return f"{current.filename}, line {current.lineno or 1}"
        if lines:
            return lines[-1]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return ""


def place_of_call() -> str:
    """Return `FILE, line N` of the innermost line of a plug-in that is being executed, or nothing."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_users(frame):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}, line {frame.f_lineno}"


def is_kept(file: Path) -> bool:
    """Return whether a plug-in's file is one that a root keeps (see `foundations.plugins.kept`), by where it is."""
    folder = file.resolve().parent
    return folder.parent.name == KEPT and re.fullmatch("[0-9a-f]{64}", folder.name) is not None


def is_own(entry: Registered) -> bool:
    """Return whether a module of open_prune declares an entry, which a plug-in only imports."""
    modules = [module for name, module in list(sys.modules.items()) if is_own_module(name)]
    return any(value is entry for module in modules for value in list(vars(module).values()))


def is_own_module(name: str) -> bool:
    """Return whether a module of that name is one of open_prune's."""
    return name.removeprefix(PREFIX).partition(".")[0] in _FLOORS


def is_raised_by_plugin(error: BaseException) -> bool:
    """Return whether the line that raised an error is one of a plug-in."""
    return any(list(_places(error))[-1:])


def words_of(error: BaseException) -> str:
    """Return the kind of an error and the first lines of its message."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    lines = [
        line[:_WIDTH] + ("..." if len(line) > _WIDTH else "") for line in text.strip().splitlines() if line.strip()
    ]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"... ({len(lines) - _LINES + 1} more lines)"]
    if isinstance(error, ModuleNotFoundError) and is_kept(Path(place_of_error(error).rpartition(",")[0])):
        lines.append("A kept file has no modules beside it: add the folder that holds this one to PYTHONPATH.")
    return f"{type(error).__name__}: " + "\n".join(lines) if lines else type(error).__name__


def _places(error: BaseException) -> Iterator[str]:
    """Yield, from the outermost frame to the innermost one, `FILE, line N` for a plug-in's frames, else nothing."""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        yield f"{frame.f_code.co_filename}, line {trace.tb_lineno}" if _is_users(frame) else ""
        trace = trace.tb_next


def _is_users(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return not is_own_module(name) and name != "__main__" and _is_users_file(frame.f_code.co_filename)


def _is_users_file(file: str) -> bool:
    """Return whether a file is a plug-in, or lies beside or below one, as what it imports of the user's own does."""
    if file.startswith("<"):
        return False
    path = Path(file)
    if "site-packages" in path.parts or path.is_relative_to(_STANDARD_LIBRARY):
        return False
    plugins = [*(plugin.path for plugin in loaded_plugins()), *map(Path, plugins_under_way())]
    return any(path == plugin or path.is_relative_to(plugin.parent) for plugin in plugins)
