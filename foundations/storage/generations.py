"""The working folders of a run that is under way, in a hidden folder beside its final one.

    .main/3-5f0c2a91/           a generation: its number, then hexadecimal digits of chance
    .main/3-5f0c2a91.owner      the process that works in it
    .main/output.txt            of executors, as failure.json

A process writes into a generation of its own, which nobody else has. It takes an interrupted one over by renaming it to
the next number: of several processes only one can. The former owner, if it is alive after all, no longer finds its
folder and ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foundations.access import check_may_empty
from foundations.files import claim_folder, is_there, make_folder, read_file
from foundations.parts import PART
from foundations.storage.locks import is_alive, is_same, this_process

_NAME = re.compile(r"(\d{1,9})-[0-9a-f]{8}", re.ASCII)
_OWNER = ".owner"
_REMOVED = ".removed_"
_ATTEMPTS = 20


class Generations:
    """The generations of the run with a final folder."""

    def __init__(self, place: Path) -> None:
        """Take the run's final folder."""
        self.folder = place.with_name(f".{place.name}")

    def all(self) -> list[Path]:
        """Return the working folders, the newest first; none where they cannot be read."""
        try:
            names = os.listdir(self.folder)  # noqa: PTH208 (called for each run that is not complete)
        except OSError:
            return []
        found = sorted(((int(match[1]), name) for name in names if (match := _NAME.fullmatch(name))), reverse=True)
        return [self.folder / name for _, name in found]

    def newest(self, file: str) -> Path | None:
        """Return the newest working folder that has a file, else the newest one; None where there is none."""
        known = self.all()
        return next((each for each in known if is_there(each / file)), known[0] if known else None)

    def begin(self, *, is_owned: bool) -> Path:
        """Make a working folder. is_owned: whether to name this process as its owner. Raises: OSError."""
        folder = self._next()
        for attempt in range(_ATTEMPTS):
            make_folder(self.folder)
            with contextlib.suppress(FileExistsError):  # the name is ours alone: the reply was lost
                try:
                    folder.mkdir()
                except FileNotFoundError:  # another process has removed the hidden folder, which was empty
                    if attempt + 1 == _ATTEMPTS:
                        raise
                    continue
            break
        self._note(folder, is_owned=is_owned)
        return folder

    def claim(self, old: Path, *, is_owned: bool) -> Path | None:
        """Take over a folder by renaming it; return its new name, or None where another process was first.

        old: a working folder, or the final folder. Raises: OSError.
        """
        new = self._next()
        check_may_empty(old)  # a folder of another user's can be renamed and stay closed
        make_folder(self.folder)
        if not claim_folder(old, new):
            return None
        claimed = (*_claimed(self.owner(old)), old.name)
        self.release(old)
        self._note(new, is_owned=is_owned, claimed=claimed)
        return new

    def successor(self, folder: Path) -> dict[str, Any] | None:
        """Return facts about the last process that has taken a folder over; None where unknown."""
        owners = map(self.owner, self.all())
        return next((owner for owner in owners if folder.name in _claimed(owner)), None)

    def owner(self, folder: Path) -> dict[str, Any] | None:
        """Return facts about the process that works in a folder (`locks.this_process`); None where unknown."""
        try:
            facts = json.loads(read_file(f"{folder}{_OWNER}"))
        except (OSError, ValueError, RecursionError):
            return None
        return facts if isinstance(facts, dict) else None

    def living_owner(self, folder: Path) -> dict[str, Any] | None:
        """Return facts about another process of this machine that is alive and works in a folder, or None."""
        owner = self.owner(folder)
        return owner if owner and is_alive(owner) and not is_same(owner, this_process()) else None

    def release(self, folder: Path) -> None:
        """Remove the note on who works in a folder."""
        with contextlib.suppress(OSError):
            Path(f"{folder}{_OWNER}").unlink(missing_ok=True)

    def remove(self, folder: Path) -> None:
        """Remove a working folder; a process that works in it finds the whole folder gone. Raises: OSError."""
        trash = folder.with_name(f"{_REMOVED}{os.urandom(4).hex()}")
        if claim_folder(folder, trash):
            _remove_tree(trash)
        self.release(folder)

    def discard(self, folder: Path) -> None:
        """Remove a working folder of this process, as far as possible, and the note on who works in it."""
        _remove_tree(folder, ignore_errors=True)
        self.release(folder)

    def tidy(self) -> None:
        """Remove what is left of removed folders, and the hidden folder if it is empty."""
        with contextlib.suppress(OSError):
            for trash in self.folder.glob(f"{_REMOVED}*"):
                _remove_tree(trash, ignore_errors=True)
            for path in self.folder.glob(f"*{_OWNER}*"):
                if not is_there(path.with_name(path.name.partition(_OWNER)[0])):
                    path.unlink(missing_ok=True)
            self.folder.rmdir()

    def _next(self) -> Path:
        known = self.all()
        number = int(known[0].name.partition("-")[0]) if known else 0
        return self.folder / f"{number + 1}-{os.urandom(4).hex()}"

    def _note(self, folder: Path, *, is_owned: bool, claimed: Sequence[str] = ()) -> None:
        if is_owned:
            part = Path(f"{folder}{_OWNER}{PART}")
            with contextlib.suppress(OSError):  # it only saves others from work
                part.write_text(json.dumps({**this_process(), "claimed": claimed}))
                part.replace(part.with_suffix(""))


def _claimed(owner: Mapping[str, Any] | None) -> list[str]:
    """Return the former names of the working folder of a process, as its note has them."""
    names = (owner or {}).get("claimed")
    return list(map(str, names)) if isinstance(names, list) else []


def holds(place: str, *names: str) -> bool:
    """Return whether a run's final folder, or one of its working folders, has one of some files."""
    if any(os.access(f"{place}/{name}", os.F_OK) for name in names):
        return True
    return any(os.access(f"{each}/{name}", os.F_OK) for each in Generations(Path(place)).all() for name in names)


def _remove_tree(folder: Path, *, ignore_errors: bool = False) -> None:
    import shutil  # late: it imports the compressors, which readers of runs do not need

    shutil.rmtree(folder, ignore_errors=ignore_errors)
