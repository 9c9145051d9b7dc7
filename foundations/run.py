"""The directory of a run: the only code that knows which files lie in it, and when they count as done.

    description.json                what was computed; its digest is in the directory's name
    state_ep0_it0.safetensors       weights and buffers at a step
    mask.safetensors, sparsity.json of a branch
    checkpoint.safetensors          all that resuming needs; gone when the run is complete
    metrics.csv                     what was measured
    log.txt                         what was printed, with times; grows when a complete run is replayed
    manifest.json                   comes last: every other file with its SHA-256, and what the results came from

A run is complete when manifest.json exists and its files match. Nothing else counts as done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataclasses_json import DataClassJsonMixin

from foundations import tensor_files
from foundations.address import Desc, Location, check_record
from foundations.errors import DamagedError, EnvironmentFailure, OpenPruneError
from foundations.files import explain_os_errors, sha256_of_file, sweep_parts, write_atomically
from foundations.locks import lock
from foundations.metrics import Metrics
from foundations.step import Step

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTION = "description.json"
MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.csv"
LOG = "log.txt"
MASK = "mask.safetensors"
SPARSITY = "sparsity.json"
_DAMAGED = "damaged_"
_STATE = re.compile(r"state_ep(\d+)_it(\d+)\.safetensors")


@dataclass(frozen=True)
class FileRecord(DataClassJsonMixin):
    """What a manifest says of a file."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Measure a file."""
        return cls(path.stat().st_size, sha256_of_file(path))


@dataclass(frozen=True)
class Manifest(DataClassJsonMixin):
    """What a complete run consists of and where it came from."""

    files: dict[str, FileRecord]
    results: dict[str, float | None]
    """Headline figures: the last value of each metric, and what the job adds (sparsity, ...).

    None where the value is no finite number, such as the loss of a training that diverged: JSON has no word for those.
    """
    dataset: dict[str, str] = field(default_factory=dict)
    """Name and fingerprint of the prepared dataset."""
    parents: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each parent's file that was used, by `<run>/<file>`."""
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    wall_seconds: float = 0.0
    finished: str = ""


class Run:
    """The directory of one description's run by one replicate."""

    def __init__(self, root: Path, location: Location) -> None:
        self.root = root
        self.location = location
        self.folder = location.under(root)

    def __str__(self) -> str:
        return str(self.location)

    # What is there.

    def exists(self) -> bool:
        """Tell whether anything was ever written for this run."""
        return (self.folder / DESCRIPTION).exists()

    def record(self) -> dict[str, Any]:
        """Return the stored description. Raises: DamagedError where it cannot be read or is not of this directory."""
        record = self._read_json(DESCRIPTION)
        check_record(record, self.folder)
        return record

    def manifest(self) -> Manifest | None:
        """Return the manifest, or None where the run is not complete.

        Raises: DamagedError where the manifest cannot be read, or a file is missing or has another size than it says.
        """
        manifest = self._read_manifest()
        for name, record in (manifest.files if manifest else {}).items():
            path = self.folder / name
            if not path.exists():
                raise self._damaged(name, "it is missing")
            if path.stat().st_size != record.size:
                raise self._damaged(name, f"it has {path.stat().st_size} bytes, not the {record.size} of its manifest")
        return manifest

    def verify(self) -> list[DamagedError]:
        """Check every byte against the manifest, and the description against the directory's name."""
        problems: list[DamagedError] = []
        with _collected(problems):
            self.record()
        manifest = None
        with _collected(problems):
            manifest = self.manifest()
        for name, record in (manifest.files if manifest else {}).items():
            if sha256_of_file(self.folder / name) != record.sha256:
                problems.append(self._damaged(name, "its SHA-256 is not the one of its manifest"))
        if manifest is None and not problems:
            for path in self._tensor_files():
                with _collected(problems):
                    tensor_files.read(path, self._how_to_mend())
        return problems

    def mend(self) -> list[str]:
        """Set damaged files aside (as `damaged_<name>`), so that the next job makes them anew. Returns their names.

        A damaged state can be replayed on its own. Without any other file the run does not count as complete any more.
        A directory whose description is of another run is left alone: none of its files can be trusted.
        """
        aside: list[str] = []

        def set_aside(name: str) -> None:
            if (self.folder / name).exists():
                (self.folder / name).replace(self.folder / f"{_DAMAGED}{name}")
            aside.append(name)

        manifest = None
        try:
            manifest = self._read_manifest()
        except DamagedError:
            set_aside(MANIFEST)
        vouched = manifest.files if manifest else {}
        for name, record in vouched.items():
            if not (self.folder / name).exists() or FileRecord.of(self.folder / name) != record:
                set_aside(name)
        if manifest is not None and aside:
            if all(_STATE.fullmatch(name) for name in aside):
                self._write_manifest(manifest, {name: r for name, r in vouched.items() if name not in aside})
            else:
                (self.folder / MANIFEST).unlink()
        for name in (DESCRIPTION, SPARSITY):
            if name not in vouched and (self.folder / name).exists():
                try:
                    self._read_json(name)
                except DamagedError:
                    set_aside(name)
        for path in self._tensor_files():
            if path.name not in vouched:
                try:
                    tensor_files.read(path, self._how_to_mend())
                except DamagedError:
                    set_aside(path.name)
        return aside

    # Working on it.

    @contextlib.contextmanager
    def locked(self, say: Callable[[str], None]) -> Iterator[None]:
        """Be the one process that works on this run; while another is, wait, saying for whom."""
        with explain_os_errors("work in", self.root):
            held = contextlib.ExitStack()
            held.enter_context(lock(self.lock_path, str(self), say))
        with held:
            sweep_parts(self.folder)
            yield

    @property
    def lock_path(self) -> Path:
        """The run's lock: beside the runs, so that it outlives the directory's removal."""
        return self.root / ".locks" / f"{str(self.location).replace('/', '.')}.lock"

    def begin(self, desc: Desc) -> None:
        """Write the description, or compare it with the one that is there. Raises: DamagedError on a mismatch."""
        if self.exists():
            self.check(desc)
        else:
            self._write_json(DESCRIPTION, desc.record())

    def withdraw(self) -> None:
        """Take `begin` back, where nothing was computed since."""
        if [path.name for path in self.folder.iterdir()] == [DESCRIPTION]:
            (self.folder / DESCRIPTION).unlink()
            self.folder.rmdir()

    def check(self, desc: Desc) -> None:
        """Compare the stored description with the requested one. Raises: DamagedError on a mismatch."""
        desc.refuse_mismatch(self.record(), self.folder)

    def finish(self, manifest: Manifest) -> None:
        """Declare the run complete: record every file that is there, then drop the checkpoint.

        The checkpoint goes last: a process killed in between leaves a complete run with a useless file.
        Raises: DamagedError where a state or mask that an earlier process left is damaged.
        """
        for path in self._tensor_files():
            if path.name != CHECKPOINT:
                tensor_files.read(path, self._how_to_mend())
        names = sorted(path.name for path in self.folder.iterdir() if _belongs_in_manifest(path))
        files = {name: FileRecord.of(self.folder / name) for name in names}
        self._write_manifest(manifest, files)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def amend(self, name: str) -> None:
        """Add a file that a complete run has been given later (a replayed state) to its manifest."""
        manifest = self._read_manifest()
        if manifest is None:
            raise EnvironmentFailure(f"There is no {MANIFEST} in {self.folder}.")
        self._write_manifest(manifest, {**manifest.files, name: FileRecord.of(self.folder / name)})

    # Its files.

    @staticmethod
    def state_name(step: Step) -> str:
        """Return the name of the file of the state at a step."""
        return f"state_{step.file_name_part}.safetensors"

    def has_state(self, step: Step) -> bool:
        """Tell whether the state at a step was kept; of a complete run, whether its manifest vouches for it."""
        manifest = self.manifest()
        name = self.state_name(step)
        return (self.folder / name).exists() if manifest is None else name in manifest.files

    def kept_states(self, iterations_per_epoch: int) -> list[Step]:
        """Return the steps whose states were kept, ascending."""
        found = [_STATE.fullmatch(path.name) for path in self.folder.glob("state_*.safetensors")]
        return sorted(
            Step(int(m[1]) * iterations_per_epoch + int(m[2]), iterations_per_epoch) for m in found if m is not None
        )

    def save_state(self, step: Step, tensors: Mapping[str, Tensor]) -> None:
        """Keep weights and buffers at a step."""
        self.write(self.state_name(step), tensor_files.to_bytes(tensors))

    def load_state(self, step: Step) -> dict[str, Tensor]:
        """Return weights and buffers at a step, on the CPU.

        Raises: EnvironmentFailure where it was not kept; DamagedError where the file is not what was written, or of a complete
        run not the one that its manifest vouches for.
        """
        return self._read_tensors(self.state_name(step))[0]

    def _read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        manifest = self.manifest()
        vouched = manifest.files.get(name) if manifest else None
        if vouched is not None and sha256_of_file(self.folder / name) != vouched.sha256:
            raise self._damaged(name, "its SHA-256 is not the one of its manifest")
        return tensor_files.read(self.folder / name, self._how_to_mend())

    def drop_state(self, step: Step) -> None:
        """Remove the state at a step, if it is there."""
        (self.folder / self.state_name(step)).unlink(missing_ok=True)

    def fingerprint_of_state(self, step: Step) -> dict[str, str]:
        """Return `{<run>/<file>: SHA-256}` of a kept state, as manifests of children record it."""
        return self._fingerprint(self.state_name(step))

    def fingerprint_of_mask(self) -> dict[str, str]:
        """Return `{<run>/<file>: SHA-256}` of the mask, as manifests of children record it."""
        return self._fingerprint(MASK)

    def _fingerprint(self, name: str) -> dict[str, str]:
        return {f"{self.location}/{name}": sha256_of_file(self.folder / name)}

    def has_mask(self) -> bool:
        """Tell whether a mask was kept."""
        return (self.folder / MASK).exists()

    def save_mask(self, bits: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
        """Keep a mask, as the tensors and the header that it packs itself into."""
        self.write(MASK, tensor_files.to_bytes(bits, header))

    def load_mask(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what `save_mask` was given. Raises: EnvironmentFailure where there is none; DamagedError."""
        return self._read_tensors(MASK)

    def save_checkpoint(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write all that resuming needs, in one file."""
        self.write(CHECKPOINT, tensor_files.to_bytes(tensors, facts))

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the checkpoint's tensors and facts, or None where there is none. Raises: DamagedError."""
        if not (self.folder / CHECKPOINT).exists():
            return None
        return tensor_files.read(self.folder / CHECKPOINT, self._how_to_mend())

    def save_metrics(self, metrics: Metrics) -> None:
        """Write what was measured so far."""
        self.write(METRICS, metrics.to_csv().encode())

    def metrics(self) -> Metrics:
        """Return what was measured so far."""
        path = self.folder / METRICS
        return Metrics.from_csv(path.read_text()) if path.exists() else Metrics()

    def save_sparsity(self, report: Mapping[str, Any]) -> None:
        """Write the report on the mask."""
        self._write_json(SPARSITY, report)

    def sparsity(self) -> dict[str, Any] | None:
        """Return the report on the mask, or None where there is none."""
        return self._read_json(SPARSITY) if (self.folder / SPARSITY).exists() else None

    def log(self, line: str) -> None:
        """Add a line to log.txt, with the time."""
        with explain_os_errors("write", self.folder / LOG), (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def write(self, name: str, data: bytes) -> None:
        """Write one of the run's files, whole or not at all."""
        write_atomically(self.folder / name, data)

    def _tensor_files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.safetensors") if not path.name.startswith(_DAMAGED))

    def _read_manifest(self) -> Manifest | None:
        """Return what the manifest says, whether or not the files agree."""
        if not (self.folder / MANIFEST).exists():
            return None
        try:
            tree = self._read_json(MANIFEST)
            # By hand: listing thousands of runs waits for this.
            files = {name: FileRecord(**record) for name, record in tree.pop("files").items()}
            return Manifest(files=files, **tree)
        except (KeyError, TypeError, AttributeError) as error:
            raise self._damaged(MANIFEST, "it is not a manifest") from error

    def _write_manifest(self, manifest: Manifest, files: Mapping[str, FileRecord]) -> None:
        self._write_json(MANIFEST, dataclasses.replace(manifest, files=dict(files)).to_dict())

    def _write_json(self, name: str, tree: Mapping[str, Any]) -> None:
        self.write(name, (json.dumps(tree, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            tree = json.loads((self.folder / name).read_bytes())
        except FileNotFoundError as error:
            raise EnvironmentFailure(f"There is no {name} in {self.folder}.") from error
        except ValueError as error:
            raise self._damaged(name, "it is not JSON") from error
        if not isinstance(tree, dict):
            raise self._damaged(name, "it is not a JSON object")
        return tree

    def _damaged(self, name: str, why: str) -> DamagedError:
        return DamagedError(f"{self.folder / name} is damaged: {why}.\n{self._how_to_mend()}")

    def _how_to_mend(self) -> str:
        return f"To set it aside and make it anew: python open_prune.py verify {self.location} --mend"


def _belongs_in_manifest(path: Path) -> bool:
    return path.name not in (MANIFEST, CHECKPOINT, LOG) and not path.name.startswith((".", _DAMAGED))


@contextlib.contextmanager
def _collected(problems: list[DamagedError]) -> Iterator[None]:
    try:
        yield
    except DamagedError as problem:
        problems.append(problem)
    except OpenPruneError as problem:
        problems.append(DamagedError(str(problem)))
