"""Shared files that arrive: read, checked, and made runs of the root. Nothing in them is executed.

Everything is unpacked into a folder beside the runs and checked there, as a root of its own. A run then gets its place
by one rename, so it is there whole and checked, or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from analysis.sharing.claims import check_run
from analysis.sharing.shared_file import FORM, INDEX, PLUGINS, PURPOSE, REPORT, RUNS, SIGNATURE, TABLE
from foundations.description.address import MAIN, Location
from foundations.errors import Busy, DamagedError, EnvironmentFailure, UsageError
from foundations.files import explain_os_errors, sha256_of_file, write_atomically
from foundations.parts import is_abandoned, part_of
from foundations.plain_tar import BLOCK, END, NotPlain, padded, read_content, read_header
from foundations.registry import KEPT
from foundations.storage import sealed_json
from foundations.storage.adopt import adopt
from foundations.storage.manifest import FileRecord
from foundations.storage.origins import FOLDER, Origin, keep_origin
from foundations.storage.root_format import check_format
from foundations.storage.run import MANIFEST, Run
from foundations.storage.signatures import Signature, verify

_MOST_BYTES_OF_INDEX = 1 << 28
_DIGEST = r"[0-9a-f]{32}"
_FILE = r"[A-Za-z0-9_][\w.-]{0,199}"
_RUN_FILE = re.compile(
    rf"{RUNS}/((?:train|import)_{_DIGEST}/replicate_[1-9]\d{{0,14}}/(?:main|branch_[\w.-]{{1,100}}_{_DIGEST}))/({_FILE})",
    re.ASCII,
)
_PLUGIN_FILE = re.compile(rf"{PLUGINS}/([0-9a-f]{{64}})/([\w -]{{1,100}})\.py", re.ASCII)
_STAGING = "arriving"


@dataclass
class Received:
    """The runs of a shared file, by their treatment."""

    new: list[Run] = field(default_factory=list)
    known: list[Run] = field(default_factory=list)
    """Runs that were here, with the same manifest."""
    own: list[Run] = field(default_factory=list)
    """Complete runs that are here with another manifest, such as computed ones; they stay."""
    not_complete: list[Run] = field(default_factory=list)
    """Runs that are not complete here, or in use, and stay as they are."""
    states: int = 0
    """States that were added to runs that were here."""
    without_states: int = 0
    """New runs that lack some of their states."""
    plugins: list[Path] = field(default_factory=list)
    """Files of plug-ins that were kept."""
    key: str = ""
    """The public key that signed the file, if any."""
    signed_by: str = ""
    """Its name among the trusted keys."""


def receive(path: Path, root: Path, trusted_file: Path, *, require_signed: bool = False) -> Received:
    """Import a shared file: check all of it, then make its runs runs of the root.

    trusted_file: the list of trusted keys. require_signed: whether one of them must have signed the file.
    Raises: DamagedError that names the file and its fault, and UsageError about `require_signed`; then no run has been
    imported. EnvironmentFailure.
    """
    check_format(root)
    found = Received()
    with _staging(root) as staging:
        runs = _unpacked(path, staging, found, trusted_file, require_signed=require_signed)
        for run in runs:
            with _damage_in(path):
                check_run(run, root)
        found.plugins = _keep_plugins(staging, root)
        # First: an import that is cut off leaves no run without its origin.
        new = [run for run in runs if not Run(root, run.location).exists()]
        if new:
            runs_of_it = {str(run): sha256_of_file(run.path(MANIFEST)) for run in new}
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            keep_origin(Origin(path.name, sha256_of_file(path), now, found.signed_by, runs_of_it), root)
        _publish(runs, root, found)
    return found


@contextlib.contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """Yield a folder on the root's file system, and remove it at the end, as well as killed processes' before."""
    above = root / FOLDER
    with explain_os_errors("write in", above):
        above.mkdir(parents=True, exist_ok=True)
        for other in above.glob(f".{_STAGING}.*"):
            if is_abandoned(other.name, _STAGING):
                shutil.rmtree(other, ignore_errors=True)
        staging = part_of(above / _STAGING)
        staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with contextlib.suppress(OSError):
            above.rmdir()


@contextlib.contextmanager
def _damage_in(path: Path) -> Iterator[None]:
    """Name the shared file in errors about its content."""
    try:
        yield
    except DamagedError as error:
        raise DamagedError(f"{path} was not imported: {str(error).splitlines()[0]}") from error


def _refused(path: Path, why: str) -> DamagedError:
    return DamagedError(f"{path} is not as `share` wrote it: {why}. Nothing was imported.")


def _unpacked(path: Path, staging: Path, found: Received, trusted_file: Path, *, require_signed: bool) -> list[Run]:
    """Unpack a shared file; return its runs under the staging folder, trainings first."""
    try:
        with path.open("rb") as archive:
            index = _content(archive, INDEX, _MOST_BYTES_OF_INDEX)
            found.key, found.signed_by, start = _signer(archive, index, trusted_file)
            if require_signed and not found.signed_by:
                known = "by an unknown key" if found.key else "by nobody"
                raise UsageError(f"{path} is signed {known}.", "require_signed")
            members, locations = _read_index(index)
            size = start + sum(BLOCK + padded(record.size) for record in members.values()) + len(END)
            if path.stat().st_size != size:
                raise NotPlain(f"it has {path.stat().st_size:,} bytes, and its index says {size:,}")
            with explain_os_errors("write in", staging):
                for name, record in members.items():
                    _unpack(archive, name, record, staging)
            if read_header(archive) is not None:
                raise NotPlain("it has more files than its index")
    except FileNotFoundError as error:
        raise EnvironmentFailure(f"There is no file {path}.") from error
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refused(
            path, str(error) if isinstance(error, NotPlain) else f"its index is damaged ({error})"
        ) from error
    return [Run(staging, location) for location in sorted(locations, key=lambda each: (each.name != MAIN, str(each)))]


def _signer(archive: IO[bytes], index: bytes, trusted_file: Path) -> tuple[str, str, int]:
    """Return the key that signed the index, its name among the trusted ones, and the place where the members begin."""
    start = archive.tell()
    header = read_header(archive)
    if header is None or header[0] != SIGNATURE:
        archive.seek(start)
        return "", "", start
    archive.seek(start)
    signature = Signature.from_bytes(_content(archive, SIGNATURE, BLOCK))
    return signature.key, verify(PURPOSE, index, signature, trusted_file), archive.tell()


def _content(archive: IO[bytes], name: str, most: int) -> bytes:
    header = read_header(archive)
    if header is None or header[0] != name or header[1] > most:
        raise NotPlain(f"{name} is not where it belongs")
    return b"".join(read_content(archive, header[1]))


def _read_index(index: bytes) -> tuple[dict[str, FileRecord], list[Location]]:
    """Return the members in order, and the locations of the runs. Raises: ValueError and others."""
    tree = sealed_json.from_bytes(index, INDEX)
    if tree["share"] != FORM:
        raise NotPlain(f"it is of form {tree['share']}, and this version reads form {FORM}")
    members = {name: FileRecord.of_tree(record) for name, record in sorted(tree["members"].items())}
    locations: dict[str, Location] = {}
    for name in members:
        of_run = _RUN_FILE.fullmatch(name)
        location = Location.parse(of_run[1]) if of_run else None
        if location is not None:
            locations[str(location)] = location
        elif not _PLUGIN_FILE.fullmatch(name) and name not in (REPORT, TABLE):
            raise NotPlain(f"{name!r} is not the name of a member")
    if sorted(locations) != sorted(tree["runs"]):
        raise NotPlain("its runs are not those of its files")
    return members, list(locations.values())


def _unpack(archive: IO[bytes], name: str, record: FileRecord, staging: Path) -> None:
    if read_header(archive) != (name, record.size):
        raise NotPlain(f"{name} is not where it belongs")
    of_run, plugin = _RUN_FILE.fullmatch(name), _PLUGIN_FILE.fullmatch(name)
    path = staging / KEPT / name if plugin else staging / (f"{of_run[1]}/{of_run[2]}" if of_run else name)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for piece in read_content(archive, record.size):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != record.sha256 or (plugin and plugin[1] != record.sha256):
        raise NotPlain(f"{name} does not have the SHA-256 that is stated")


def _keep_plugins(staging: Path, root: Path) -> list[Path]:
    """Keep the files of plug-ins under the root, as files to look at: importing a run executes none of them."""
    kept = []
    for path in sorted((staging / KEPT / PLUGINS).glob("*/*.py")):
        target = root / KEPT / path.parent.name / path.name
        if not target.exists():
            write_atomically(target, path.read_bytes())
        kept.append(target)
    return kept


def _publish(runs: Sequence[Run], root: Path, found: Received) -> None:
    for staged in runs:
        run = Run(root, staged.location)
        try:
            with explain_os_errors("write in", run.place.parent), run.locked(lambda _: None, wait=False):
                _publish_one(staged, run, found)
        except Busy:
            found.not_complete.append(run)


def _publish_one(staged: Run, run: Run, found: Received) -> None:
    """Give a checked run its place, or compare it with the one that is there. The run's lock is held."""
    lacks_states = bool(staged.left_out())
    if run.adopt(staged.place):
        found.new.append(run)
        found.without_states += lacks_states
    elif run.read_manifest() is None:
        found.not_complete.append(run)
    elif sha256_of_file(run.path(MANIFEST)) == sha256_of_file(staged.path(MANIFEST)):
        found.known.append(run)
        found.states += _add_states(staged, run)
    else:
        found.own.append(run)


def _add_states(staged: Run, run: Run) -> int:
    """Add the states that a run lacks here and that came with it; return how many."""
    here, came = run.read_manifest(), staged.read_manifest()
    assert here is not None and came is not None, "both are complete"
    added = [name for name in came.files if name not in here.files]
    if added:
        if run.upstream is not None:
            adopt(run, lambda _: None)
        run.add(*added, source=staged.place)
    return len(added)
