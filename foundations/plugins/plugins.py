"""Plug-ins: files of a user's own that declare methods, datasets, networks or branches, as the files here do.

A plug-in is a Python file with objects that a registry takes:

    FAN_IN = Method(spelling="fan_in", paper="...", hparams=FanInHparams, score=fan_in)

Its name and the SHA-256 of its bytes stand in the address of every run that uses something from it, so a change in the
file makes new runs. What the file imports is not hashed: it counts as a library, like torch. Modules that lie beside it
can be imported, as those beside a script can; open_prune's and installed ones come first.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from foundations.access import reason
from foundations.errors import PluginError, UsageError
from foundations.files import read_file
from foundations.plugins.declarations import check_entry
from foundations.plugins.users_code import article, is_kept, is_own, place_of_error, words_of
from foundations.registry import Plugin as Plugin
from foundations.registry import Registered, add_plugin, executing, loaded_plugin, loaded_plugins


def load_plugins(paths: Iterable[Path | str]) -> None:
    """Execute some files and register what they declare. Loading a file again changes nothing.

    Raises: UsageError about `plugin` where a file cannot be read, raises an error or declares nothing, or where another
    file of that name, or another version of the file, is loaded already.
    """
    for path in paths:
        load_plugin(Path(path))


def load_plugin(path: Path, sha256: str | None = None, beside: Path | None = None) -> None:
    """Load one file, as `load_plugins` does.

    sha256: that of the bytes; others are not executed. beside: the folder of the modules that the file imports, if it
    is not the file's own. The folder of a file that a root keeps never is.
    """
    try:
        source = read_file(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason(error)}.", "plugin") from error
    if sha256 is not None and hashlib.sha256(source).hexdigest() != sha256:
        return
    plugin = Plugin(path.stem, path.absolute(), hashlib.sha256(source).hexdigest(), source)
    known = loaded_plugin(plugin.name)
    if known is not None:
        if known.sha256 == plugin.sha256:
            return
        if known.path == plugin.path:
            raise UsageError(f"{path} has changed since it was loaded; start a new process.", "plugin")
        raise UsageError(f"{known.path} and {plugin.path} have the same name; rename one of them.", "plugin")
    folder = None if beside is None and is_kept(plugin.path) else beside or plugin.path.parent
    if folder is not None:
        _check_modules(plugin, folder)
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    # Dataclasses and help texts look a class's module up. A name with a space is not that of any module to import.
    module = ModuleType(f"open_prune plug-in {plugin.name}")
    module.__file__ = str(plugin.path)
    sys.modules[module.__name__] = module
    try:
        with executing(module.__file__):
            _execute(module, module.__file__, source)
            _check_declared(module, path)
    except UsageError:
        del sys.modules[module.__name__]
        raise
    add_plugin(plugin, module)


def _check_modules(plugin: Plugin, folder: Path) -> None:
    """Check that what a plug-in imports from its folder is not another's module of that name. Raises: UsageError."""
    others = {known.path.parent for known in loaded_plugins()} - {folder}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).parent in others and re.search(rb"\b%s\b" % re.escape(name.encode()), plugin.source):
            own = folder / Path(file).name
            if own.is_file() and read_file(own) != read_file(Path(file)):
                reason = f"{file} and {own} have the same name, and two plug-ins import them; rename one of them."
                raise UsageError(reason, "plugin")


def _execute(module: ModuleType, file: str, source: bytes) -> None:
    """Execute the bytes that were hashed, as a module's. Raises: PluginError that names the line of an error."""
    try:
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        raise PluginError(f"{place_of_error(error) or f'{file}, line 1'}: {words_of(error)}", "plugin") from error


def _check_declared(module: ModuleType, path: Path) -> None:
    """Check that a module declares something, and that it can be used. Raises: PluginError that names the line."""
    declared = [value for value in vars(module).values() if isinstance(value, Registered)]
    for name, value in vars(module).items():
        held = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | set) else ()
        for entry in held:
            if isinstance(entry, Registered) and entry.line and not any(entry is each for each in declared):
                where = f"{module.__file__}, line {entry.line}"
                raise PluginError(
                    f"{where}: '{entry.spelling}' is only in '{name}'; give it a name of its own.", "plugin"
                )
    if all(is_own(entry) for entry in declared):
        raise PluginError(f"{path} declares nothing, such as a Method, a DatasetSpec, a Family or a Branch.", "plugin")
    for entry in declared:
        if not entry.line:
            continue  # imported from elsewhere
        try:
            check_entry(entry)
        except UsageError as error:
            where = f"{module.__file__}, line {entry.line}: '{entry.spelling}', {article(entry)}"
            raise PluginError(f"{where}: {error}", "plugin") from error
        except Exception as error:  # code of the plug-in that the checks called
            raise PluginError(f"{place_of_error(error) or module.__file__}: {words_of(error)}", "plugin") from error


def is_loaded(plugin: Plugin) -> bool:
    """Return whether exactly this version of a plug-in is loaded, from any path."""
    known = loaded_plugin(plugin.name)
    return known is not None and known.sha256 == plugin.sha256


def check_loaded(plugins: Iterable[Plugin], what: str, hint: Callable[[Plugin], str] = lambda _: "") -> None:
    """Check that exactly these versions of plug-ins are loaded. what: what needs them, for the error.

    hint: returns a sentence on how to load a plug-in, or an empty text.

    Raises: UsageError about `plugin`.
    """
    for plugin in plugins:
        if is_loaded(plugin):
            continue
        other = loaded_plugin(plugin.name)
        needs = f"{what} needs the plug-in {plugin.path} with SHA-256 {plugin.sha256[:12]}..."
        found = "which is not loaded" if other is None else f"but {other.path} is another version"
        advice = hint(plugin)
        if advice and other is not None:
            advice += " in its place."
        raise UsageError(f"{needs}, {found}." + (f"\n{advice}" if advice else ""), "plugin")
