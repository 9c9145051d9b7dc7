"""The directory of a run: the only code that knows which files are in it, and when they count as done.

    description.json                what was computed; its digest is in the directory's name
    state_ep0_it0.safetensors       weights and buffers at a step
    mask.safetensors, sparsity.json of a branch
    checkpoint.safetensors          all that resuming needs; removed when the run is complete
    metrics.csv                     what was measured
    log.txt                         what was printed, with times; grows when a complete run is replayed
    output.txt, failure.json        of a run that an executor started: what its command printed, why it failed
    manifest.json                   written last: every other file with its SHA-256, and what the results came from

A run is complete when manifest.json exists and its files match. Nothing else counts as done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundations import tensor_files
from foundations.address import Location
from foundations.desc import Desc, Source, StateOf, check_record
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import explain_os_errors, sha256_of_file, sweep_parts, write_atomically
from foundations.locks import Holder, lock
from foundations.manifest import FileRecord, Manifest
from foundations.metrics import BEST_BY, Metrics
from foundations.program import PROGRAM
from foundations.step import Step

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTION = "description.json"
MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.csv"
LOG = "log.txt"
OUTPUT = "output.txt"
FAILURE = "failure.json"
MASK = "mask.safetensors"
SPARSITY = "sparsity.json"
DAMAGED = "damaged_"
"""What the names of files begin with that were set aside."""
STATE = re.compile(r"state_ep(\d+)_it(\d+)\.safetensors")


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
        """Return whether anything was ever written for this run."""
        return (self.folder / DESCRIPTION).exists()

    def record(self) -> dict[str, Any]:
        """Return the stored description. Raises: DamagedError where it cannot be read or is not of this directory."""
        record = self.read_json(DESCRIPTION)
        check_record(record, self.folder)
        return record

    def manifest(self) -> Manifest | None:
        """Return the manifest, or None where the run is not complete.

        Raises: DamagedError where the manifest cannot be read, or a file is missing or has another size than it says.
        """
        manifest = self.read_manifest()
        for name, record in (manifest.files if manifest else {}).items():
            try:
                size = os.stat(f"{self.folder}/{name}").st_size  # noqa: PTH116 (a Path for each file takes as long)
            except FileNotFoundError:
                raise self.damaged(name, "it is missing") from None
            if size != record.size:
                raise self.damaged(name, f"it has {size} bytes, not the {record.size} of its manifest")
        return manifest

    def read_manifest(self) -> Manifest | None:
        """Return what the manifest says, whether or not the files agree, or None where there is none."""
        try:
            tree = self._parsed(MANIFEST)
            return None if tree is None else Manifest.of_tree(tree)
        except (KeyError, TypeError, AttributeError) as error:
            raise self.damaged(MANIFEST, "it is not a manifest") from error

    # Working on it.

    @contextlib.contextmanager
    def locked(self, say: Callable[[str], None], *, wait: bool = True) -> Iterator[Holder]:
        """Hold the run's lock. If another process holds it, report which one and wait, or raise Busy."""
        with explain_os_errors("work in", self.root):
            held = contextlib.ExitStack()
            holder = held.enter_context(lock(self.lock_path, str(self), say, wait=wait))
        with held:
            sweep_parts(self.folder)
            yield holder

    @property
    def output_path(self) -> Path:
        """What the run's command printed, where an executor started it."""
        return self.folder / OUTPUT

    @property
    def lock_path(self) -> Path:
        """The run's lock: beside the runs, so that it outlives the directory's removal."""
        return self.root / ".locks" / f"{str(self.location).replace('/', '.')}.lock"

    def create(self, desc: Desc) -> bool:
        """Write the description, or compare it with the one that is there; return whether it was written.

        Raises: DamagedError on a mismatch.
        """
        if self.exists():
            self.check(desc)
            return False
        self._write_json(DESCRIPTION, desc.record())
        return True

    def undo_create(self, start: Step | None = None) -> None:
        """Remove the directory again, where it holds nothing but the description, and the state at `start` if given."""
        found = {path.name for path in self.folder.iterdir()} - {OUTPUT, FAILURE}
        if found <= {DESCRIPTION} | ({self.state_name(start)} if start else set()):
            for name in found:
                (self.folder / name).unlink()
            self.remove_empty_folders()

    def remove_empty_folders(self) -> None:
        """Remove the run's folder and those above it, as far as they are empty."""
        for folder in (self.folder, self.folder.parent, self.folder.parent.parent):
            if folder.exists():
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def check(self, desc: Desc) -> None:
        """Compare the stored description with the requested one. Raises: DamagedError on a mismatch."""
        if self.read_json(DESCRIPTION) != desc.record():  # equal ones need no hashing, which takes most of the time
            desc.check_record(self.record(), self.folder)

    def finish(self, manifest: Manifest) -> None:
        """Declare the run complete: record every file that is there, then remove the checkpoint.

        The checkpoint goes last: a process killed in between leaves a complete run with a useless file.
        Raises: DamagedError where a state or mask that an earlier process left is damaged.
        """
        for path in self.tensor_files():
            if path.name != CHECKPOINT:
                tensor_files.read(path, self.how_to_mend())
        self.clear_failure()
        names = sorted(path.name for path in self.folder.iterdir() if _belongs_in_manifest(path))
        files = {name: FileRecord.of(self.folder / name) for name in names}
        self.write_manifest(manifest, files)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def add_to_manifest(self, name: str) -> None:
        """Record a file that a complete run has been given later, such as a replayed state."""
        manifest = self.read_manifest()
        if manifest is None:
            raise EnvironmentFailure(f"There is no {MANIFEST} in {self.folder}.")
        self.write_manifest(manifest, {**manifest.files, name: FileRecord.of(self.folder / name)})

    # Its files.

    @staticmethod
    def state_name(step: Step) -> str:
        """Return the name of the file of the state at a step."""
        return f"state_{step.file_name_part}.safetensors"

    def has_state(self, step: Step) -> bool:
        """Return whether the state at a step was kept; of a complete run, whether its manifest lists it."""
        manifest = self.manifest()
        name = self.state_name(step)
        return (self.folder / name).exists() if manifest is None else name in manifest.files

    def kept_states(self, iterations_per_epoch: int) -> list[Step]:
        """Return the steps whose states were kept, ascending."""
        found = [STATE.fullmatch(path.name) for path in self.folder.glob("state_*.safetensors")]
        return sorted(
            Step(int(m[1]) * iterations_per_epoch + int(m[2]), iterations_per_epoch) for m in found if m is not None
        )

    def save_state(self, step: Step, tensors: Mapping[str, Tensor]) -> None:
        """Keep weights and buffers at a step."""
        self.write(self.state_name(step), tensor_files.to_bytes(tensors))

    def load_state(self, step: Step) -> dict[str, Tensor]:
        """Return weights and buffers at a step, on the CPU.

        Raises: EnvironmentFailure where it was not kept; DamagedError where the file is not what was written, or, in a
        complete run, not the one that its manifest lists.
        """
        return self._read_tensors(self.state_name(step))[0]

    def remove_state(self, step: Step) -> None:
        """Remove the state at a step, if it is there."""
        (self.folder / self.state_name(step)).unlink(missing_ok=True)

    def fingerprint(self, source: Source) -> dict[str, str]:
        """Return `{<run>/<file>: SHA-256}` of the file of this run that a source is, as manifests record it."""
        name = self.state_name(source.step) if isinstance(source, StateOf) else MASK
        return {f"{self.location}/{name}": sha256_of_file(self.folder / name)}

    def has_mask(self) -> bool:
        """Return whether a mask and its report were kept."""
        return (self.folder / MASK).exists() and (self.folder / SPARSITY).exists()

    def save_mask(self, bits: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
        """Keep a mask, as the tensors and the header that it packs itself into."""
        self.write(MASK, tensor_files.to_bytes(bits, header))

    def load_mask(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what `save_mask` was given. Raises: as `load_state`."""
        return self._read_tensors(MASK)

    def save_checkpoint(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write all that resuming needs, in one file."""
        self.write(CHECKPOINT, tensor_files.to_bytes(tensors, facts))

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the checkpoint's tensors and facts, or None where there is none. Raises: DamagedError."""
        if not (self.folder / CHECKPOINT).exists():
            return None
        return tensor_files.read(self.folder / CHECKPOINT, self.how_to_mend())

    def save_metrics(self, metrics: Metrics) -> None:
        """Write what was measured so far."""
        self.write(METRICS, metrics.to_csv().encode())

    def metrics(self) -> Metrics:
        """Return what was measured so far.

        Raises: DamagedError where it cannot be read or, in a complete run, is not what the manifest lists.
        """
        path = self.folder / METRICS
        if not path.exists():
            return Metrics()
        data, manifest = path.read_bytes(), self.read_manifest()
        recorded = manifest.files.get(METRICS) if manifest else None
        if recorded is not None and hashlib.sha256(data).hexdigest() != recorded.sha256:
            raise self.damaged(METRICS, "its SHA-256 is not the one of its manifest")
        return Metrics.from_csv(data.decode(errors="replace"))

    def best_step(self, iterations_per_epoch: int) -> Step | None:
        """Return the step where validation accuracy is best so far, the first such; None where it is not measured."""
        best = self.metrics().best_iteration(BEST_BY)
        return None if best is None else Step(best, iterations_per_epoch)

    def save_sparsity(self, report: Mapping[str, Any]) -> None:
        """Write the report on the mask."""
        self._write_json(SPARSITY, report)

    def sparsity(self) -> dict[str, Any] | None:
        """Return the report on the mask, or None where there is none."""
        return self.read_json(SPARSITY) if (self.folder / SPARSITY).exists() else None

    def save_failure(self, facts: Mapping[str, Any]) -> None:
        """Write why the run's command failed."""
        self._write_json(FAILURE, facts)

    def failure(self) -> dict[str, Any] | None:
        """Return why the run's command failed, or None if it did not, or was started again since."""
        return self._parsed(FAILURE)

    def clear_failure(self) -> None:
        """Forget that the run's command failed."""
        (self.folder / FAILURE).unlink(missing_ok=True)

    def log(self, line: str) -> None:
        """Add a line to log.txt, with the time."""
        with explain_os_errors("write", self.folder / LOG), (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def write(self, name: str, data: bytes) -> None:
        """Write one of the run's files, whole or not at all."""
        write_atomically(self.folder / name, data)

    def write_manifest(self, manifest: Manifest, files: Mapping[str, FileRecord]) -> None:
        """Write the manifest, of some files."""
        self._write_json(MANIFEST, dataclasses.replace(manifest, files=dict(files)).to_dict())

    def tensor_files(self) -> list[Path]:
        """Return the states, the mask and the checkpoint that are there."""
        return sorted(path for path in self.folder.glob("*.safetensors") if not path.name.startswith(DAMAGED))

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file. Raises: EnvironmentFailure where it is missing; DamagedError."""
        tree = self._parsed(name)
        if tree is None:
            raise EnvironmentFailure(f"There is no {name} in {self.folder}.")
        return tree

    def _parsed(self, name: str) -> dict[str, Any] | None:
        """Return the object in a JSON file, or None where there is no such file. Raises: DamagedError."""
        try:
            # Unbuffered: half the system calls. Listing thousands of runs waits for this.
            with open(f"{self.folder}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 (a Path takes as long)
                tree = json.loads(file.read().decode())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise self.damaged(name, "it is not JSON") from error
        if not isinstance(tree, dict):
            raise self.damaged(name, "it is not a JSON object")
        return tree

    def damaged(self, name: str, why: str) -> DamagedError:
        """Return the error for a damaged file of the run."""
        return DamagedError(f"{self.folder / name} is damaged: {why}.\n{self.how_to_mend()}")

    def how_to_mend(self) -> str:
        """Return the command that mends the run, in words."""
        return f"To set it aside and make it anew: {PROGRAM} verify {self.location} --mend"

    def _read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        manifest = self.manifest()
        recorded = manifest.files.get(name) if manifest else None
        if recorded is not None and sha256_of_file(self.folder / name) != recorded.sha256:
            raise self.damaged(name, "its SHA-256 is not the one of its manifest")
        return tensor_files.read(self.folder / name, self.how_to_mend())

    def _write_json(self, name: str, tree: Mapping[str, Any]) -> None:
        self.write(name, (json.dumps(tree, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def source_run(source: Source, root: Path, replicate: int) -> Run:
    """Return the run that a source is of. replicate: that of the run that draws on it."""
    return Run(root, source.run.location(replicate))


def _belongs_in_manifest(path: Path) -> bool:
    return path.name not in (MANIFEST, CHECKPOINT, LOG, OUTPUT, FAILURE) and not path.name.startswith((".", DAMAGED))
