"""Execution of descriptions: from any earlier state on disk to complete runs.

`complete` reuses, resumes or starts a run and all its dependencies; `ensure_states` computes just some states. Both
plan first and then execute the plan. Neither imports torch if there is nothing to compute.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from foundations.description.desc import Desc
from foundations.description.step import Step
from foundations.errors import Busy, DamagedError, EnvironmentFailure, OpenPruneError, PublishedFirst, UsageError
from foundations.files import explain_os_errors
from foundations.plan import Plan, PlannedRun, Target, plan
from foundations.reporter import NotedProgress
from foundations.storage.adopt import adopt
from foundations.storage.manifest import Manifest
from foundations.storage.root import upstreams_of
from foundations.storage.run import MASK, SPARSITY, Run
from foundations.storage.upkeep import check_bytes
from training.context import Context

_BYTES_CHECKED = 1 << 25
"""Bytes of reused runs that one command checks: less than a tenth of a second."""
_ATTEMPTS = 20
"""The most times that a job brings back states which `gc` removes while it begins."""


@dataclass(frozen=True)
class Outcome:
    """The result of computing or reusing a run."""

    run: Run
    manifest: Manifest
    reused: bool


def complete(desc: Desc, context: Context, keep: Collection[Step] = ()) -> Outcome:
    """Make sure that the run is complete and keeps the states at its start, its end and `keep`."""
    target = Target(desc, context.replicate, tuple(keep))
    made = plan([target], context.root)
    planned = made[desc.location(context.replicate)]
    computed = execute(made, context)
    assert planned.manifest is not None, "execute has completed the targets"
    return Outcome(planned.run, planned.manifest, planned not in computed)


def ensure_states(desc: Desc, context: Context, steps: Collection[Step]) -> Run:
    """Make sure that the run keeps the states at some steps; train or replay no further than these."""
    for step in steps:
        if not desc.start <= step <= desc.end:
            raise UsageError(f"the run has no state at {step}; choose {desc.start} to {desc.end}.", "step")
    made = plan([Target(desc, context.replicate, tuple(steps), is_complete=False)], context.root)
    execute(made, context)
    return made[desc.location(context.replicate)].run


def execute(made: Plan, context: Context) -> list[PlannedRun]:
    """Compute the missing parts of a plan, in its order; return the runs that needed computation.

    Raises: EnvironmentFailure, DamagedError, Interrupted; UsageError if a job is refused; Busy.
    """
    check_upstreams(made, context)
    for planned in made:
        check_dataset(planned, context)
    to_do = made.to_do()
    trained = [planned for planned in to_do if planned.until > planned.desc.start]
    if trained:
        from training.jobs.small_batches import check_small_batches

        check_small_batches(trained, context)
    if to_do:
        from training.jobs.prunable_names import check_prunable_names

        check_prunable_names(to_do, context)
    for planned in trained:
        context.prepare(planned.desc.dataset_name)  # before other work starts, so that missing data fail early
    begun = [planned for planned in to_do if not planned.exists]
    try:
        computed = [planned for group in _groups(to_do, context.together) for planned in _compute(group, context)]
    except UsageError:
        for planned in reversed(begun):
            _undo(planned, context)
        raise
    for planned in made:
        if planned.is_target and planned.manifest is None:
            raise EnvironmentFailure(f"{planned.run.place} was removed while the job ran.")
    reused = (planned for planned in made if planned.is_target and planned not in computed)
    _check_reused(planned for planned in reused if not planned.is_upstreams)  # those were checked before
    catch_up_logs((planned for planned in made if planned not in computed), context)
    if context.keep_best:
        replayed = [planned for planned in made if planned.is_target and _replay_best(planned, context)]
        computed += [planned for planned in replayed if planned not in computed]
    return computed


def check_upstreams(made: Plan, context: Context) -> None:
    """Check upstreams' runs that a plan uses. Damaged ones, and those of other data, are reported and computed here.

    Of runs that are only reused, bytes are checked up to a limit; of sources, the files that are needed; of runs to be
    copied, every byte. Raises: EnvironmentFailure where an upstream is gone; as `Plan.add`.
    """
    left, checked = _BYTES_CHECKED, set[PlannedRun]()
    while upstreams_of(context.root) and (
        found := [each for each in made if each.is_upstreams and each not in checked]
    ):
        for planned in found:
            checked.add(planned)
            assert planned.manifest is not None, "an upstream's run is complete"
            try:
                check_dataset(planned, context)
                for name in _needed(planned):
                    planned.run.check_bytes(name, planned.manifest.files[name])
                if planned.is_target and planned.is_done:
                    left -= check_bytes(planned.run, planned.manifest, left)
            except EnvironmentFailure as error:
                made.leave_out(planned, error)
                checked.discard(planned)  # another upstream may have it
    for planned in made:
        for sentence in planned.left_out:
            context.reporter.say(sentence)
        planned.left_out.clear()


def _needed(planned: PlannedRun) -> Iterable[str]:
    """Return the files of an upstream's run that a plan reads: of a run to be copied, all."""
    assert planned.manifest is not None, "an upstream's run is complete"
    if not planned.is_done:
        return planned.manifest.files
    states = [Run.state_name(step) for step in planned.keep]
    return () if planned.is_target else [*states, *((MASK, SPARSITY) if planned.needs_mask else ())]


def _check_reused(reused: Iterable[PlannedRun]) -> None:
    """Check the bytes of reused runs, up to a limit: the sizes in a manifest cannot show a flipped bit.

    Raises: DamagedError.
    """
    left = _BYTES_CHECKED
    for planned in reused:
        assert planned.manifest is not None, "what is reused is complete"
        with explain_os_errors("read", planned.run.folder):
            left -= check_bytes(planned.run, planned.manifest, left)


def catch_up_logs(complete: Iterable[PlannedRun], context: Context) -> None:
    """Send runs that were already complete to loggers that have not received them."""
    if context.logs:
        from training.loggers.follow import catch_up

        for planned in complete:
            if planned.manifest is not None:
                catch_up(planned.run, context.logs, context.reporter.say)


def _groups(to_do: Sequence[PlannedRun], together: int) -> Iterator[list[PlannedRun]]:
    """Yield the runs in groups of at most `together` that are trained at once, dependencies first."""
    waiting = list(to_do)
    if together == 1:
        yield from ([planned] for planned in waiting)
        return
    while waiting:
        ready = [planned for planned in waiting if not any(source in waiting for source in planned.sources)]
        # Runs that are computed alone come first: they may make others ready, to be trained with the ones ready now.
        ready = [planned for planned in ready if planned.together_key is None] or ready
        alike: dict[Hashable, list[PlannedRun]] = defaultdict(list)
        for planned in ready:
            alike[planned.together_key].append(planned)
        for key, runs in alike.items():
            size = 1 if key is None else together
            yield from (runs[first : first + size] for first in range(0, len(runs), size))
        waiting = [planned for planned in waiting if planned not in ready]


def _compute(group: Sequence[PlannedRun], context: Context) -> list[PlannedRun]:
    """Compute a group of runs together; return them without those that another process has completed meanwhile."""
    for _ in range(_ATTEMPTS):
        contexts: dict[PlannedRun, Context] = {}
        busy: list[PlannedRun] = []
        with contextlib.ExitStack() as held:
            for planned in group:
                try:
                    # A group waits for no lock: its holder may be waiting for another lock of the group.
                    wait = context.wait and len(group) == 1
                    # `gc` removes no state that is noted here. It may have done so before.
                    locked = planned.run.locked(context.reporter.say, wait=wait, facts={"uses": planned.uses()})
                    holder = held.enter_context(locked)
                except Busy:
                    if len(group) == 1:
                        raise
                    busy.append(planned)
                    continue
                planned.refresh()
                if planned.is_upstreams and not planned.is_done:
                    _adopt(planned, context)
                if planned.is_done:
                    check_dataset(planned, context)
                else:
                    contexts[planned] = replace(context, reporter=NotedProgress(context.reporter, holder))
            evicted = _evicted(contexts)
            if not evicted:
                failed = _work_noted(contexts, context)
        if not evicted:
            break
        for source in evicted:
            _bring_back(source, context)
    else:
        raise EnvironmentFailure(f"The states that {_named(group)} needs are removed again and again: another gc runs.")
    for planned, error in failed.items():
        if not isinstance(error, PublishedFirst):
            raise error
        context.reporter.say(str(error))
        if not planned.is_done:  # the published run lacks some states
            busy.append(planned)
    return [*contexts, *(planned for each in busy for planned in _compute([each], context))]


def _adopt(planned: PlannedRun, context: Context) -> None:
    """Copy an upstream's run here, unless another process completes it here first."""
    try:
        adopt(planned.run, context.reporter.say)
    except PublishedFirst as error:
        context.reporter.say(str(error))
    planned.refresh()


def _work_noted(contexts: Mapping[PlannedRun, Context], context: Context) -> Mapping[PlannedRun, OpenPruneError]:
    with context.interrupts.working_on(_named(contexts)):
        failed = _work(contexts, context) if contexts else {}
    for planned in contexts:
        planned.refresh()
    return failed


def _evicted(computing: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Return the runs with states that were removed since they were planned or computed for these runs."""
    sources = list(dict.fromkeys(source for planned in computing for source in planned.sources))
    for source in sources:
        source.refresh()
    return [source for source in sources if not source.is_done]


def _bring_back(source: PlannedRun, context: Context) -> None:
    """Compute the removed states of a run."""
    target = Target(source.desc, source.run.location.replicate, tuple(source.keep), False, source.needs_mask)
    execute(plan([target], context.root), context)


def _named(planned: Collection[PlannedRun]) -> str:
    names = [str(each.run) for each in planned]
    return names[0] if len(names) == 1 else f"{len(names)} runs"


def _work(contexts: Mapping[PlannedRun, Context], context: Context) -> Mapping[PlannedRun, OpenPruneError]:
    """Compute runs whose locks are held; return the errors of those that failed. contexts: the context of each."""
    # Imported here so that reusing runs does not wait for torch.
    if len(contexts) == 1:
        from training.jobs.one_run import work

        ((planned, own),) = contexts.items()
        try:
            context.platform.launch(partial(work, planned, own))
        except PublishedFirst as error:
            return {planned: error}
        return {}
    from training.jobs.together import work_together

    return context.platform.launch(partial(work_together, contexts))


def _replay_best(planned: PlannedRun, context: Context) -> bool:
    """Keep the best state of a run that was trained without keeping it; return whether this was necessary."""
    best = planned.run.best_step(planned.desc.iterations_per_epoch)
    manifest = planned.manifest
    if best is None or planned.run.has_state(best) or (manifest and Run.state_name(best) in manifest.evicted):
        return False
    ensure_states(planned.desc, replace(context, replicate=planned.run.location.replicate), [best])
    planned.refresh()
    return True


def _undo(planned: PlannedRun, context: Context) -> None:
    """Remove the run of a refused job, if it has only its first state and no branch."""
    if planned.run.exists() and not list(planned.run.final.parent.glob("*branch_*")):
        with planned.run.locked(context.reporter.say):
            planned.run.undo_create(planned.desc.start)


def check_dataset(planned: PlannedRun, context: Context) -> None:
    """Refuse a result of other data. If the dataset is missing, accept the result."""
    check_dataset_of(planned.run.folder, planned.manifest, planned.desc.dataset_name, context)


def check_dataset_of(folder: Path, manifest: Manifest | None, name: str, context: Context) -> None:
    """Raise DamagedError if the manifest of the run in a folder names another fingerprint of a dataset."""
    recorded = manifest.dataset.get(name) if manifest else None
    found = context.fingerprint(name) if recorded else None
    if recorded is not None and found is not None and recorded != found:
        raise DamagedError(
            f"{folder} was computed from other data: the fingerprint of {name} in\n"
            f"{context.datasets / name} is {found[:12]}..., the run's is {recorded[:12]}...\n"
            "Put the former data back, or choose another root for results of the new."
        )
