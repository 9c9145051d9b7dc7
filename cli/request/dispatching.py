"""Dispatch of a plan's runs to an executor, with a display of their progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from branches.job_files import job_file, write_job_file
from cli.progress.estimate import Estimate
from cli.progress.sweep_display import display
from cli.request.context import context_of
from cli.request.flags import flags_of
from cli.request.help import PLUGIN
from cli.request.job_flags import WorkHparams
from foundations.environment import Environment
from foundations.files import Flushes
from foundations.interrupts import Interrupts
from foundations.parts import sweep_abandoned
from foundations.plan import Plan, PlannedRun
from foundations.program import COMMAND, PREFIX
from foundations.registry import loaded_plugins
from foundations.storage.sweeps import running_sweep
from platforms.dispatch import Dispatch, Item, State, Wish
from platforms.executors.executor import CommandJob, Program
from platforms.executors.registry import EXECUTORS, make_executor
from training.jobs.compute import catch_up_logs, check_dataset, check_upstreams

if TYPE_CHECKING:
    from cli.request.request import Request

_WARM = "cli.commands.warm"
_PROGRAM = Program(entry="cli.main:main", preload=(f"{PREFIX}{_WARM}",), state=f"{_WARM}:state", command=COMMAND)


@dataclass(frozen=True, kw_only=True)
class Dispatched:
    """The outcome of the runs of a plan."""

    computed: list[PlannedRun] = field(default_factory=list)
    failed: list[Item] = field(default_factory=list)
    is_stopped: bool = False
    """Whether it ended on request."""
    still: str = ""
    """A sentence on how to look at jobs that are still running; empty if there are none."""

    @property
    def exit_code(self) -> int:
        """0 if all is done, 1 if something failed, 130 if it was stopped."""
        return 1 if self.failed else 130 if self.is_stopped else 0


def dispatch_plan(
    made: Plan,
    request: Request,
    environment: Environment,
    what: str,
    *,
    labels: Mapping[PlannedRun, str] | None = None,
    retry_failed: bool = False,
) -> Dispatched:
    """Execute a plan with the executor of a request, and display the progress.

    First refuse results of other data, and log the runs that are complete; jobs log those that they compute.
    what: the title of the work, for `watch`. labels: the names of runs.
    """
    with context_of(request.job, request.platform, environment) as context:
        check_upstreams(made, context)
        for planned in made:
            check_dataset(planned, context)
        catch_up_logs(made, context)
    root, together = request.job.root_in(environment), request.together
    folder = root / ".jobs"
    arguments = _arguments(request, environment)
    is_local = EXECUTORS.find(str(request.executor.executor)).is_local
    flushes: Flushes = "nothing" if is_local else "all"  # a local job ends with the machine

    def job_of(runs: Sequence[PlannedRun], after: tuple[str, ...]) -> CommandJob:
        files = [job_file(planned.run, folder) for planned in runs]
        for planned, file in zip(runs, files, strict=True):
            write_job_file(planned, file, flushes=flushes)
        output, names = runs[0].run.output_path, tuple(str(planned.run) for planned in runs)
        return CommandJob(names[0], ("run", *map(str, files), *arguments), output, after, names)

    interrupts, runs = Interrupts(), list(made)
    estimate = Estimate(planned for planned in runs if planned.is_done)
    with (
        make_executor(request.executor, replace(_PROGRAM, folder=folder)) as executor,
        running_sweep(root, what) as sweep,
        display(labels or {}, len(runs), estimate, executor.slots(), sweep, quiet=request.job.quiet) as shown,
        interrupts.caught(),
    ):

        def wish() -> Wish:
            if sweep.is_asked_to_stop():
                return Wish.STOP
            if interrupts.signal_number is None:
                return Wish.GO_ON
            return Wish.LEAVE if executor.how_to_look() else Wish.STOP

        work = Dispatch(made, executor, job_of, shown, together=together, retry_failed=retry_failed, wish=wish)
        if work.items:
            executor.prepare()
        with interrupts.deferred():
            work.run()
        _remove_job_files(made, folder)
        items = work.items.values()
        return Dispatched(
            computed=[item.planned for item in items if item.computed],
            failed=work.in_state(State.FAILED),
            is_stopped=work.wish is not Wish.GO_ON,
            still=executor.how_to_look() if work.wish is Wish.LEAVE else "",
        )


def _remove_job_files(made: Plan, folder: Path) -> None:
    """Remove the job files of done runs, and the temporary files that killed dispatches left."""
    sweep_abandoned(folder)
    left = {path.name for path in folder.glob("*.json")}
    for planned in made:
        path = job_file(planned.run, folder)
        if path.name in left and planned.is_done:
            path.unlink(missing_ok=True)


def _arguments(request: Request, environment: Environment) -> tuple[str, ...]:
    """Return the flags of every job: folders of runs and data, settings of the work, platform and plug-ins."""
    job = request.job
    work = WorkHparams.of(job.values()).replaced(
        {
            "root": str(job.root_in(environment).absolute()),
            "datasets_root": str(job.datasets_in(environment).absolute()),
            "no_download": job.no_download or environment.no_download,
            "quiet": False,
        }
    )
    plugins = [f"--{PLUGIN}={plugin.path.absolute()}" for plugin in loaded_plugins()]
    return (*flags_of(work), "--no_wait", *flags_of(request.platform), *plugins)
