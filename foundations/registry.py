r"""One mechanism of registration for everything that has a name: methods, data sets, networks, branches, platforms.

What has a name is declared as an object in a file of its own:

    SNIP = Method(spelling="snipN", pattern=r"snip(?P<examples_per_class>[1-9]\d*)", ...)

and the registry of its kind has a line with that file's module, by its name in the repository. The modules are
imported when something is looked up, so they must import torch and numpy only inside functions: listing and planning
need neither.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar

from foundations.errors import UsageError, choose_from, did_you_mean
from foundations.program import INSTALLED, PREFIX


@dataclass(frozen=True, kw_only=True, eq=False)
class Registered:
    """Base of what has a name."""

    spelling: str
    """The name as people write it, with capitals for numbers: snipN."""
    pattern: str = ""
    """The regular expression of its names, where they are more than the spelling. Groups are what a name says."""
    examples: tuple[str, ...] = ()
    """Names to list and to suggest, where the spelling is a pattern."""


Entry = TypeVar("Entry", bound=Registered)


class Registry(Generic[Entry]):
    """The objects of one kind by name, from the modules that declare them, in the order of these."""

    def __init__(self, kind: type[Entry], hparam: str, modules: Sequence[str]) -> None:
        """Take the kind, the hyperparameter that holds its names (for errors), and the modules that declare it."""
        self._kind, self._hparam = kind, hparam
        self._waiting = list(modules)
        self._entries: list[Entry] = []
        self._found: dict[str, tuple[Entry, dict[str, str]]] = {}

    def __iter__(self) -> Iterator[Entry]:
        while self._waiting:
            self.register(import_by_name(self._waiting[0]))
            del self._waiting[0]  # only now: a file that cannot be imported fails at the next look-up, too
        return iter(tuple(self._entries))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._look_up(name) is not None

    def register(self, module: ModuleType) -> None:
        """Add what a module declares. Raises: UsageError where a spelling is taken already."""
        for entry in vars(module).values():
            if isinstance(entry, self._kind) and not any(entry is known for known in self._entries):
                self.add(entry)

    def add(self, entry: Entry) -> None:
        """Add one entry. Raises: UsageError where its spelling is taken already."""
        if any(entry.spelling == known.spelling for known in self._entries):
            raise UsageError(f"'{entry.spelling}' is declared twice.", self._hparam)
        self._entries.append(entry)

    def find(self, name: str) -> Entry:
        """Return the entry of a name. Raises: UsageError that lists what there is."""
        return self.match(name)[0]

    def match(self, name: str) -> tuple[Entry, dict[str, str]]:
        """Return the entry of a name, and the groups of its pattern that the name fills. Raises: as `find`."""
        found = self._look_up(name)
        if found is None:
            raise self.unknown(name)
        return found

    def spellings(self) -> list[str]:
        """Return the spellings of all entries."""
        return [entry.spelling for entry in self]

    def unknown(self, name: str) -> UsageError:
        """Return the error for a name that no entry has."""
        names = [name for entry in self for name in (entry.spelling, *entry.examples)]
        near = name if did_you_mean(name, names) else re.sub(r"\d+$", "N", name)
        return UsageError(f"'{name}' is not a valid value{choose_from(near, self.spellings(), names)}", self._hparam)

    def _look_up(self, name: str) -> tuple[Entry, dict[str, str]] | None:
        if name not in self._found:
            for entry in self:
                match = re.fullmatch(entry.pattern or re.escape(entry.spelling), name, re.ASCII)
                if match is not None:
                    groups = {group: text for group, text in match.groupdict().items() if text is not None}
                    self._found[name] = entry, groups
                    break
        return self._found.get(name)


def load(path: str) -> Any:
    """Return the object that `module:name` names, importing the module now."""
    module, _, name = path.partition(":")
    return getattr(import_by_name(module), name)


def import_by_name(module: str) -> ModuleType:
    """Import a module: one of open_prune by its name in the repository, also where it is installed, or any other."""
    is_inside = INSTALLED and importlib.util.find_spec(PREFIX + module.partition(".")[0]) is not None
    return importlib.import_module(PREFIX + module if is_inside else module)
