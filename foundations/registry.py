r"""One mechanism of registration for everything that has a name: methods, data sets, networks, branches, platforms.

Each is declared as an object in a file of its own:

    SNIP = Method(spelling="snipN", pattern=r"snip(?P<examples_per_class>[1-9]\d*)", ...)

and the registry of its kind has a line with that file's module, by its name in the repository. The modules are
imported when something is looked up, so they must import torch and numpy only inside functions: listing and planning
need neither.

Files of a user's own (`foundations.plugins.plugins`) declare such objects, too: every registry takes those of its kind.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from foundations.errors import UsageError, choose_from, did_you_mean
from foundations.program import INSTALLED, PREFIX

KEPT = ".plugins"
"""The folder of a root that keeps the files of the plug-ins that computed its runs (see `foundations.plugins.kept`)."""


@dataclass(frozen=True)
class Plugin:
    """A user's own file that declares named objects."""

    name: str
    """The file's name without `.py`."""
    path: Path
    sha256: str
    """Of the file's bytes, in hexadecimal digits."""
    source: bytes = field(default=b"", compare=False, repr=False)
    """The file's bytes, where the plug-in is loaded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Registered:
    """Base of named objects."""

    spelling: str
    """The name as people write it, with capitals for numbers: snipN."""
    pattern: str = ""
    """The regular expression of its names, if it has more than the spelling. Groups are the parameters in a name."""
    examples: tuple[str, ...] = ()
    """Names to list and to suggest, where the spelling is a pattern."""
    known_as: tuple[str, ...] = ()
    """Other names of it, in papers and other code. Errors that refuse one of them suggest it."""
    plugin: Plugin | None = field(default=None, init=False)
    """The plug-in that declares it, once a registry has taken it from there; None for what comes with open_prune."""
    line: int = field(default=0, init=False)
    """The line of a plug-in's file that declares it; 0 for what comes with open_prune."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", _line_under_way())

    def check_declared(self) -> None:
        """Check what the types of the fields cannot express. Called when a plug-in that declares it is loaded.

        Raises: UsageError that names the field.
        """

    @property
    def known_names(self) -> tuple[str, ...]:
        """The spelling and the examples."""
        return (self.spelling, *self.examples)

    def is_known_as(self, name: str) -> bool:
        """Return whether a name is one of its other names, whatever its capitals, dashes and last digits."""
        return _plain(name) in {_plain(other) for other in self.known_as}

    def mentions(self, name: str) -> bool:
        """Return whether the words of a name follow one another in its summary or in the title of its paper."""
        described = _words(f"{getattr(self, 'summary', '')} {getattr(self, 'paper', '')}")
        return f" {' '.join(_words(name))} " in f" {' '.join(described)} "

    def match(self, name: str) -> re.Match[str] | None:
        """Return the match of a name that it has, or None."""
        return re.fullmatch(self.pattern or re.escape(self.spelling), name, re.ASCII)


Entry = TypeVar("Entry", bound=Registered)
_PLUGINS: dict[Plugin, ModuleType] = {}
_EXECUTED: list[str] = []
"""The file of the plug-in that is executed at present."""
_OF_METHODS: list[Registry[Any]] = []
"""The registries whose names people take for those of one another."""


class Registry(Generic[Entry]):
    """The objects of one kind by name, from the modules that declare them, in the order of these; then plug-ins'."""

    def __init__(self, kind: type[Entry], hparam: str, modules: Sequence[str], *, of_methods: bool = False) -> None:
        """Take the kind, the hyperparameter that holds its names (for errors), and the modules that declare it.

        of_methods: whether people take its names for those of other kinds of methods; errors say of which kind one is.
        """
        self._kind, self._hparam = kind, hparam
        if of_methods:
            _OF_METHODS.append(self)
        self._waiting = list(modules)
        self._entries: list[Entry] = []
        self._found: dict[str, tuple[Entry, dict[str, str]]] = {}
        self._taken: set[Plugin] = set()

    def __iter__(self) -> Iterator[Entry]:
        for _ in self._imported_in_turn():
            pass
        for plugin, module in _PLUGINS.items():
            if plugin not in self._taken:
                self.register(module, plugin)
                self._taken.add(plugin)
        return iter(tuple(self._entries))

    def _imported_in_turn(self) -> Iterator[Entry]:
        """Yield the entries; import each module only when those before it are used up."""
        place = 0
        while place < len(self._entries) or self._waiting:
            if place < len(self._entries):
                yield self._entries[place]
                place += 1
            else:
                self._add(self._declared_in(self._waiting[0]))
                del self._waiting[0]  # only now: a file that cannot be imported fails at the next look-up, too

    def _declared_in(self, module: str) -> Iterable[object]:
        """Import one of the modules; return what it declares."""
        return vars(import_by_name(module)).values()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._look_up(name) is not None

    def register(self, module: ModuleType, plugin: Plugin | None = None) -> None:
        """Add the entries that a module, of a plug-in or open_prune's own, declares: all or none.

        Raises: UsageError where another entry has the same spelling or, with a plug-in, any name of it.
        """
        self._add(vars(module).values(), plugin)

    def _add(self, declared: Iterable[object], plugin: Plugin | None = None) -> None:
        known = {id(entry): entry for entry in self._entries}
        for entry in declared:
            if isinstance(entry, self._kind) and id(entry) not in known:
                for other in known.values():
                    if plugin is not None:
                        _refuse_same_names(entry, other, plugin)
                    elif entry.spelling == other.spelling:
                        raise UsageError(f"'{entry.spelling}' is declared twice.", self._hparam)
                known[id(entry)] = entry
        for entry in tuple(known.values())[len(self._entries) :]:
            object.__setattr__(entry, "plugin", plugin)
            self._entries.append(entry)

    def find(self, name: str) -> Entry:
        """Return the entry of a name. Raises: UsageError that lists the entries."""
        return self.match(name)[0]

    def match(self, name: str) -> tuple[Entry, dict[str, str]]:
        """Return the entry of a name, and the groups of its pattern that the name fills. Raises: as `find`."""
        found = self._look_up(name)
        if found is None:
            raise self.unknown(name)
        return found

    def spelled(self, spelling: str) -> Entry | None:
        """Return the entry that is spelled so, or None."""
        return next((entry for entry in self._imported_in_turn() if entry.spelling == spelling), None)

    def plugin_of(self, name: str) -> Plugin | None:
        """Return the plug-in that declares the entry of a name, or None where open_prune does or there is none."""
        found = self._look_up(name)
        return None if found is None else found[0].plugin

    def spellings(self) -> list[str]:
        """Return the spellings of all entries."""
        return [entry.spelling for entry in self]

    def unknown(self, name: str, problem: str = "is not a valid value") -> UsageError:
        """Return the error for a name that no entry has."""
        names = [name for entry in self for name in entry.known_names]
        near = self._meant(name)
        others = [] if name in self.spellings() else [each for each in _OF_METHODS if each is not self]
        other = next((each for each in others if each.has(name)), None)
        if near is None and other is not None:
            problem, near = f"{problem}: it is {'an' if other._hparam[0] in 'aeiou' else 'a'} {other._hparam}", ""
        elif near is None:
            near = name if did_you_mean(name, names) else re.sub(r"\d+$", "N", name)
        return UsageError(f"'{name}' {problem}{choose_from(near, self.spellings(), names)}", self._hparam)

    def has(self, name: str) -> bool:
        """Return whether an entry has the name, or is known by it elsewhere."""
        return name in self or any(entry.is_known_as(name) for entry in self)

    def _meant(self, name: str) -> str | None:
        """Return the name of the entry that is known by another elsewhere, or that alone mentions its words."""
        known = [entry.spelling for entry in self if entry.is_known_as(name)]
        mentioned = [entry.spelling for entry in self if _words(name) and entry.mentions(name)]
        return known[0] if known else mentioned[0] if len(mentioned) == 1 else None

    def _look_up(self, name: str) -> tuple[Entry, dict[str, str]] | None:
        if not self._taken.issuperset(_PLUGINS):
            iter(self)  # which refuses names that are taken, also where this one was found before
        if name not in self._found:
            entries = self._imported_in_turn()  # a name of the first module needs no other
            found = next(((entry, match) for entry in entries if (match := entry.match(name))), None)
            if found is None:
                return None
            groups = {group: text for group, text in found[1].groupdict().items() if text is not None}
            self._found[name] = found[0], groups
        return self._found[name]


def _plain(name: str) -> str:
    """Return a name for comparisons: without capitals, signs and the number at its end."""
    return "".join(_words(name)).rstrip("0123456789")


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.casefold())


@contextlib.contextmanager
def executing(file: str) -> Iterator[None]:
    """Execute a plug-in's file inside the block, so that entries declared there record their line."""
    _EXECUTED.append(file)
    try:
        yield
    finally:
        _EXECUTED.pop()


def plugins_under_way() -> tuple[str, ...]:
    """Return the files of the plug-ins that are executed at present."""
    return tuple(_EXECUTED)


def _line_under_way() -> int:
    """Return the line of the plug-in's file that is executed at present, or 0 where there is none."""
    frame = sys._getframe(1) if _EXECUTED else None
    while frame is not None and frame.f_code.co_filename != _EXECUTED[-1]:
        frame = frame.f_back
    return 0 if frame is None else frame.f_lineno


def add_plugin(plugin: Plugin, module: ModuleType) -> None:
    """Let every registry take the entries of its kind from a plug-in's module (see `foundations.plugins.plugins`)."""
    _PLUGINS[plugin] = module


def loaded_plugins() -> list[Plugin]:
    """Return the plug-ins that were added, in that order."""
    return list(_PLUGINS)


def loaded_plugin(name: str) -> Plugin | None:
    """Return the plug-in of a name that was added, in whatever version, or None."""
    return next((plugin for plugin in _PLUGINS if plugin.name == name), None)


def plugin_that_declares(kind: type) -> Plugin | None:
    """Return the plug-in in whose file a class or one of its bases stands, or None."""
    modules = {base.__module__ for base in kind.__mro__}
    return next((plugin for plugin, module in _PLUGINS.items() if module.__name__ in modules), None)


def _refuse_same_names(entry: Registered, known: Registered, plugin: Plugin) -> None:
    """Refuse an entry that shares a name with a known one, either way round. Raises: UsageError about `plugin`."""
    shared = [entry.spelling] if entry.spelling == known.spelling else []
    shared += [name for name in entry.known_names if known.match(name)]
    shared += [name for name in known.known_names if entry.match(name)]
    if shared:
        raise UsageError(
            f"{plugin.path} declares '{entry.spelling}', but '{shared[0]}' is already a name of '{known.spelling}'; "
            "choose another name.",
            "plugin",
        )


def load(path: str) -> Any:
    """Return the object that `module:name` names, importing the module now."""
    module, _, name = path.partition(":")
    return getattr(import_by_name(module), name)


def import_by_name(module: str) -> ModuleType:
    """Import a module: one of open_prune by its name in the repository, also where it is installed, or any other."""
    is_inside = INSTALLED and importlib.util.find_spec(PREFIX + module.partition(".")[0]) is not None
    return importlib.import_module(PREFIX + module if is_inside else module)


def records_of(plugins: Iterable[Plugin]) -> dict[str, dict[str, str]]:
    """Return plug-ins as plain data, which descriptions and tickets hold: path and SHA-256 by name."""
    return {plugin.name: {"path": str(plugin.path), "sha256": plugin.sha256} for plugin in plugins}


def plugins_of(record: Mapping[str, Any]) -> list[Plugin]:
    """Return the plug-ins that a stored description or ticket names in `plugins`, as they were when it was written."""
    return [Plugin(name, Path(one["path"]), one["sha256"]) for name, one in record.get("plugins", {}).items()]
