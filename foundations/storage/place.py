"""The place of a run: under the root itself, or in one of its upstreams."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Self

from foundations.description.address import Location
from foundations.errors import EnvironmentFailure
from foundations.storage.root import Root, counts_at


class Place:
    """The root and the location of a run, and the final folder of its files."""

    def __init__(self, root: Path, location: Location) -> None:
        self.root = root
        self.location = location
        self._own: Path | None = None
        """The working folder that this process has claimed or begun."""
        self._home: Path | None = None
        self._unpacked: Path | None = None
        self._packed: Path | None = None
        """The folder inside a pack, if the run is packed, as `is_published` found."""

    @classmethod
    def at(cls, root: Path, location: Location, upstream: Path | None) -> Self:
        """Return a run that is known to count as the one in an upstream, or, without one, in the root itself."""
        run = cls(root, location)
        run._home = root if upstream is None else upstream
        return run

    @cached_property
    def final(self) -> Path:
        """The final folder under the root itself, whether or not an upstream's run counts."""
        return self.location.under(self.root)

    @property
    def unpacked(self) -> Path:
        """The final folder under the root itself or in an upstream, which exists once the run is complete there.

        A packed run has none.
        """
        if self._own is not None:
            return self.final
        if self._unpacked is not None:
            return self._unpacked
        home = self.home
        folder = self.final if home is self.root else self.location.under(home)
        if self._home is not None:
            self._unpacked = folder
        return folder

    @property
    def place(self) -> Path:
        """The folder of the complete run: the final one, or the one inside a pack."""
        return self.unpacked if self._packed is None else self._packed

    @property
    def home(self) -> Path:
        """The root that has the files: the first upstream that holds the run complete while the root itself does not.

        Once a complete run was found, it stays the same until `look_again`. Work that this process has begun is in the
        root itself. Raises: as `Root.upstream_of`.
        """
        if self._own is not None:
            return self.root
        if self._home is None:
            root = self.root
            if not isinstance(root, Root) or not root.upstreams:
                self._home = root
            else:
                self._home = root if counts_at(root, str(self.location)) else root.upstream_of(self.location)
        return self.root if self._home is None else self._home

    @property
    def upstream(self) -> Path | None:
        """The upstream whose run counts, which is never written; None for a run in the root itself."""
        home = self.home
        return None if home is self.root else home

    def refuse_upstream(self) -> None:
        """Raise EnvironmentFailure for an upstream's run, which is never written."""
        if self.upstream is not None:
            raise EnvironmentFailure(f"{self.place} is in the upstream {self.upstream}, which is never written.")

    def look_again(self) -> None:
        """Find out again whether an upstream's run counts."""
        self._home = self._unpacked = self._packed = None
