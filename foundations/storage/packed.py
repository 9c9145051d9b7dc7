"""The packed runs of a root: where they are, how they get into a pack, and out of it again.

A pack holds whole complete runs, a member for each file: `<location>/<file>`. A run in a folder of its own counts more
than a packed one, and of two packed ones the one with more manifests. So packing publishes the pack before it removes
the folders, and unpacking the folder before the pack goes: whenever a process is killed, the run is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from foundations import packs
from foundations.description.address import Location
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import explain_os_errors, make_folder, publish_file, publish_folder, remove_empty, sha256_of_file
from foundations.packs import FOLDER, SUFFIX, time_of
from foundations.parts import part_of, sweep_abandoned
from foundations.program import PROGRAM
from foundations.storage.generations import Generations
from foundations.storage.locks import lock
from foundations.storage.manifest import MANIFEST, manifest_number

_UNSETTLED_SECONDS = 3.0
_EARLIEST = 315532800.0
"""1980, where the times of zip files begin."""
_CHUNK = 1 << 20
_NAME = re.compile(rf"[0-9a-f]{{16}}{re.escape(SUFFIX)}")
_Runs = Mapping[str, Path]
_Files = Mapping[Location, Mapping[str, Path]]
"""The path of each file of some runs, by name."""
_KNOWN: dict[str, tuple[tuple[int, int], _Runs]] = {}


def packed_place(root: Path, location: Location) -> Path | None:
    """Return the folder of a run inside its pack; None if it is not packed. Raises: DamagedError for a damaged pack."""
    return packed_runs(root).get(str(location))


def packed_runs(root: Path) -> _Runs:
    """Return the folders inside packs of all packed runs of a root, by location. Raises: DamagedError."""
    folder = f"{root}/{FOLDER}"
    try:
        status = os.stat(folder)  # noqa: PTH116 (for each run that is not begun)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {folder}: {error.strerror}.") from error
    stamp = status.st_mtime_ns, status.st_ino
    known = _KNOWN.get(folder)
    if known is None or known[0] != stamp:
        is_settled = time.time() - status.st_mtime > _UNSETTLED_SECONDS
        known = stamp if is_settled else (0, 0), _read(Path(folder))
        _KNOWN[folder] = known
    return known[1]


def pack_files(root: Path) -> list[Path]:
    """Return the packs of a root. Raises: EnvironmentFailure where they cannot be listed."""
    folder = root / FOLDER
    with explain_os_errors("read", folder), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(folder / name for name in os.listdir(folder) if _NAME.fullmatch(name))  # noqa: PTH208
    return []


def check(pack: Path) -> None:
    """Read the list of a pack's members. Raises: DamagedError."""
    try:
        packs.members(pack)
    except FileNotFoundError:
        return
    except OSError as error:
        how = f"To set it aside: {PROGRAM} verify --mend. Its runs are computed again then."
        raise DamagedError(f"{pack} cannot be read: {error.strerror}.\n{how}") from error


def _read(folder: Path) -> _Runs:
    found: dict[str, tuple[int, Path]] = {}
    for pack in pack_files(folder.parent):
        check(pack)
        with contextlib.suppress(FileNotFoundError):  # replaced since it was listed
            for location, number in _numbers(packs.members(pack)).items():
                if number > found.get(location, (0, pack))[0]:
                    found[location] = number, pack / location
    return {location: place for location, (_, place) in found.items()}


def _numbers(members: Iterable[str]) -> dict[str, int]:
    """Return the number of the latest manifest of each run."""
    numbers: dict[str, int] = {}
    for name in members:
        location, _, file = name.rpartition("/")
        number = manifest_number(file)
        if number is not None:
            numbers[location] = max(number, numbers.get(location, 0))
    return numbers


def write_pack(root: Path, runs: _Files) -> Path:
    """Write a pack of some runs, whose files may be in packs, and publish it; return its path. Raises: OSError."""
    folder = root / FOLDER
    make_folder(folder)
    sweep_abandoned(folder)
    part = part_of(folder / f"new{SUFFIX}")
    try:
        _write(part, runs)
        pack = folder / f"{sha256_of_file(part)[:16]}{SUFFIX}"
        with contextlib.suppress(FileExistsError):  # with the same content: a process was killed before it went on
            publish_file(part, pack)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return pack


def _write(part: Path, runs: _Files) -> None:
    import shutil
    import zipfile

    with zipfile.ZipFile(part, "x") as archive:
        for location, files in sorted(runs.items(), key=lambda item: str(item[0])):
            for name, path in sorted(files.items()):
                info = zipfile.ZipInfo(f"{location}/{name}", time.gmtime(max(time_of(path), _EARLIEST))[:6])
                info.external_attr = 0o644 << 16
                with packs.open_file(path) as source, archive.open(info, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, _CHUNK)


def unpack(place: Path, final: Path) -> None:
    """Copy a packed run into a folder of its own; the pack stays.

    place: the folder inside the pack. final: the run's final folder. Raises: OSError.
    """
    generations = Generations(final)
    working = generations.begin(is_owned=True)
    try:
        for name in packs.names_inside(place):
            with contextlib.suppress(_NotReadable):  # it counts as missing then, which is damage
                _unpack(place / name, working / name)
        with contextlib.suppress(FileExistsError):  # another process has unpacked it
            publish_folder(working, final)
    finally:
        generations.discard(working)
        generations.tidy()


class _NotReadable(Exception):
    """A member that cannot be found where its pack lists it."""


def _unpack(source: Path, target: Path) -> None:
    import shutil

    try:
        packed = packs.opened(source)
    except OSError as error:
        raise (_NotReadable if error.errno == errno.EINVAL else type(error))(*error.args) from error
    with packed, target.open("xb") as file:
        shutil.copyfileobj(packed, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
    changed = time_of(source)
    os.utime(target, (changed, changed))


def drop(
    root: Path, locations: Collection[Location], *, are_unpacked: bool = False, instead: _Files | None = None
) -> None:
    """Replace the packs that hold some runs by packs without them.

    are_unpacked: whether these runs have folders of their own, without which a pack stays.
    instead: the files that the new packs have of those of these runs that the old ones held.
    Raises: OSError, DamagedError.
    """
    if not pack_files(root):
        return
    with lock(root / ".locks" / "packs.lock", "the packs", lambda _line: None):
        for pack in pack_files(root):
            check(pack)
            held = {location: names for text, names in _by_run(pack).items() if (location := Location.parse(text))}
            if not held.keys().isdisjoint(locations):
                new = {key: files for key, files in (instead or {}).items() if key in held}
                rest = {key: held[key] for key in held.keys() - set(locations)}
                _replace(root, pack, {**rest, **new}, locations, are_unpacked)
        sweep_abandoned(root / FOLDER)
        remove_empty(root / FOLDER, above=0)


def _replace(root: Path, pack: Path, rest: _Files, dropped: Collection[Location], are_unpacked: bool) -> None:
    if rest:
        write_pack(root, rest)
    # Hidden first: of a process that packs a run and one that unpacks it, at least one sees the other.
    hidden = part_of(pack)
    pack.rename(hidden)
    if are_unpacked and not all((location.under(root) / MANIFEST).exists() for location in dropped):
        hidden.rename(pack)
    else:
        hidden.unlink()


def _by_run(pack: Path) -> dict[str, dict[str, Path]]:
    """Return the paths of the members of each run in a pack, by name."""
    found: dict[str, dict[str, Path]] = {}
    for member in packs.members(pack):
        location, _, name = member.rpartition("/")
        found.setdefault(location, {})[name] = pack / member
    return found
