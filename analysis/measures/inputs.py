"""Inputs of measures: runs that record which of their files are read, a device, data. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from analysis.rows.run import StoredRun
from branches.desc import is_untrained, techniques_in, trained_of
from foundations.description.address import Location
from foundations.description.desc import RunRef
from foundations.description.hparams import Hparams, fields_of
from foundations.description.step import Step, parse_steps
from foundations.errors import EnvironmentFailure
from foundations.files import sha256_of_file
from foundations.inputs import Inputs
from foundations.metrics import Metrics
from foundations.storage.run import MASK, METRICS, Run
from training.context import Context
from training.jobs.compute import check_dataset_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pruning.masks.mask import Mask
    from training.desc import TrainDesc


@dataclass
class Measuring:
    """One measurement in progress."""

    context: Context
    """Datasets, platform and reporter."""
    replay: bool = False
    """Whether missing states may be computed."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file that the measure read, by `<run>/<file>`."""
    dataset: dict[str, str] = field(default_factory=dict)
    """Fingerprint of each prepared dataset that the measure read, by name."""

    @property
    def device(self) -> torch.device:
        """The device to compute on."""
        return self.context.platform.device

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Report the progress of a long operation; `done == total` ends it. Cheap."""
        self.context.reporter.progress(what, done, total, unit)

    def opened(self, run: StoredRun) -> MeasuredRun:
        """Return a run that records its files when they are read."""
        return MeasuredRun(run.location, run.environment, self)

    def use_dataset(self, run: StoredRun, name: str) -> None:
        """Record that a measurement of a run reads a dataset, and prepare the dataset if it is missing.

        Raises: DamagedError if the run was computed from other data; as `Context.prepare`.
        """
        self.context.prepare(name)
        check_dataset_of(run.folder, run.manifest, name, self.context)
        self.dataset[name] = self.context.fingerprint(name) or ""


@dataclass(frozen=True, repr=False)
class MeasuredRun(StoredRun):
    """A run under measurement, which records the files that are read of it and of its relatives.

    Raises: EnvironmentFailure if it is not complete, for anything but its first state.
    """

    measuring: Measuring = field(compare=False)

    def state(self, step: Step | str | None = None, *, replay: bool = False) -> dict[str, torch.Tensor]:
        """Return the same as `StoredRun.state`. Compute missing states if the measurement may replay."""
        if step is None or self.step(step) != self.description.start:
            refuse_incomplete(self)
        kept = self._kept(step, replay=replay or self.measuring.replay)
        self._note(Run.state_name(kept))
        return self._run.load_state(kept)

    def states(self, steps: Sequence[Step]) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the states at some steps, as `state` does. Compute all missing ones in one replay."""
        missing = [step for step in steps if step not in self.steps]
        if missing and self.measuring.replay:
            refuse_incomplete(self)
            self._replay(missing)
        for step in steps:
            yield self.state(step)

    def mask(self) -> Mask | None:
        """Return the same as `StoredRun.mask`."""
        refuse_incomplete(self)
        if self._run.has_mask():
            self._note(MASK)
        return super().mask()

    def mask_at(self, step: Step) -> Mask | None:
        """Return the mask of the network at a step; None if it has none, or its mask was not final at that step.

        A run whose mask changes in training keeps only the final one.
        """
        techniques = techniques_in(RunRef(self.description))
        if techniques is not None and techniques.changes_mask and step != self.description.end:
            return None
        return self.mask() if self._run.has_mask() or step != self.description.start else None

    @property
    def metrics(self) -> Metrics:
        """The same as `StoredRun.metrics`."""
        if self.manifest is None:
            raise _incomplete(self)
        self._note(METRICS)
        return super().metrics

    @property
    def trained(self) -> TrainDesc:
        """Dataset, model and training of the run."""
        return trained_of(RunRef(self.description))

    @property
    def inputs(self) -> Inputs:
        """The inputs of the network."""
        return self.trained.dataset.inputs

    def network(self) -> nn.Module:
        """Return the run's network on the CPU, in eval mode, for its structure only: it has no state's weights."""
        return self._network().eval()

    def mask_of(self, model: nn.Module) -> Mask:
        """Return the run's mask or, if it has none, one that keeps every prunable weight of its network."""
        from pruning.masks.mask import Mask

        return self.mask() or Mask.ones(model)

    def chosen_steps(self, text: str | None) -> list[Step]:
        """Return the steps of an option with a list of steps, ascending, without repeats; for None, all kept steps.

        A step counts as kept if `gc` has removed its state since.
        """
        if not text:
            return sorted({*self.steps, *self.evicted_steps})
        return sorted(set(parse_steps(text, self.description.iterations_per_epoch)))

    def _note(self, name: str) -> None:
        self.measuring.files[f"{self.location}/{name}"] = current_sha256(self._run, name) or ""

    def _at(self, location: Location) -> MeasuredRun:
        return MeasuredRun(location, self.environment, self.measuring)

    def _replay_context(self) -> Context:
        return self.measuring.context


def refuse_incomplete(run: StoredRun) -> None:
    """Raise EnvironmentFailure if a run may still get states or another mask, DamagedError if it is damaged.

    A run of no iterations has all its states once it has the first: only its evaluation is missing.
    """
    if run.manifest is None and not (is_untrained(run.description) and run.steps):
        raise _incomplete(run)


def _incomplete(run: StoredRun) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"{run} is {run.status}, so it cannot be measured yet. Run its command again: it continues from where it "
        "stopped."
    )


def current_sha256(run: Run, name: str) -> str | None:
    """Return the SHA-256 of one of a run's files, or of an evicted state, from its manifest; None if there is none."""
    manifest = run.manifest()
    if manifest is not None:
        recorded = manifest.files.get(name, manifest.evicted.get(name))
        return recorded.sha256 if recorded else None
    path = run.path(name)
    return sha256_of_file(path) if path.is_file() else None


def steps_of(run: MeasuredRun, options: Hparams) -> dict[str, str]:
    """Return the resolved steps of the options for a run, by the name of the option; several separated by commas."""
    found = {}
    for option in fields_of(type(options)):
        value = getattr(options, option.name)
        if not value and (option.rule.is_step or option.rule.is_step_list):
            refuse_incomplete(run)  # the last state so far is not the last one
        if option.rule.is_step:
            found[option.name] = str(run.step(value))
        elif option.rule.is_step_list:
            found[option.name] = ",".join(map(str, run.chosen_steps(value)))
    return found
