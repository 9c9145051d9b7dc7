"""Plug-ins: files of a user's own that declare methods, datasets, networks or branches, as the files here do.

A plug-in is a Python file with objects that a registry takes:

    FAN_IN = Method(spelling="fan_in", paper="...", hparams=FanInHparams, score=fan_in)

Its name and the SHA-256 of its bytes stand in the address of every run that uses something from it, so a change in the
file makes new runs. What the file imports is not hashed: it counts as a library, like torch.
"""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from foundations.errors import UsageError
from foundations.files import read_file
from foundations.registry import Plugin as Plugin
from foundations.registry import Registered, add_plugin, loaded_plugins


def load_plugins(paths: Iterable[Path | str]) -> None:
    """Execute some files and register what they declare. To load a file again changes nothing.

    Raises: UsageError about `plugin` where a file cannot be read, raises an error or declares nothing, or where another
    file of that name, or another version of the file, is loaded already.
    """
    for path in paths:
        _load(Path(path))


def _load(path: Path) -> None:
    try:
        source = read_file(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "plugin") from error
    plugin = Plugin(path.stem, path.absolute(), hashlib.sha256(source).hexdigest())
    for known in loaded_plugins():
        if known.name == plugin.name:
            if known.sha256 == plugin.sha256:
                return
            reason = (
                f"{path} has changed since it was loaded; start a new process."
                if known.path == plugin.path
                else f"{known.path} and {plugin.path} have the same name; rename one of them."
            )
            raise UsageError(reason, "plugin")
    # Dataclasses and help texts look a class's module up. A name with a space is not that of any module to import.
    module = ModuleType(f"open_prune plug-in {plugin.name}")
    module.__file__ = str(plugin.path)
    sys.modules[module.__name__] = module
    try:
        _execute(module, module.__file__, source)
        _check_declared(module, path)
    except UsageError:
        del sys.modules[module.__name__]
        raise
    add_plugin(plugin, module)


def _execute(module: ModuleType, file: str, source: bytes) -> None:
    """Execute the bytes that were hashed, as a module's. Raises: UsageError that names the line of an error."""
    try:
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        message = f"{file}, line {_line_of(error, file)}: {type(error).__name__}: {reason}"
        raise UsageError(message, "plugin") from error


def _check_declared(module: ModuleType, path: Path) -> None:
    """Check that a module declares something, under patterns that can be read. Raises: UsageError."""
    declared = [value for value in vars(module).values() if isinstance(value, Registered)]
    if not declared:
        raise UsageError(f"{path} declares nothing, such as a Method, a DatasetSpec, a Family or a Branch.", "plugin")
    for entry in declared:
        try:
            re.compile(entry.pattern)
        except re.error as error:
            raise UsageError(f"{path}: the pattern of '{entry.spelling}' is not valid: {error}.", "plugin") from error


def _line_of(error: BaseException, file: str) -> int:
    """Return the line of a file at which an error came up: the innermost one, where it called other code."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno or 1
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == file and frame.lineno), 1)


def records_of(plugins: Iterable[Plugin]) -> dict[str, dict[str, str]]:
    """Return plug-ins as plain data, which descriptions and tickets hold: path and SHA-256 by name."""
    return {plugin.name: {"path": str(plugin.path), "sha256": plugin.sha256} for plugin in plugins}


def plugins_of(record: Mapping[str, Any]) -> list[Plugin]:
    """Return the plug-ins that a stored description or ticket names in `plugins`, as they were when it was written."""
    return [Plugin(name, Path(one["path"]), one["sha256"]) for name, one in record.get("plugins", {}).items()]


def is_loaded(plugin: Plugin) -> bool:
    """Return whether a plug-in is loaded in just this version, from wherever."""
    return any((known.name, known.sha256) == (plugin.name, plugin.sha256) for known in loaded_plugins())


def check_loaded(plugins: Iterable[Plugin], what: str) -> None:
    """Check that plug-ins are loaded in just these versions. what: what needs them, for the error.

    Raises: UsageError about `plugin`.
    """
    for plugin in plugins:
        if is_loaded(plugin):
            continue
        other = next((known for known in loaded_plugins() if known.name == plugin.name), None)
        needs = f"{what} needs the plug-in {plugin.path} with SHA-256 {plugin.sha256[:12]}..."
        found = "which is not loaded" if other is None else f"but {other.path} is another version"
        raise UsageError(f"{needs}, {found}.", "plugin")
