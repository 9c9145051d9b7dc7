"""How a job becomes a complete run, whatever was there before.

`complete` reuses the run, or resumes it, or starts it. `provide` makes just the states that somebody needs. Neither
imports torch where there is nothing to compute.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from datasets.prepared import fingerprint
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from foundations.run import Manifest, Run
from foundations.step import Step
from training.context import Context
from training.job import Job, Outcome


def complete(job: Job, context: Context, keep: Collection[Step] = ()) -> Outcome:
    """Make sure that the job's run is complete and keeps the states at its start, its end and `keep`."""
    run = job.run(context)
    wanted = {job.start, job.end, *keep}
    outcome = _reuse(job, run, wanted, context)
    if outcome is not None:
        return outcome
    context.prepare(job.training.dataset.dataset_name)  # before anything is begun that would wait for it in vain
    job.resolve(context)
    with run.locked(context.reporter.say):
        outcome = _reuse(job, run, wanted, context)
        if outcome is None:
            _launch(job, context, wanted, job.end)
    manifest = run.manifest()
    if manifest is None:
        raise EnvironmentFailure(f"{run.folder} was removed while the job ran.")
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
