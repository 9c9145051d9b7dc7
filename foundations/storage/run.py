"""A run: the only code that knows which files it has, and when they count as done.

    description.json                what was computed; its digest is in the directory's name
    state_ep0_it0.safetensors       weights and buffers at a step
    mask.safetensors, sparsity.json of a branch
    checkpoint.safetensors          all that resuming needs; removed when the run is complete
    metrics.csv                     what was measured
    log.txt                         what was printed, with times; grows when a complete run is replayed
    output.txt, failure.json        of a run that an executor started: what its command printed, why it failed
    manifest.json, manifest_2.json  every other file with its SHA-256, and what the results came from

A run is complete when its final folder has a manifest whose files match. Nothing else counts as done. Until then, the
files are in a working folder (`foundations.storage.working_run`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from foundations.description.desc import Desc, Source, StateOf, check_record
from foundations.description.step import Step
from foundations.errors import Busy, DamagedError, EnvironmentFailure
from foundations.files import explain_os_errors, remove_empty, sha256_of_file, write_atomically
from foundations.metrics import Metrics, headline_of
from foundations.packs import time_of
from foundations.plugins.kept import keep_plugins
from foundations.program import PROGRAM
from foundations.storage import sealed_json, tensor_files
from foundations.storage.amendments import LEFT_OUT, AmendedRun
from foundations.storage.manifest import MANIFEST, FileRecord, Manifest, manifest_number
from foundations.storage.run_folder import CHECKPOINT, DAMAGED, DESCRIPTION, FAILURE, LOG, OUTPUT, STATE

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

METRICS = "metrics.csv"
MASK = "mask.safetensors"
SPARSITY = "sparsity.json"
_RESULTS = (".safetensors", ".csv", ".json")
__all__ = [
    "CHECKPOINT",
    "DAMAGED",
    "DESCRIPTION",
    "FAILURE",
    "LOG",
    "MANIFEST",
    "MASK",
    "METRICS",
    "OUTPUT",
    "SPARSITY",
    "STATE",
    "Run",
]


class Run(AmendedRun):
    """The run of one description by one replicate."""

    # Its description, its beginning and its end.

    def record(self) -> dict[str, Any]:
        """Return the stored description. Raises: DamagedError where it cannot be read or is not of this directory."""
        record = self.read_json(DESCRIPTION)
        check_record(record, self.place)
        return record

    def changed(self) -> float:
        """Return when the run was completed or, if it is not complete, written last. Raises: OSError."""
        return time_of(self.path(MANIFEST) if self.is_published else self.folder)

    def check_place(self) -> None:
        """Check that the directory is not another run's as a whole. Raises: DamagedError."""
        self.record()

    def create(self, desc: Desc) -> bool:
        """Write the description, or compare it with the existing one; return whether it was written.

        Files of an interrupted process are taken over. The root keeps the files of the plug-ins that compute the run.
        Raises: DamagedError on a mismatch.
        """
        keep_plugins([*desc.main.plugins(), *desc.plugins()], self.root)
        self.begin()
        if self.exists() and self.check(desc):
            return False
        self.write(DESCRIPTION, sealed_json.to_bytes(desc.record()))
        return True

    def undo_create(self, start: Step | None = None) -> None:
        """Remove the directory again, where it holds nothing but the description, and the state at `start` if given."""
        with contextlib.suppress(FileNotFoundError, Busy):
            if self.is_published or not self.claim():
                return
            self.land()
            folder = self.folder
            found = {path.name for path in folder.iterdir()} - {OUTPUT, FAILURE}
            if found <= {DESCRIPTION} | ({self.state_name(start)} if start else set()):
                for name in sorted(found):
                    (folder / name).unlink()
                folder.rmdir()
                self._let_go()
                remove_empty(self.final.parent, above=1)

    def check(self, desc: Desc) -> bool:
        """Compare the stored description with the requested one; return False if a power cut left only a part of it.

        Raises: DamagedError on a mismatch.
        """
        try:
            is_same = self.read_json(DESCRIPTION) == desc.record()  # needs no hashing, which takes most of the time
        except DamagedError:
            if self._has_results():
                raise
            return False
        if not is_same:
            desc.check_record(self.record(), self.place)
        return True

    def _has_results(self) -> bool:
        """Return whether any file is there that is flushed after the description, or with it."""
        return self.is_published or any(name != DESCRIPTION and name.endswith(_RESULTS) for name in self._names())

    def finish(self, manifest: Manifest) -> None:
        """Complete the run: record every file that is there, and give the folder its final name.

        Raises: DamagedError where a state, mask or report that an earlier process left is damaged; PublishedFirst or
        TakenOver where another process has completed the run, or taken its files over.
        """
        self.begin()
        self.check_own()
        try:
            files = self._recorded()
        except (OSError, EnvironmentFailure):
            self.check_own()
            raise
        self.publish(manifest, files)

    def _recorded(self) -> dict[str, FileRecord]:
        """Read the states, the mask and the report, and return the records of all files that a manifest lists.

        Files that wait to be flushed are those that this process has written, so they are not read back.
        """
        for path in self.tensor_files():
            if path.name != CHECKPOINT and self._pending.data(path.name) is None:
                self.read_tensors(path.name)
        self.sparsity()
        names = set(self._names()) - {CHECKPOINT, LOG, OUTPUT, FAILURE}
        listed = sorted(each for each in names if not each.startswith((".", DAMAGED)) and not manifest_number(each))
        return {name: self._record_of(name) for name in listed}

    def _record_of(self, name: str) -> FileRecord:
        data = self._pending.data(name)
        return self.read(name, FileRecord.of) if data is None else FileRecord.of_bytes(data)

    # Its files.

    @staticmethod
    def state_name(step: Step) -> str:
        """Return the name of the file of the state at a step."""
        return f"state_{step.file_name_part}.safetensors"

    def has_state(self, step: Step) -> bool:
        """Return whether the state at a step was kept; of a complete run, whether its manifest lists it."""
        manifest = self.manifest()
        name = self.state_name(step)
        return self._holds(name) if manifest is None else name in manifest.files

    def kept_states(self, iterations_per_epoch: int) -> list[Step]:
        """Return the steps whose states were kept, ascending."""
        return _steps_of(self._names(), iterations_per_epoch)

    def evicted_states(self, iterations_per_epoch: int) -> list[Step]:
        """Return the steps whose states `gc` removed, ascending. Raises: DamagedError."""
        manifest = self.read_manifest()
        return _steps_of(manifest.evicted if manifest else (), iterations_per_epoch)

    def save_state(self, step: Step, tensors: Mapping[str, Tensor]) -> None:
        """Keep weights and buffers at a step; of a complete run, for `add` to publish them. Raises: as `write`."""
        self._write_tensors(self.state_name(step), tensors)

    def load_state(self, step: Step) -> dict[str, Tensor]:
        """Return weights and buffers at a step, on the CPU.

        Raises: EnvironmentFailure where it was not kept; DamagedError where the file is not what was written, or, in a
        complete run, not the one that its manifest lists.
        """
        return self._read_recorded_tensors(self.state_name(step))[0]

    def remove_state(self, step: Step) -> None:
        """Remove the state at a step that was written since the run was begun, or was complete."""
        folder = self._added or self.folder
        if folder != self.place:
            self._pending.drop(self.state_name(step))
            (folder / self.state_name(step)).unlink(missing_ok=True)

    def fingerprint(self, source: Source) -> dict[str, str]:
        """Return `{<run>/<file>: SHA-256}` of the file of this run that a source is, as manifests record it."""
        name = self.state_name(source.step) if isinstance(source, StateOf) else MASK
        return {f"{self.location}/{name}": self.read(name, sha256_of_file)}

    def has_mask(self) -> bool:
        """Return whether a mask and its report were kept."""
        return self._holds(MASK) and self._holds(SPARSITY)

    def save_mask(self, bits: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
        """Keep a packed mask: its tensors and its header."""
        self._write_tensors(MASK, bits, header)

    def load_mask(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and the header of the packed mask. Raises: as `load_state`."""
        return self._read_recorded_tensors(MASK)

    def save_checkpoint(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write everything that resuming needs, in one file. Raises: as `check_own`."""
        if self._own is not None:
            self.check_own()
        self._write_tensors(CHECKPOINT, tensors, facts)

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the checkpoint's tensors and facts, or None where there is none. Raises: DamagedError."""
        if not os.path.lexists(self.path(CHECKPOINT)):
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
        """Return the first step where the headline metric of held out examples is best; None if it is not measured."""
        best = self.metrics().best_iteration(headline_of(self.record()))
        return None if best is None else Step(best, iterations_per_epoch)

    def save_sparsity(self, report: Mapping[str, Any]) -> None:
        """Write the report on the mask."""
        self.write(SPARSITY, sealed_json.to_bytes(report))

    def sparsity(self) -> dict[str, Any] | None:
        """Return the report on the mask, or None where there is none. Raises: DamagedError."""
        return self._parsed(SPARSITY)

    def save_failure(self, facts: Mapping[str, Any]) -> None:
        """Write the facts about a failure of the run's command."""
        write_atomically(self.path(FAILURE), sealed_json.to_bytes(facts))

    def failure(self) -> dict[str, Any] | None:
        """Return the facts about the failure of the run's command; None if it has not failed since it last started."""
        return self._parsed(FAILURE)

    def clear_failure(self) -> None:
        """Forget that the run's command failed."""
        for folder in (self.generations.folder, self.final):
            with explain_os_errors("write", folder), contextlib.suppress(NotADirectoryError):
                (folder / FAILURE).unlink(missing_ok=True)
        self.generations.tidy()

    def tensor_files(self) -> list[Path]:
        """Return the states, the mask and the checkpoint that are there."""
        names = [name for name in self._names() if name.endswith(".safetensors")]
        folder = self.folder
        return [folder / name for name in sorted(names) if not name.startswith((".", DAMAGED))]

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file. Raises: EnvironmentFailure where it is missing; DamagedError."""
        tree = self._parsed(name)
        if tree is None:
            raise EnvironmentFailure(f"There is no {name} in {self.folder}.")
        return tree

    def _parsed(self, name: str) -> dict[str, Any] | None:
        """Return the object in a JSON file, or None where there is no such file. Raises: DamagedError."""
        path = str(self.path(name)) if name == FAILURE else f"{self.folder}/{name}"
        data = self.data(name, path)
        if data is None:
            return None
        try:
            return sealed_json.from_bytes(data, path)
        except ValueError as error:
            raise self.damaged(name, str(error)) from error

    def check_metrics(self) -> bytes | None:
        """Return the content of metrics.csv without parsing it, or None where there is none.

        Raises: DamagedError where it cannot be read or, in a complete run, is not what the manifest lists.
        """
        data = self.data(METRICS, f"{self.folder}/{METRICS}")
        if data is None:
            return None
        manifest = self.read_manifest()
        recorded = manifest.files.get(METRICS) if manifest else None
        if recorded is not None and hashlib.sha256(data).hexdigest() != recorded.sha256:
            raise self.damaged(METRICS, "its SHA-256 is not the one of its manifest")
        return data

    def _evicted(self, name: str) -> EnvironmentFailure:
        """Return the error for a state that `gc` removed."""
        found = STATE.fullmatch(name)
        step = f"{found[1]}ep{found[2]}it" if found else name
        return EnvironmentFailure(
            f"`{PROGRAM} gc` removed {name} of {self}, since a replay gives it back.\n"
            f"To replay it, give the command that computed the run, with --weight_save_steps={step}."
        )

    def read_tensors(self, name: str, *, is_checked: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and facts in a file, without comparing it with a manifest.

        is_checked: the file is known to have every byte that was written.
        Raises: EnvironmentFailure where there is no such file; DamagedError where it is not what this run wrote there.
        """
        owner, path = f"{self.location}/{name}", self.path(name)
        try:
            return self.read(
                name, lambda path: tensor_files.read(path, self.how_to_mend(), owner, is_checked=is_checked)
            )
        except EnvironmentFailure:
            self._is_complete = False
            if self.path(name) == path:
                self.check_there()
                raise
        # It was packed or unpacked meanwhile.
        return tensor_files.read(self.path(name), self.how_to_mend(), owner, is_checked=is_checked)

    def _read_recorded_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        manifest = self.manifest()
        recorded = manifest.files.get(name) if manifest else None
        if recorded is not None:
            self.check_bytes(name, recorded)
        elif manifest and name in manifest.evicted:
            recorded = manifest.evicted[name]  # `gc` lists a state so before it knows whether a process uses it
            if recorded.difference(str(self.path(name)), of_bytes=True):
                raise self._evicted(name)
        elif name in self.left_out():
            raise EnvironmentFailure(f"{self} does not hold {name} here: {LEFT_OUT}")
        return self.read_tensors(name, is_checked=recorded is not None)

    def check_bytes(self, name: str, recorded: FileRecord) -> None:
        """Compare every byte of a file with its record in the manifest. Raises: DamagedError where they differ."""
        problem = recorded.difference(str(self.path(name)), of_bytes=True)
        if problem:
            self._is_complete = False  # it may have been packed or unpacked meanwhile
            problem = recorded.difference(str(self.path(name)), of_bytes=True)
        if problem:
            raise self.damaged(name, problem)

    def _write_tensors(self, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> None:
        # The owner tells the file from those of other runs and steps.
        self.write(name, tensor_files.to_bytes(tensors, facts, owner=f"{self.location}/{name}"))


def _steps_of(names: Iterable[str], iterations_per_epoch: int) -> list[Step]:
    """Return the steps of the states among some names of files, ascending."""
    found = filter(None, map(STATE.fullmatch, names))
    iterations = sorted(int(state[1]) * iterations_per_epoch + int(state[2]) for state in found)
    return [Step(iteration, iterations_per_epoch) for iteration in iterations]
