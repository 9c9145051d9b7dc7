"""The directory of a run: the only code that knows which files are in it, and when they count as done.

    description.json                what was computed; its digest is in the directory's name
    state_ep0_it0.safetensors       weights and buffers at a step
    mask.safetensors, sparsity.json of a branch
    checkpoint.safetensors          all that resuming needs; removed when the run is complete
    metrics.csv                     what was measured
    log.txt                         what was printed, with times; grows when a complete run is replayed
    output.txt, failure.json        of a run that an executor started: what its command printed, why it failed
    manifest.json                   written last: every other file with its SHA-256, and what the results came from
    manifest_2.json, ...            whole manifests after it, of runs that have other states now; the last one counts

A run is complete when manifest.json exists and its files match. Nothing else counts as done.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundations.description.desc import Desc, Source, StateOf
from foundations.description.step import Step
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import (
    PART,
    append,
    explain_os_errors,
    remove_empty,
    sha256_of_file,
)
from foundations.metrics import BEST_BY, Metrics
from foundations.plugins.kept import keep_plugins
from foundations.storage import sealed_json, tensor_files
from foundations.storage.locks import Holder, lock
from foundations.storage.manifest import FileRecord, Manifest
from foundations.storage.run_folder import DESCRIPTION as DESCRIPTION
from foundations.storage.run_folder import LEFT_OUT, RunFolder
from foundations.storage.run_folder import MANIFEST as MANIFEST

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.csv"
LOG = "log.txt"
OUTPUT = "output.txt"
FAILURE = "failure.json"
MASK = "mask.safetensors"
SPARSITY = "sparsity.json"
DAMAGED = "damaged_"
"""The prefix of files that were set aside."""
STATE = re.compile(r"state_ep(\d+)_it(\d+)\.safetensors")


class Run(RunFolder):
    """The directory of one description's run by one replicate."""

    # What is there.

    def exists(self) -> bool:
        """Return whether anything was ever written for this run."""
        return os.path.exists(self.folder / DESCRIPTION)  # noqa: PTH110 (no error where a colleague's folder is closed)

    # Working on it.

    @contextlib.contextmanager
    def locked(self, say: Callable[[str], None], *, wait: bool = True) -> Iterator[Holder]:
        """Hold the run's lock. If another process holds it, report which one and wait, or raise Busy."""
        with explain_os_errors("work in", self.root):
            held = contextlib.ExitStack()
            holder = held.enter_context(lock(self.lock_path, str(self), say, wait=wait))
        with held:
            for path in self.leftovers():
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            yield holder

    def leftovers(self) -> list[Path]:
        """Return stale files, such as a killed writer's, which are deleted when the lock is next taken."""
        with contextlib.suppress(OSError):  # a colleague's folder, say
            parts, checkpoint = list(self.folder.glob(f".*{PART}")), self.folder / CHECKPOINT
            return [*parts, checkpoint] if (self.folder / MANIFEST).exists() and checkpoint.is_file() else parts
        return []

    @property
    def output_path(self) -> Path:
        """The file with the output of the run's command, if an executor started it."""
        return self.folder / OUTPUT

    @property
    def lock_path(self) -> Path:
        """The run's lock: beside the runs, so that it outlives the directory's removal."""
        return self.root / ".locks" / f"{str(self.location).replace('/', '.')}.lock"

    def create(self, desc: Desc) -> bool:
        """Write the description, or compare it with the existing one; return whether it was written.

        The root keeps the files of the plug-ins that compute the run. Raises: DamagedError on a mismatch.
        """
        keep_plugins([*desc.main.plugins(), *desc.plugins()], self.root)
        if self.exists():
            self.check(desc)
            return False
        self.write(DESCRIPTION, sealed_json.to_bytes(desc.record()))
        return True

    def undo_create(self, start: Step | None = None) -> None:
        """Remove the directory again, where it holds nothing but the description, and the state at `start` if given."""
        found = {path.name for path in self.folder.iterdir()} - {OUTPUT, FAILURE}
        if found <= {DESCRIPTION} | ({self.state_name(start)} if start else set()):
            for name in found:
                (self.folder / name).unlink()
            remove_empty(self.folder, above=2)

    def check(self, desc: Desc) -> None:
        """Compare the stored description with the requested one. Raises: DamagedError on a mismatch."""
        if self.read_json(DESCRIPTION) != desc.record():  # equal ones need no hashing, which takes most of the time
            desc.check_record(self.record(), self.folder)

    def finish(self, manifest: Manifest) -> None:
        """Declare the run complete: record every file that is there, then remove the checkpoint.

        The checkpoint goes last: a process killed in between leaves a complete run with a useless file, until `locked`.
        Raises: DamagedError where a state, mask or report that an earlier process left is damaged.
        """
        for path in self.tensor_files():
            if path.name != CHECKPOINT:
                self.read_tensors(path.name)
        self.sparsity()
        self.clear_failure()
        names = {path.name for path in self.folder.iterdir()} - {MANIFEST, CHECKPOINT, LOG, OUTPUT, FAILURE}
        listed = sorted(name for name in names if not name.startswith((".", DAMAGED)))
        self.write_manifest(manifest, {name: FileRecord.of(self.folder / name) for name in listed})
        (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def add_to_manifest(self, name: str) -> None:
        """Record a file that was added to a complete run, such as a replayed state.

        Raises: EnvironmentFailure where the run was completed with another file of that name, which was removed since;
        the new one is removed.
        """
        manifest, first = self.read_manifest(), self.first_manifest()
        if manifest is None or first is None:
            raise EnvironmentFailure(f"There is no {MANIFEST} in {self.folder}.")
        found = FileRecord.of(self.path(name))
        if first.files.get(name, found) != found:
            self.path(name).unlink()
            raise EnvironmentFailure(
                f"A replay of {self} does not reproduce {name}, which is not kept here: the machine, the versions or "
                f"the number of processes differ from those in\n{self.path(MANIFEST)}"
            )
        self.write_manifest(manifest, {**manifest.files, name: found})

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
        found = filter(None, (STATE.fullmatch(path.name) for path in self.folder.glob("state_*.safetensors")))
        iterations = sorted(int(state[1]) * iterations_per_epoch + int(state[2]) for state in found)
        return [Step(iteration, iterations_per_epoch) for iteration in iterations]

    def save_state(self, step: Step, tensors: Mapping[str, Tensor]) -> None:
        """Keep weights and buffers at a step."""
        self._write_tensors(self.state_name(step), tensors)

    def load_state(self, step: Step) -> dict[str, Tensor]:
        """Return weights and buffers at a step, on the CPU.

        Raises: EnvironmentFailure where it was not kept; DamagedError where the file is not what was written, or, in a
        complete run, not the one that its manifest lists.
        """
        return self._read_recorded_tensors(self.state_name(step))[0]

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
        """Keep a packed mask: its tensors and its header."""
        self._write_tensors(MASK, bits, header)

    def load_mask(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and the header of the packed mask. Raises: as `load_state`."""
        return self._read_recorded_tensors(MASK)

    def save_checkpoint(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write everything that resuming needs, in one file."""
        self._write_tensors(CHECKPOINT, tensors, facts)

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the checkpoint's tensors and facts, or None where there is none. Raises: DamagedError."""
        if not os.path.lexists(self.folder / CHECKPOINT):
            return None
        tensors, facts = self.read_tensors(CHECKPOINT)
        if "step" not in facts:
            raise self.damaged(CHECKPOINT, "it is not a checkpoint")
        return tensors, facts

    def save_metrics(self, metrics: Metrics) -> None:
        """Write the metrics measured so far."""
        self.write(METRICS, metrics.to_csv().encode())

    def metrics(self) -> Metrics:
        """Return the metrics measured so far. Raises: as `check_metrics`."""
        data = self.check_metrics()
        try:
            return Metrics() if data is None else Metrics.from_csv(data.decode(errors="replace"))
        except DamagedError as error:  # which names no run
            raise self.damaged(METRICS, "it is not as it was written") from error

    def best_step(self, iterations_per_epoch: int) -> Step | None:
        """Return the first step where validation accuracy is best so far; None where it is not measured."""
        best = self.metrics().best_iteration(BEST_BY)
        return None if best is None else Step(best, iterations_per_epoch)

    def save_sparsity(self, report: Mapping[str, Any]) -> None:
        """Write the report on the mask."""
        self.write(SPARSITY, sealed_json.to_bytes(report))

    def sparsity(self) -> dict[str, Any] | None:
        """Return the report on the mask, or None where there is none. Raises: DamagedError."""
        return self._parsed(SPARSITY)

    def save_failure(self, facts: Mapping[str, Any]) -> None:
        """Write the facts about a failure of the run's command."""
        self.write(FAILURE, sealed_json.to_bytes(facts))

    def failure(self) -> dict[str, Any] | None:
        """Return the facts about the failure of the run's command; None if it has not failed since it last started."""
        return self._parsed(FAILURE)

    def clear_failure(self) -> None:
        """Forget that the run's command failed."""
        (self.folder / FAILURE).unlink(missing_ok=True)

    def log(self, line: str) -> None:
        """Add a line to log.txt, with the time."""
        with explain_os_errors("write", self.folder / LOG):
            append(self.folder / LOG, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n".encode())

    def tensor_files(self) -> list[Path]:
        """Return the states, the mask and the checkpoint that are there."""
        return sorted(path for path in self.folder.glob("*.safetensors") if not path.name.startswith(DAMAGED))

    def check_metrics(self) -> bytes | None:
        """Return the content of metrics.csv without parsing it, or None where there is none.

        Raises: DamagedError where it cannot be read or, in a complete run, is not what the manifest lists.
        """
        data = self._data(METRICS)
        if data is None:
            return None
        manifest = self.read_manifest()
        recorded = manifest.files.get(METRICS) if manifest else None
        if recorded is not None and hashlib.sha256(data).hexdigest() != recorded.sha256:
            raise self.damaged(METRICS, "its SHA-256 is not the one of its manifest")
        return data

    def read_tensors(self, name: str, *, is_checked: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and facts in a file, without comparing it with a manifest.

        is_checked: the file is known to have every byte that was written.
        Raises: EnvironmentFailure where there is no such file; DamagedError where it is not what this run wrote there.
        """
        owner = f"{self.location}/{name}"
        return tensor_files.read(self.folder / name, self.how_to_mend(), owner, is_checked=is_checked)

    def _read_recorded_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        manifest = self.manifest()
        recorded = manifest.files.get(name) if manifest else None
        if recorded is not None:
            self.check_bytes(name, recorded)
        elif name in self.left_out():
            raise EnvironmentFailure(f"{self} does not hold {name} here: {LEFT_OUT}")
        return self.read_tensors(name, is_checked=recorded is not None)

    def check_bytes(self, name: str, recorded: FileRecord) -> None:
        """Compare every byte of a file with its record in the manifest. Raises: DamagedError where they differ."""
        problem = recorded.difference(f"{self.folder}/{name}", of_bytes=True)
        if problem:
            raise self.damaged(name, problem)

    def _write_tensors(self, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> None:
        # The owner tells the file from those of other runs and steps.
        self.write(name, tensor_files.to_bytes(tensors, facts, owner=f"{self.location}/{name}"))
