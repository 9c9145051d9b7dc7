"""Jobs: how a description becomes a complete run, whatever was there before.

`complete` reuses the run, or resumes it, or starts it. `provide` makes just the states that somebody needs. Both work
for every job, since a job says only what is its own: its description, the runs that it needs, and the state and mask
that it starts from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from datasets.prepared import fingerprint
from foundations.address import Desc
from foundations.errors import DamagedError, UsageError, WorldError
from foundations.run import Manifest, Run
from foundations.step import Step
from platforms.base import Platform
from training.context import Context
from training.desc import TrainDesc

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.mask import Mask
    from training.session import Shrink


@dataclass(frozen=True)
class Beginning:
    """What a training starts from."""

    state: Mapping[str, Tensor]
    mask: Mask | None = None
    parents: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the parents' files that were used, by `<run>/<file>`."""


@dataclass(frozen=True)
class Outcome:
    """What a job came to."""

    run: Run
    manifest: Manifest
    reused: bool


class Job(ABC):
    """A description that can be computed."""

    desc: Desc
    training: TrainDesc
    """How it trains; of a branch, its trunk's."""
    start: Step

    @property
    def end(self) -> Step:
        """The last step."""
        return self.training.end

    def run(self, context: Context) -> Run:
        """Return the run's directory."""
        return Run(context.root, self.desc.location(context.replicate))

    @abstractmethod
    def resolve(self, context: Context) -> None:
        """Make what the job needs of other runs, before its own lock is taken: no job blocks on a job inside it."""

    @abstractmethod
    def begin(self, run: Run, context: Context, platform: Platform) -> Beginning:
        """Return what the training starts from, keeping in the run what should outlast an interruption.

        A resumed training calls it too, so that what was lost of that since is made again.
        """

    def shrink(self, context: Context, platform: Platform) -> Shrink | None:
        """Return how the mask changes while training, or None where it does not."""
        return None

    def conclude(self, run: Run, mask: Mask | None) -> None:
        """Keep in the run what only the end of training knows."""

    def results(self, run: Run) -> dict[str, float]:
        """Return headline figures beside the last value of each metric."""
        return {}


@dataclass(frozen=True)
class TrainJob(Job):
    """Train a network from its initialization."""

    desc: TrainDesc

    @property
    def training(self) -> TrainDesc:  # type: ignore[override]
        """The description itself."""
        return self.desc

    @property
    def start(self) -> Step:  # type: ignore[override]
        """The initialization."""
        return self.desc.start

    def resolve(self, context: Context) -> None:
        """Do nothing: a training from the start needs no other run."""

    def begin(self, run: Run, context: Context, platform: Platform) -> Beginning:
        """Draw the initialization of the replicate."""
        from training.session import blank_model

        return Beginning(blank_model(self.desc, context.replicate).state_dict())


def complete(job: Job, context: Context, keep: Collection[Step] = ()) -> Outcome:
    """Make sure that the job's run is complete and keeps the states at its start, its end and `keep`."""
    run = job.run(context)
    wanted = {job.start, job.end, *keep}
    outcome = _reuse(job, run, wanted, context)
    if outcome is not None:
        return outcome
    job.resolve(context)
    with run.locked(context.reporter.say):
        outcome = _reuse(job, run, wanted, context)
        if outcome is None:
            _launch(job, context, wanted, job.end)
    manifest = run.manifest()
    if manifest is None:
        raise WorldError(f"{run.folder} was removed while the job ran.")
    return outcome or Outcome(run, manifest, reused=False)


def provide(job: Job, context: Context, steps: Collection[Step]) -> Run:
    """Make sure that the run keeps the states at some steps, training or replaying no further than they need."""
    run = job.run(context)
    for step in steps:
        if not job.start <= step <= job.end:
            raise UsageError(f"{run} has no state at {step}. Possible: {job.start} to {job.end}.")
    manifest = run.manifest()
    if run.exists():
        run.check(job.desc)
    if manifest is not None:
        _check_dataset(job, manifest, context)
    if all(run.has_state(step) for step in steps):
        return run
    job.resolve(context)
    with run.locked(context.reporter.say):
        _launch(job, context, set(steps), max(steps))
    return run


def _launch(job: Job, context: Context, wanted: Collection[Step], until: Step) -> None:
    # Imported here so that reusing a run does not wait for torch.
    from training.execution import work

    context.platform.launch(partial(work, job, context, wanted, until))


def _reuse(job: Job, run: Run, wanted: Collection[Step], context: Context) -> Outcome | None:
    manifest = run.manifest()
    if manifest is None:
        return None
    run.check(job.desc)
    _check_dataset(job, manifest, context)
    if not all(run.has_state(step) for step in wanted):
        return None
    return Outcome(run, manifest, reused=True)


def _check_dataset(job: Job, manifest: Manifest, context: Context) -> None:
    """Refuse a result of other data. Where the dataset is not there, nothing speaks against the result."""
    name = job.training.dataset.dataset_name
    recorded, found = manifest.dataset.get(name), fingerprint(name, context.datasets)
    if recorded is not None and found is not None and recorded != found:
        raise DamagedError(
            f"{job.run(context).folder} was computed from other data: the fingerprint of {name} in\n"
            f"{context.datasets / name} is {found[:12]}..., the run's is {recorded[:12]}...\n"
            "Put the former data back, or choose another --root for results of the new."
        )
