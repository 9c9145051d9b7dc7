"""Doing a job's work in its directory, from whatever an earlier process left there."""

from __future__ import annotations

import math
import time
from collections.abc import Collection

import torch

from datasets.prepared import fingerprint
from foundations.errors import DamagedError, EnvironmentFailure, OpenPruneError
from foundations.run import Manifest, Run
from foundations.step import Step
from platforms.base import Platform
from training.context import Context
from training.job import Beginning, Job
from training.provenance import versions
from training.session import Progress, Session, Shrink


def work(job: Job, context: Context, wanted: Collection[Step], until: Step, platform: Platform) -> None:
    """Bring the run to `until` and keep the states at the wanted steps. The run's lock is held.

    Raises: Interrupted when asked to stop; DamagedError where a file of the run is damaged; EnvironmentFailure where a replay
    does not meet the states that are kept.
    """
    run = job.run(context)
    begins = platform.is_primary and not run.exists()
    try:
        _Worker(job, context, platform).work(wanted, until)
    except OpenPruneError:
        if begins:
            run.withdraw()  # a job that was refused leaves nothing that looks like a run to go on with
        raise


class _Worker:
    def __init__(self, job: Job, context: Context, platform: Platform) -> None:
        self.job, self.context, self.platform = job, context, platform
        self.run: Run = job.run(context)

    def work(self, wanted: Collection[Step], until: Step) -> None:
        if self.platform.is_primary:
            self.run.begin(self.job.desc)
        is_complete = self.run.manifest() is not None
        resumed = None if is_complete else self._resume()
        missing = sorted(step for step in wanted if not self.run.has_state(step))
        if self.job.start in missing:
            self._keep_start(is_complete)
            missing.remove(self.job.start)
        reached = self.job.end if is_complete else resumed[1].step if resumed else self.job.start
        behind = [step for step in missing if step < reached or is_complete]
        if behind:
            self._replay(behind, is_complete)
        ahead = [step for step in missing if step not in behind]
        if not is_complete and (ahead or until == self.job.end):
            self._train(resumed, ahead, until)

    def _resume(self) -> tuple[Session, Progress] | None:
        resumed = Session.resume(self.run, self.job.training, self.context, self.platform)
        if resumed is not None and resumed[1].dataset != self._dataset():
            raise DamagedError(
                f"{self.run.folder} was begun with other data than {self.context.datasets} now holds "
                f"(dataset {self.job.training.dataset.dataset_name}).\n"
                "Put the former data back, or choose another --root for results of the new."
            )
        return resumed

    def _begin(self) -> Beginning:
        return self.job.begin(self.run, self.context, self.platform)

    def _keep_start(self, is_complete: bool) -> None:
        if not self.platform.is_primary:
            return
        self.run.save_state(self.job.start, self._begin().state)
        if is_complete:
            self.run.amend(self.run.state_name(self.job.start))

    def _train(self, resumed: tuple[Session, Progress] | None, keep: Collection[Step], until: Step) -> None:
        if resumed is not None:
            session, progress = resumed
            self._begin()  # makes what an earlier beginning kept and somebody set aside
            self._say(f"Resuming {self.run} at {progress.step} of {self.job.end}.")
        else:
            beginning = self._begin()
            session = Session(self.job.training, self.context, self.platform, beginning.state)
            session.wear(beginning.mask)
            progress = Progress(self.job.start, parents=beginning.parents, dataset=self._dataset())
            self._say(f"Starting {self.run}: {until.iteration - self.job.start.iteration} iterations.")
        session.advance(self.run, progress, until, keep, self._shrink())
        if not self.platform.is_primary:
            return
        if until == self.job.end:
            self._finish(session, progress)
        else:
            session.save_checkpoint(self.run, progress)

    def _replay(self, steps: list[Step], is_complete: bool) -> None:
        """Train again from the start, aside, to keep states that were not kept the first time."""
        self._say(f"Replaying {self.run} to {steps[-1]} for {len(steps)} state(s) that were not kept.")
        beginning = self._begin()
        session = Session(self.job.training, self.context, self.platform, beginning.state)
        kept_steps = self.run.kept_states(self.job.training.iterations_per_epoch)
        known = [step for step in kept_steps if step < steps[-1] and self.run.has_state(step)]

        def check(step: Step) -> None:
            kept, found = self.run.load_state(step), session.model.state_dict()
            if any(not torch.equal(tensor, found[name].cpu()) for name, tensor in kept.items()):
                raise EnvironmentFailure(
                    f"A replay of {self.run} does not meet the state that was kept at {step}: the machine or the\n"
                    f"versions are others than {self.run.folder / 'manifest.json'} names. Replay it where it was made."
                )

        session.wear(beginning.mask)
        try:
            session.replay(self.run, self.job.start, steps, known, check, self._shrink())
        except EnvironmentFailure:
            for step in steps:
                self.run.drop_state(step)
            raise
        if is_complete:
            for step in steps:
                self.run.amend(self.run.state_name(step))

    def _shrink(self) -> Shrink | None:
        return self.job.shrink(self.context, self.platform)

    def _finish(self, session: Session, progress: Progress) -> None:
        metrics = progress.metrics
        self.run.save_metrics(metrics)
        self.job.conclude(self.run, session.mask)
        found = {name: metrics.last(name) for name in metrics.names()} | self.job.results(self.run)
        selected = metrics.at_best("test_accuracy", by="validation_accuracy")
        if selected is not None:
            found["selected_test_accuracy"] = selected
        self.context.reporter.say(f"Finished {self.run}.")
        self.run.finish(
            Manifest(
                files={},
                results={
                    name: value if value is not None and math.isfinite(value) else None for name, value in found.items()
                },
                dataset=progress.dataset,
                parents=progress.parents,
                versions=versions(),
                device=self.platform.describe(),
                wall_seconds=round(progress.wall_seconds, 3),
                finished=time.strftime("%Y-%m-%d %H:%M:%S"),
            )
        )

    def _dataset(self) -> dict[str, str]:
        name = self.job.training.dataset.dataset_name
        found = fingerprint(name, self.context.datasets)
        return {} if found is None else {name: found}

    def _say(self, line: str) -> None:
        if self.platform.is_primary:
            self.context.reporter.say(line)
            self.run.log(line)
