"""The manifests of a complete run: what is added to it later, or removed on purpose, makes a further one.

`manifest.json` is number 1 and stays. Number n is `manifest_<n>.json`: whole, and linked to a name that nobody else
has taken. The highest number counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from foundations.access import is_denied, reason
from foundations.errors import ClosedError, DamagedError, EnvironmentFailure
from foundations.files import (
    create_file,
    explain_os_errors,
    is_folder,
    looks,
    make_folder,
    publish_file,
    publish_folder,
    read_file,
    refresh_folder,
)
from foundations.packs import exists, names_in
from foundations.storage import tensor_files
from foundations.storage.manifest import (
    MANIFEST,
    NOT_A_MANIFEST,
    FileRecord,
    Manifest,
    manifest_name,
    manifest_number,
)
from foundations.storage.root_format import state_format
from foundations.storage.run_folder import DAMAGED, OF_EXECUTORS, STATE
from foundations.storage.working_run import WorkingRun

_ATTEMPTS = 100
LEFT_OUT = (
    "it was left out when the run was shared, or removed to make room. A job that needs it computes it again from the "
    "description."
)


class AmendedRun(WorkingRun):
    """A run's folders, with the manifests in its final one."""

    def manifest(self) -> Manifest | None:
        """Return the manifest, or None where the run is not complete.

        Raises: DamagedError where the manifest cannot be read, or a file is missing or has another size than it says.
        """
        manifest = self.read_manifest()
        place = str(self.place)
        for name, record in (manifest.files if manifest else {}).items():
            problem = record.difference(f"{place}/{name}")
            if problem and (self.has_moved(Path(place)) or not record.difference(f"{place}/{name}")):
                return self.manifest()
            if problem and self.manifest_number() > 1:  # the file of an amendment may be seen later than its manifest
                problem = self._patient_difference(name, record)
            if problem:
                raise self.damaged(name, problem)
        return manifest

    def read_manifest(self) -> Manifest | None:
        """Return the latest manifest without comparing the files with it, or None where there is none."""
        while number := self.manifest_number():
            place = self.place
            found = self.latest(number)[1]
            if found is not None or not self.has_moved(place):
                return found
        return None

    def latest(self, at_least: int) -> tuple[int, Manifest | None]:
        """Return the latest manifest and its number; 1 and None where there is none.

        at_least: the number of a manifest that is known to be there, or 1.
        Raises: DamagedError where the manifest cannot be read.
        """
        for _ in looks():
            name = manifest_name(at_least)
            path = f"{self.place}/{name}"
            data = self.data(name, path)
            self._is_complete = data is not None
            if data is not None or at_least == 1:
                break
            at_least = max(at_least, self.manifest_number())
        return at_least, self._parsed_manifest(name, data)

    def first_manifest(self) -> Manifest | None:
        """Return the manifest with which the run was completed, whatever was removed or added since.

        Raises: DamagedError where it cannot be read.
        """
        return self._parsed_manifest(MANIFEST, self.data(MANIFEST, f"{self.place}/{MANIFEST}"))

    def _parsed_manifest(self, name: str, data: bytes | None) -> Manifest | None:
        try:
            manifest = None if data is None else Manifest.from_bytes(data, f"{self.place}/{name}")
        except NOT_A_MANIFEST as error:
            raise self.damaged(name, "it is not a manifest, or not as it was written") from error
        if manifest and manifest.run not in ("", str(self)):
            self.check_place()
            raise self.damaged(name, f"it belongs to {manifest.run}")
        return manifest

    def data(self, name: str, path: str = "") -> bytes | None:
        """Return the content of a file, or None where there is none. Raises: DamagedError for anything but a file.

        path: the path of the file, if known.
        """
        waiting = self._pending.data(name)
        if waiting is not None:
            return waiting
        place, path = self.place, path or str(self.path(name))
        try:
            return read_file(path)
        except (FileNotFoundError, NotADirectoryError):
            is_elsewhere = os.path.dirname(path) not in (str(self.place), str(self.folder))  # noqa: PTH120
            is_moved = self._own is None and name not in OF_EXECUTORS and (is_elsewhere or self.has_moved(place))
            if is_moved or exists(path):
                return self.data(name)  # another process has renamed the folder, packed or unpacked it
            if os.path.islink(path):  # noqa: PTH114
                raise self.damaged(name, "it is a link to nothing") from None
            self.check_there()
            return None
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EFBIG, errno.EISDIR, errno.ELOOP, errno.ENXIO):
                raise self.damaged(name, error.strerror or "it cannot be read") from error
            kind = ClosedError if is_denied(error) else EnvironmentFailure
            raise kind(f"Cannot read {path}: {reason(error)}.") from error

    def adopt(self, folder: Path) -> bool:
        """Make a finished folder, with its manifest inside, the run's final one.

        Returns False, and leaves all as it is, where the run is there, complete or not. Raises: EnvironmentFailure.
        """
        if self.is_published or self.exists():
            return False
        with explain_os_errors("write", self.final):
            state_format(self.root)
            make_folder(self.final.parent)
            try:
                publish_folder(folder, self.final)
            except FileExistsError:
                return False
            except FileNotFoundError:
                if is_folder(folder) or not self.is_published:  # else the reply was lost
                    raise
        return True

    @contextlib.contextmanager
    def copied(self, generation: str) -> Iterator[Path]:
        """Yield a new working folder for a copy of the complete run, which becomes the final folder here at the end.

        generation: that of the manifest in the copy. Raises: as `check_own`.
        """
        with explain_os_errors("write", self.final):
            state_format(self.root)
            own = self._own = self.generations.begin(is_owned=self._holder is not None)
        try:
            yield own
            with explain_os_errors("write", self.final):
                self._publish(own, generation)
        except (OSError, EnvironmentFailure):
            self.check_own()
            raise
        finally:
            self._own = None
            self.generations.discard(own)
            self.generations.tidy()
            self.look_again()

    def left_out(self) -> list[str]:
        """Return the files that a complete run had when it was completed, and does not have here."""
        manifest, first = self.read_manifest(), self.first_manifest()
        return [] if manifest is None or first is None else sorted(first.files.keys() - manifest.files.keys())

    def why_no_state(self) -> str:
        """Return a sentence on why a run holds no state."""
        return f"{self} holds no state: {LEFT_OUT}" if self.left_out() else f"{self} holds no state yet."

    def check_place(self) -> None:
        """Check that the directory is not another run's as a whole. Raises: DamagedError."""

    def manifest_number(self) -> int:
        """Return the number of the latest manifest that this machine sees; 0 where there is no `manifest.json`."""
        self._packed = None
        try:
            names = names_in(self.unpacked)  # called for each run of a listing
            if MANIFEST not in names and self.is_published:
                names = names_in(self.place)
        except OSError:
            return int(self.is_published)  # a colleague's folder, say: reading the manifest reports it
        if MANIFEST not in names:
            return 0
        return max([manifest_number(name) or 1 for name in names if name.startswith("manifest_")], default=1)

    def amended(
        self, files: Mapping[str, FileRecord] | None = None, without: Iterable[str] = (), *, evicted: bool = False
    ) -> Manifest:
        """Write the next manifest, with further files, or without some; return it. If nothing changes, write none.

        evicted: whether these others are states that a replay gives back, so that the manifest keeps their records.
        Raises: EnvironmentFailure where the run is not complete, or its folder cannot be written; DamagedError.
        """
        self.refuse_upstream()
        gone, at_least = set(without), 1
        for _ in range(_ATTEMPTS):
            number, manifest = self.latest(max(at_least, self.manifest_number()))
            if manifest is None:
                break
            listed = {name: each for name, each in {**manifest.files, **(files or {})}.items() if name not in gone}
            if listed == manifest.files:
                return manifest
            records = {**manifest.evicted, **({name: manifest.files.get(name) for name in gone} if evicted else {})}
            left = {name: record for name, record in records.items() if record is not None and name not in listed}
            amended = dataclasses.replace(manifest, files=listed, evicted=left, run=str(self))
            with explain_os_errors("write", self.place):
                try:
                    create_file(self.place / manifest_name(number + 1), amended.to_bytes())
                    return amended
                except FileExistsError:
                    at_least = number + 1
                except FileNotFoundError:  # another process has removed the temporary file as a leftover
                    if not self.is_published:
                        break
        raise EnvironmentFailure(f"There is no {MANIFEST} in {self.place}.")

    def add(self, *names: str, source: Path | None = None) -> None:
        """Publish files that were written since the run was complete, and list them in a further manifest.

        Where another process has published a whole file of that name before, that one stays.
        source: another folder that the files are in.
        Raises: EnvironmentFailure where the run had another file of that name before, which was removed since.
        """
        self.refuse_upstream()
        if source is not None:
            self.unpack()
        added = source or self._added
        if added is not None:
            first, manifest = self.first_manifest(), self.read_manifest()
            former = {**(first.files if first else {}), **(manifest.evicted if manifest else {})}
            with self._writing(added, names[0]):
                for name in names:
                    self._check_added(added / name, name, former)
                for name in names:
                    self._publish_added(added / name, name)
        self.amended(files={name: FileRecord.of(self.place / name) for name in names})
        self._drop_added()

    def _check_added(self, added: Path, name: str, former: Mapping[str, FileRecord]) -> None:
        found = FileRecord.of(added)
        if former.get(name, found) != found:
            self._drop_added()
            raise EnvironmentFailure(
                f"A replay of {self} does not reproduce {name}, which is not kept here: the machine, the versions or "
                f"the number of processes differ from those in\n{self.place / MANIFEST}"
            )

    def remove_superseded(self) -> None:
        """Remove the manifests between the first and the latest one."""
        for number in range(2, self.manifest_number()):
            (self.place / manifest_name(number)).unlink(missing_ok=True)

    def _publish_added(self, added: Path, name: str) -> None:
        try:
            publish_file(added, self.place / name)
        except FileExistsError:
            refresh_folder(self.place)
            try:
                tensor_files.read(self.place / name, self.how_to_mend(), f"{self.location}/{name}")
            except DamagedError:
                self.set_aside(name)
                publish_file(added, self.place / name)

    def set_aside(self, name: str) -> None:
        """Rename a damaged file to `damaged_<name>`, or a further name of that kind, if it is there."""
        self.refuse_upstream()
        path = self.path(name)
        with contextlib.suppress(FileNotFoundError):
            path.rename(free_path(path.with_name(f"{DAMAGED}{name}")))

    def _patient_difference(self, name: str, record: FileRecord) -> str:
        problem = ""
        for _ in looks():
            problem = record.difference(f"{self.place}/{name}")
            listed = self.read_manifest()
            if not problem or listed is None or listed.files.get(name) != record:
                return ""
        return problem


def why_not_amended(files: Mapping[str, FileRecord], first: Manifest) -> str:
    """Return why a run that was completed with one manifest cannot have these files now; empty if it can.

    States may have been removed and added since, and a state that was added again is the same. Nothing else changes.
    """
    for name, record in files.items():
        if name not in first.files and not STATE.fullmatch(name):
            return f"it lists {name}, which the first manifest does not"
        if first.files.get(name, record) != record:
            return f"{name} is not the one of the first manifest"
    return ""


def free_path(path: Path) -> Path:
    """Return an unused path, so that files set aside earlier stay."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not os.path.lexists(each))
