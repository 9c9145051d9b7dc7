"""Permissions: the file or folder that is in the way, whose it is, and how its owner opens it to others.

Everything under a root is created as the umask and the set-group-id bit of its folder say, so several users of a group
can share a root (docs/shared_roots.md). No sentence of this module advises to delete another user's file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

_DENIED = (errno.EACCES, errno.EPERM)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
"""Errors about a file that another process has renamed or removed."""
_ALL = os.R_OK | os.W_OK | os.X_OK


def is_denied(error: OSError) -> bool:
    """Return whether a permission is missing, rather than a file or a device."""
    return error.errno in _DENIED


def reason(error: OSError, path: Path | str | None = None, *, writes: bool = False) -> str:
    """Return the reason of an error, without a full stop. Where a permission is missing, it names what is in the way.

    path: what was to be read or written, if the error does not name it. writes: whether it was to be written.
    """
    said = error.strerror or str(error) or type(error).__name__
    if not is_denied(error) or not hasattr(os, "geteuid"):
        return said
    named = [each for each in (error.filename, error.filename2, path) if isinstance(each, str | os.PathLike)]
    for place in (place for each in named for place in (Path(each).absolute(), Path(os.path.realpath(each)))):
        with contextlib.suppress(OSError):  # it has just changed
            if found := _in_the_way(place, writes=writes):
                return f"{said}; {found}"
    return said


def owner_of(path: Path | str) -> str:
    """Return the name of the user who owns a file or folder; empty if it is one's own, or cannot be found."""
    try:
        found = os.lstat(path)
        return "" if found.st_uid == os.geteuid() else _user(found.st_uid)
    except (OSError, AttributeError):
        return ""


def for_owner(path: Path | str, advice: str) -> str:
    """Return advice about a file or folder that only its owner should follow; for others, the owner's name."""
    owner = owner_of(path)
    return f"It belongs to {owner}: ask {owner} to replace it." if owner else advice


def check_may_empty(folder: Path) -> None:
    """Check that a folder and those below it may be changed, before the first change. Raises: OSError."""
    if not os.path.lexists(folder):
        return
    for place in (str(folder), *(f"{above}/{name}" for above, names, _ in os.walk(folder) for name in names)):
        if os.path.islink(place) or _may(place, _ALL):  # noqa: PTH114
            continue
        try:
            os.lstat(place)
            is_read_only = os.statvfs(place).f_flag & os.ST_RDONLY
        except OSError as error:
            if error.errno in _GONE:
                continue
            raise
        if not _may(place, _ALL):  # it may not have been seen for a moment
            number = errno.EROFS if is_read_only else errno.EACCES
            raise OSError(number, os.strerror(number), place)


def _in_the_way(path: Path, *, writes: bool) -> str:
    """Return a clause about the first obstacle on the way to a path, for reading it or else for writing; or nothing."""
    for place, needed in (*_steps(path, os.R_OK), *_steps(path, os.W_OK)):
        if not _may(place, needed):
            return _clause(place, writes=writes or bool(needed & os.W_OK))
    return _sticky(path)


def _steps(path: Path, needed: int) -> Iterator[tuple[Path, int]]:
    """Yield the existing places on the way to a path, with the permissions that each must give."""
    existing = [each for each in reversed(path.parents) if os.path.lexists(each)]
    yield from ((each, os.X_OK) for each in existing)
    if existing and needed == os.W_OK:  # files are replaced: their folder is written
        yield existing[-1], os.W_OK | os.X_OK
    if os.path.lexists(path):
        yield path, needed | (os.X_OK if os.path.isdir(path) else 0)  # noqa: PTH112 (no error for closed links)


def _may(place: Path | str, needed: int) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(place, needed, effective_ids=effective)


def _clause(place: Path, *, writes: bool) -> str:
    """Return a clause with the owner of a place that is closed, and the command that opens it."""
    found = place.stat()
    is_folder = stat.S_ISDIR(found.st_mode)
    kind, bits = "folder" if is_folder else "file", ("rw" if writes else "r") + ("X" if is_folder else "")
    whole, named = "-R " if is_folder else "", shlex.quote(str(place))
    if found.st_uid == os.geteuid():
        return f"the {kind} {place} is yours: `chmod u+{bits} {named}` opens it"
    owner, ours = _user(found.st_uid), {os.getegid(), *os.getgroups()}
    begins = f"the {kind} {place} belongs to {owner}"
    if found.st_gid in ours:
        opens = f"`chmod {whole}g+{bits} {named}`"
        return f"{begins}, who can open it to the group {_group(found.st_gid)}: {opens}"
    return f"{begins} and the group {_group(found.st_gid)}, which you are not in: ask {owner} to share it"


def _sticky(path: Path) -> str:
    """Return a clause about a folder with the sticky bit, in which only owners rename and remove; or nothing."""
    folder, own, owner = path.parent.stat(), os.geteuid(), path.lstat().st_uid
    if not folder.st_mode & stat.S_ISVTX or own in (folder.st_uid, owner):
        return ""
    return f"{path} belongs to {_user(owner)}, and the sticky bit of {path.parent} lets nobody else rename or remove it"


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _group(number: int) -> str:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
