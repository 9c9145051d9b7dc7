"""The folder of all runs, and its upstreams: other roots, only read, in which complete runs count as here."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable
from errno import EACCES
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundations.access import is_denied, reason
from foundations.description.address import Location
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from foundations.storage.manifest import MANIFEST
from foundations.storage.packed import packed_runs
from foundations.storage.root_format import check_format

if TYPE_CHECKING:
    from pathlib import Path as _Folder
else:
    _Folder = type(Path())  # before Python 3.12, Path itself cannot be the base

VARIABLE = "OPEN_PRUNE_UPSTREAM"
_OF_THE_FORMAT = re.compile(r"\.|(train|import)_|format\.json$")
"""Matches the names in a root that its format uses."""
_LEAVE_OUT = f"or leave it out of {VARIABLE} and of `upstream` in the site's settings"

Upstreams = Iterable[Path] | Callable[[], Iterable[Path]]


class Root(_Folder):
    """The folder of all runs. `root / name` and whatever is written are in this folder alone, never in an upstream."""

    _given: Upstreams = ()

    def __new__(cls, folder: Path | str, upstreams: Upstreams = ()) -> Root:
        """Create the path of the folder alone; `__init__` takes the upstreams."""
        del upstreams
        return super().__new__(cls, folder)

    def __init__(self, folder: Path | str, upstreams: Upstreams = ()) -> None:
        """Take the folder and its upstreams, or a function that returns them, which is called when they are needed."""
        if sys.version_info >= (3, 12):
            super().__init__(folder)
        self._given = upstreams
        self._left_out: set[tuple[str, str]] = set()
        self._counted: dict[str, Path] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the parts for a copy in another process, which leaves out the same runs."""
        return (Root, (str(self), self._given), dict(self.__dict__)) if self._is_made else (Path, (str(self),))

    @property
    def _is_made(self) -> bool:
        # Before Python 3.12, paths that are derived from a Root, such as by `glob`, have its class and nothing else.
        return "_given" in self.__dict__

    def __truediv__(self, name: str | os.PathLike[str]) -> Path:  # type: ignore[override]
        """Return the path of something in the folder itself."""
        return self.alone / name

    def with_segments(self, *segments: str | os.PathLike[str]) -> Path:  # type: ignore[override,unused-ignore]
        """Return another path, derived from this one, which has no upstreams."""
        return Path(*segments)

    @cached_property
    def alone(self) -> Path:
        """The folder without its upstreams."""
        return Path(str(self))

    @cached_property
    def upstreams(self) -> tuple[Path, ...]:
        """The other roots, in order of preference.

        Raises: UsageError for one that is the root itself, lies inside it, contains it, or is named twice;
        EnvironmentFailure for one that is not there, cannot be read, or is of a newer format.
        """
        given = self._given() if callable(self._given) else self._given
        folders = tuple(Path(folder).expanduser().absolute() for folder in given)
        places: list[Path] = []
        for folder in folders:
            check_upstream(folder)
            place = folder.resolve()
            self._refuse_loop(folder, place)
            same = next((number for number, other in enumerate(places) if other.samefile(place)), None)
            if same is not None:
                both = folder if folders[same] == folder else f"{folders[same]} and {folder}"
                raise UsageError(f"{VARIABLE}: the upstream {both} is named twice; name it once.")
            places.append(place)
        return folders

    def _refuse_loop(self, folder: Path, place: Path) -> None:
        """Raise UsageError for an upstream that shares files with the root. place: the folder, without links."""
        own = self.alone.resolve()
        if own == place or (own.exists() and own.samefile(place)):
            where = "is the root itself"
        elif place.is_relative_to(own):
            where = f"lies inside the root {self}"
        elif own.is_relative_to(place):
            where = f"contains the root {self}"
        else:
            return
        raise UsageError(f"{VARIABLE}: the upstream {folder} {where}; choose another root, {_LEAVE_OUT}.")

    def upstream_of(self, location: Location) -> Path | None:
        """Return the first upstream with a complete run at a location; None if there is none.

        Raises: EnvironmentFailure where a run that was found before is gone, with the reason.
        """
        name = str(location)
        for upstream in self.upstreams:
            if (not self._left_out or (str(upstream), name) not in self._left_out) and counts_at(upstream, name):
                self._counted[name] = upstream
                return upstream
        if name in self._counted:
            check_upstream(self._counted[name])
            raise EnvironmentFailure(
                f"The upstream {self._counted[name]} no longer holds {name}, which was complete there before. "
                "Run the command again: what is missing is computed here."
            )
        return None

    def leave_out(self, upstream: Path, location: Location) -> None:
        """Do not count an upstream's run any more, since it is damaged. Raises: as `check_upstream`."""
        check_upstream(upstream)
        self._left_out.add((str(upstream), str(location)))
        self._counted.pop(str(location), None)

    def is_left_out(self, upstream: Path, location: Location) -> bool:
        """Return whether an upstream's run does not count, because it is damaged."""
        return (str(upstream), str(location)) in self._left_out


def upstreams_of(root: Path) -> tuple[Path, ...]:
    """Return the upstreams of a root; a plain path has none. Raises: as `Root.upstreams`."""
    return root.upstreams if isinstance(root, Root) else ()


def alone(root: Path) -> Path:
    """Return a root's folder without its upstreams."""
    return root.alone if isinstance(root, Root) else root


def check_output(root: Path, path: Path) -> None:
    """Raise UsageError if a file or folder for people would lie in an upstream, or among the root's own files."""
    place, own = path.resolve(), alone(root).resolve()
    for upstream in upstreams_of(root):
        if place.is_relative_to(upstream.resolve()):
            raise UsageError(f"{path} lies in the upstream {upstream}, which is never written; name another place.")
    first = place.relative_to(own).parts[:1] if place.is_relative_to(own) else ()
    if place == own or any(_OF_THE_FORMAT.match(name) for name in first):
        raise UsageError(f"{path} lies among the runs of {own}; name another place.")


def counts_at(root: Path, location: str) -> bool:
    """Return whether a folder of runs holds one complete or packed, or cannot be looked into: reading it reports that.

    Raises: EnvironmentFailure where the packs cannot be read.
    """
    folder = f"{root}/{location}"
    if os.access(f"{folder}/{MANIFEST}", os.F_OK):
        return True
    try:
        os.stat(folder)  # noqa: PTH116 (a Path for each of thousands of runs takes as long)
    except (FileNotFoundError, NotADirectoryError):
        return location in packed_runs(root)
    except OSError:
        return True
    return not os.access(folder, os.X_OK) or location in packed_runs(root)


def check_upstream(folder: Path) -> None:
    """Raise EnvironmentFailure, in one sentence, for an upstream that cannot be used."""

    def refused(why: str, advice: str) -> EnvironmentFailure:
        return EnvironmentFailure(f"The upstream {folder} {why}: {advice}, {_LEAVE_OUT}.")

    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise refused("is not a folder", "name a root there")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise PermissionError(EACCES, os.strerror(EACCES), str(folder))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise refused("is not there", "mount or create it") from error
    except OSError as error:
        advice = "ask its owner to let you read it" if is_denied(error) else "look at its file system"
        raise refused(f"cannot be read ({reason(error)})", advice) from error
    check_format(folder)
    try:
        packed_runs(folder)
    except DamagedError as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise refused(f"has a damaged pack ({why})", "ask its owner to set it aside (`verify --mend`)") from error
