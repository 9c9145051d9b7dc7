"""What a measure works with: runs that note which files were read of them, a device, data. Imports no torch."""

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
    """Whether states that were not kept may be computed."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file that was read, by `<run>/<file>`."""
    dataset: dict[str, str] = field(default_factory=dict)
    """Fingerprint of each prepared dataset that was read, by name."""

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return self.context.platform.device

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Report the progress of a long operation; `done == total` ends it. Cheap."""
        self.context.reporter.progress(what, done, total, unit)

    def opened(self, run: StoredRun) -> MeasuredRun:
        """Return a run whose files are noted when they are read."""
        return MeasuredRun(run.location, run.environment, self)

    def use_dataset(self, run: StoredRun, name: str) -> None:
        """Note that a dataset is read for a measurement of a run, and prepare it where it is missing.

        Raises: DamagedError where the run was computed from other data; as `Context.prepare`.
        """
        self.context.prepare(name)
        check_dataset_of(run.folder, run.manifest, name, self.context)
        self.dataset[name] = self.context.fingerprint(name) or ""


@dataclass(frozen=True, repr=False)
class MeasuredRun(StoredRun):
    """A run that is measured: what is read of it, and of its relatives, is noted.

    Raises: EnvironmentFailure where it is not complete and more is read than the state that it starts from.
    """

    measuring: Measuring = field(compare=False)

    def state(self, step: Step | str | None = None, *, replay: bool = False) -> dict[str, torch.Tensor]:
        """Return what `StoredRun.state` does. Where the measurement may replay, missing states are computed."""
        if step is None or self.step(step) != self.description.start:
            refuse_incomplete(self)
        kept = self._kept(step, replay=replay or self.measuring.replay)
        self._note(Run.state_name(kept))
        return self._run.load_state(kept)

    def states(self, steps: Sequence[Step]) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the states at some steps, as `state` does. All that are missing are computed in one replay."""
        missing = [step for step in steps if step not in self.steps]
        if missing and self.measuring.replay:
            refuse_incomplete(self)
            self._replay(missing)
        for step in steps:
            yield self.state(step)

    def mask(self) -> Mask | None:
        """Return what `StoredRun.mask` does."""
        refuse_incomplete(self)
        if self._run.has_mask():
            self._note(MASK)
        return super().mask()

    def mask_at(self, step: Step) -> Mask | None:
        """Return the mask of the network at a step; None where it has none, or the run did not have its last one yet.

        A run whose mask changes while it trains keeps the last one alone.
        """
        techniques = techniques_in(RunRef(self.description))
        if techniques is not None and techniques.changes_mask and step != self.description.end:
            return None
        return self.mask() if self._run.has_mask() or step != self.description.start else None

    @property
    def metrics(self) -> Metrics:
        """What `StoredRun.metrics` is."""
        if self.manifest is None:
            raise _incomplete(self)
        self._note(METRICS)
        return super().metrics

    @property
    def trained(self) -> TrainDesc:
        """Dataset, model and training of the run."""
        return trained_of(RunRef(self.description))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape of one example: channels, height, width."""
        return self.trained.dataset.input_shape

    def network(self) -> nn.Module:
        """Return the run's network on the CPU, in eval mode, with no state's weights: for its structure."""
        return self._network().eval()

    def mask_of(self, model: nn.Module) -> Mask:
        """Return the run's mask or, where it has none, one that keeps every prunable weight of its network."""
        from pruning.masks.mask import Mask

        return self.mask() or Mask.ones(model)

    def chosen_steps(self, text: str | None) -> list[Step]:
        """Return the steps of an option that is a list of steps, ascending, each once; for None, all that were kept."""
        if not text:
            return self.steps
        return sorted(set(parse_steps(text, self.description.iterations_per_epoch)))

    def _note(self, name: str) -> None:
        self.measuring.files[f"{self.location}/{name}"] = current_sha256(self._run, name) or ""

    def _at(self, location: Location) -> MeasuredRun:
        return MeasuredRun(location, self.environment, self.measuring)

    def _replay_context(self) -> Context:
        return self.measuring.context


def refuse_incomplete(run: StoredRun) -> None:
    """Raise EnvironmentFailure where a run may get further states or another mask, DamagedError where it is damaged.

    A run of no iterations has all of them as soon as it has its first state: what is missing is its evaluation.
    """
    if run.manifest is None and not (is_untrained(run.description) and run.steps):
        raise _incomplete(run)


def _incomplete(run: StoredRun) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"{run} is {run.status}, so it cannot be measured yet. Run its command again: it continues from where it "
        "stopped."
    )


def current_sha256(run: Run, name: str) -> str | None:
    """Return the SHA-256 of one of a run's files, as its manifest has it; None where there is no such file."""
    manifest = run.manifest()
    if manifest is not None:
        return manifest.files[name].sha256 if name in manifest.files else None
    path = run.folder / name
    return sha256_of_file(path) if path.is_file() else None


def steps_of(run: MeasuredRun, options: Hparams) -> dict[str, str]:
    """Return the steps that the options mean for a run, by the name of the option; several with commas between."""
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
