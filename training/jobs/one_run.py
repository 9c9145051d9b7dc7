"""Execution of one run in its directory, which may have files of an earlier process."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Collection, Generator, Iterator
from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any

import torch

from datasets.added.added import register_added
from foundations.description.desc import Desc
from foundations.description.step import Step
from foundations.errors import DamagedError, EnvironmentFailure, Interrupted, OpenPruneError
from foundations.metrics import Metric, Metrics
from foundations.plan import PlannedRun
from foundations.registry import load
from foundations.storage.manifest import MANIFEST, Manifest
from platforms.platform import Platform
from training.context import Context
from training.job import Job
from training.jobs.provenance import versions
from training.loggers.follow import following
from training.loop.checkpoints import Progress
from training.loop.loop import Batch
from training.loop.trainer import Trainer

Gradients = tuple[Trainer, Batch]
"""A training, and the batch to compute gradients of (`Trainer.compute_gradients`)."""


def work(planned: PlannedRun, context: Context, platform: Platform) -> None:
    """Execute the plan for one run (see `steps_of`), and compute the gradients of each step."""
    with contextlib.closing(steps_of(planned, context, platform)) as steps:
        for trainer, batch in steps:
            trainer.compute_gradients(*batch)


def steps_of(planned: PlannedRun, context: Context, platform: Platform) -> Generator[Gradients, None, None]:
    """Execute the plan for one run and keep the requested states; yield each step to the caller.

    The run's lock is held. The caller computes the gradients of a step before it asks for the next one.
    Raises: Interrupted when asked to stop; DamagedError if a file of the run is damaged; EnvironmentFailure if a
    replay does not reproduce the kept states.
    """
    run, desc = planned.run, planned.desc
    if platform.world_size > 1:
        register_added(context.datasets)  # a new process does not know added datasets
    job: Job[Desc] = load(desc.job)(desc, run, context, platform)
    created = platform.is_primary and run.create(desc)
    try:
        if platform.is_primary and planned.manifest is None:
            run.check_own()  # another process may have completed it since
        yield from RunWork(job, is_complete=planned.manifest is not None).advance(planned)
        run.land()
    except (OpenPruneError, Interrupted):
        if created:
            run.undo_create()  # after a refused job, nothing looks like a run to resume
        raise


class RunWork:
    """The parts of a run's computation: keep the first state, replay, train, finish."""

    def __init__(self, job: Job[Any], *, is_complete: bool) -> None:
        self.job, self.run, self.desc = job, job.run, job.desc
        self.context, self.platform = job.context, job.platform
        self.is_complete = is_complete

    def advance(self, planned: PlannedRun) -> Iterator[Gradients]:
        """Execute the missing parts, each once; yield each training with the batch to compute gradients of."""
        missing, start, end = self.platform.agree(planned.missing), self.desc.start, self.desc.end
        resumed = None if self.is_complete else self._resume()
        if start in missing:
            self._keep_start()
            missing.remove(start)
        if not self.platform.agree(self.job.is_prepared):
            _ = self.job.initial  # recreates files that `verify --mend` moved away
        reached = end if self.is_complete else resumed[1].step if resumed else start
        behind = [step for step in missing if step < reached or self.is_complete]
        if behind:
            yield from self._replay(behind)
        ahead = [step for step in missing if step not in behind]
        if not self.is_complete and (ahead or planned.is_target):
            yield from self._train(resumed, ahead, planned.until)

    def _resume(self) -> tuple[Trainer, Progress] | None:
        job = self.job
        resumed = Trainer.resume(self.run, job.trained, self.context, self.platform, techniques=job.techniques)
        if resumed is not None and resumed[1].dataset != self._dataset():
            raise DamagedError(
                f"{self.run.folder} was begun with other data than {self.context.datasets} now holds "
                f"(dataset {self.desc.dataset_name}).\n"
                "Put the former data back, or choose another root for results of the new."
            )
        return resumed

    def _keep_start(self) -> None:
        # Techniques may prepare the network, for which they need a whole training.
        model = self.fresh.model if self.job.techniques else self.job.initial.masked()
        if self.platform.is_primary:
            with self.fresh.hooks.evaluated() if self.job.techniques else nullcontext():
                self.run.save_state(self.desc.start, model.state_dict())
            if self.is_complete:
                self.run.add(self.run.state_name(self.desc.start))

    @cached_property
    def fresh(self) -> Trainer:
        """A training in its initial state."""
        job = self.job
        trainer = Trainer(
            job.initial.model, job.trained, self.context, self.platform, job.replicate, techniques=job.techniques
        )
        trainer.prepare(job.initial.mask, self.desc.start)
        return trainer

    def _train(
        self, resumed: tuple[Trainer, Progress] | None, keep: Collection[Step], until: Step
    ) -> Iterator[Gradients]:
        start, end = self.desc.start, self.desc.end
        if resumed is not None:
            trainer, progress = resumed
            self._say(f"Resuming {self.run} at {progress.step} of {end}.")
        else:
            progress = Progress(start, parents=self.job.initial.parents, dataset=self._dataset())
            trainer = self.fresh
            self._say(f"Starting {self.run}: {until.iteration - start.iteration} iterations.")
        # States that an interrupted process kept after its last checkpoint are of this training only once it is there.
        later = self.platform.agree(lambda: self.run.kept_states(self.desc.iterations_per_epoch))
        keep = {*keep, *(step for step in later if progress.step < step <= until)}
        logs = self.context.logs if self.platform.is_primary else ()
        with following(self.run, logs, self.context.reporter.say) as follower:
            for batch in trainer.advance(self.run, progress, until, keep, follower.tell):
                yield trainer, batch
            if not self.platform.is_primary:
                return
            if until == end:
                self._finish(trainer, progress)
                follower.finish()
            else:
                trainer.save_checkpoint(self.run, progress)

    def _replay(self, steps: list[Step]) -> Iterator[Gradients]:
        """Train again from the start, without new metrics, to keep states that were not kept the first time."""
        trainer = self.fresh
        self.run.land()  # other processes of the training read the states, too
        self._say(f"Replaying {self.run} to {steps[-1]} for {len(steps)} state(s) that were not kept.")
        kept = self.platform.agree(lambda: self.run.kept_states(self.desc.iterations_per_epoch))
        known = [step for step in kept if step < steps[-1] and self.platform.agree(partial(self.run.has_state, step))]

        def check(step: Step) -> None:
            stored = self.run.load_state(step)
            with trainer.hooks.evaluated():
                found = trainer.model.state_dict()
                is_same = all(torch.equal(tensor, found[name].cpu()) for name, tensor in stored.items())
            if not is_same:
                raise EnvironmentFailure(
                    f"A replay of {self.run} does not reproduce the state that was kept at {step}: the machine, the\n"
                    "versions or the number of processes differ from those in\n"
                    f"{self.run.path(MANIFEST)}, or the run was stacked with others.\n"
                    "Replay it on the machine and with the versions that computed it. Of a run that is to be stacked,\n"
                    "keep the states that you need with --weight_save_steps."
                )

        try:
            for batch in trainer.replay(self.run, self.desc.start, steps, known, check):
                yield trainer, batch
        except EnvironmentFailure:
            for step in steps:
                self.run.remove_state(step)
            raise
        if self.is_complete and self.platform.is_primary:
            self.run.add(*map(self.run.state_name, steps))

    def _finish(self, trainer: Trainer, progress: Progress) -> None:
        if trainer.best and (best := progress.metrics.best_iteration(trainer.task.headline)) is not None:
            self.run.save_state(self.desc.start.at(best), trainer.best)
        self.run.save_metrics(progress.metrics)
        results = _results(progress.metrics, trainer.task.headline) | self.job.on_finish(
            trainer.model, trainer.mask, trainer.scores
        )
        self.context.reporter.say(f"Finished {self.run}.")
        self.run.finish(
            Manifest(
                files={},
                results={name: value if math.isfinite(value) else None for name, value in results.items()},
                dataset=progress.dataset,
                parents=progress.parents,
                versions=versions(),
                device=_where(self.platform, trainer),
                wall_seconds=round(progress.wall_seconds, 3),
                finished=time.strftime("%Y-%m-%d %H:%M:%S"),
            )
        )

    def _dataset(self) -> dict[str, str]:
        found = self.platform.agree(lambda: self.context.fingerprint(self.desc.dataset_name))
        return {} if found is None else {self.desc.dataset_name: found}

    def _say(self, line: str) -> None:
        if self.platform.is_primary:
            self.context.reporter.say(line)
            self.run.log(line)


def _where(platform: Platform, trainer: Trainer) -> str:
    """Return the device that a run was computed on, and whether the run was stacked with others, as text."""
    stacked = f", stacked with {trainer.stacked - 1} other runs" if trainer.stacked > 1 else ""
    return platform.describe() + stacked


def _results(metrics: Metrics, headline: Metric) -> dict[str, float]:
    """Return the last value of each metric, and the headline metric of the test set where validation is best."""
    found = {name: metrics.last(name) for name in metrics.names()} | metrics.selected(headline)
    return {name: value for name, value in found.items() if value is not None}
