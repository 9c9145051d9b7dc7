"""From a run's directory back to its description and its job, and from a run to its parents and children."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundations.address import MAIN, Desc, Location
from foundations.errors import DamagedError, UsageError, did_you_mean
from foundations.run import Run
from foundations.step import Step
from training.desc import TrainDesc
from training.job import Job

KINDS = {
    "train": ("training.desc:TrainDesc", "training.job:TrainJob"),
    "import": ("branches.tickets:ImportDesc", "branches.tickets:ImportJob"),
    "oneshot": ("branches.desc:BranchDesc", "branches.oneshot:BranchJob"),
    "gmp": ("branches.gmp:GmpDesc", "branches.gmp:GmpJob"),
}
"""The description and the job of each kind of run."""


@dataclass(frozen=True)
class Parent:
    """The run that a branch is of: the trunk of its line, and how a branch of that trunk names it."""

    trunk: TrainDesc
    experiment: str = MAIN
    first: Step | None = None
    last: Step | None = None

    @property
    def start(self) -> str:
        """The parent's first step."""
        return str(self.first or self.trunk.start)

    @property
    def end(self) -> str:
        """The parent's last step."""
        return str(self.last or self.trunk.end)


def parent_of(run: Run) -> Parent:
    """Return a run as a parent of branches. Raises: as `load_desc` does."""
    trunk = trunk_of(run)
    desc, job = load_desc(trunk), job_of(load_desc(run))
    if not isinstance(desc, TrainDesc):
        raise DamagedError(f"{trunk.folder} is no training, but {run} lies in it as its branch.")
    return Parent(desc, experiment_name(run, trunk), job.start, job.end)


def load_desc(run: Run) -> Desc:
    """Return the description that a run's directory carries.

    Raises: EnvironmentFailure where there is no such run; DamagedError where the directory cannot prove its name.
    """
    record = run.record()
    parent = None if run.location.part == MAIN else load_desc(trunk_of(run))
    try:
        desc: Desc = _named(KINDS[record["kind"]][0]).from_full(record["hyperparameters"], parent)
    except (KeyError, TypeError, UsageError) as error:
        raise DamagedError(f"{run.folder} holds a description that cannot be read: {error}") from error
    if desc.digest != record["digest"]:
        raise DamagedError(
            f"{run.folder} holds a description that this version of open_prune reads otherwise,\n"
            f"as {desc.digest}. Use the version that its manifest names."
        )
    return desc


def job_of(desc: Desc) -> Job:
    """Return the job that computes a description."""
    job: Job = _named(KINDS[desc.kind][1])(desc)
    return job


def trunk_of(run: Run) -> Run:
    """Return the run at the root of a run's line: itself, where it is one."""
    return Run(run.root, Location(run.location.trunk, run.location.replicate, MAIN))


def experiment_name(run: Run, trunk: Run) -> str:
    """Return how a branch of `trunk` names a run as its source: no longer than it takes to be found.

    The replicate is left out where it is the trunk's own, so that every replicate of a branch has one address.
    """
    if run.location.replicate != trunk.location.replicate:
        return str(run.location)
    if run.location.trunk != trunk.location.trunk:
        return f"{run.location.trunk}/{run.location.part}"
    return run.location.part


def run_of_experiment(root: Path, trunk: Location, experiment: str) -> Run:
    """Return the run that --prune_experiment or --state_experiment names.

    main, a branch's directory beside it, `<trunk>/<part>` of the same replicate, or a whole location.

    Raises: UsageError where there is none (main need not be there: it can be made).
    """
    *elsewhere, part = experiment.split("/")
    other = elsewhere[0] if elsewhere else trunk.trunk
    replicate = int(elsewhere[1].removeprefix("replicate_")) if len(elsewhere) > 1 else trunk.replicate
    run = Run(root, Location(other, replicate, part))
    if experiment != MAIN and not run.exists():
        folder = run.folder.parent
        there = sorted(path.name for path in folder.glob("branch_*")) if folder.exists() else []
        raise UsageError(
            f"there is no run '{experiment}' in {folder}."
            f"{did_you_mean(experiment, there)} Possible: {', '.join([MAIN, *there])}.",
            "prune_experiment",
            "state_experiment",
        )
    return run


def source_runs(run: Run) -> list[Run]:
    """Return the runs that a branch draws on besides its trunk, as its record names them."""
    branch: dict[str, Any] = run.record()["hyperparameters"].get("branch", {})
    names = {branch.get("prune_experiment", MAIN), branch.get("state_experiment", MAIN)} - {MAIN}
    return [run_of_experiment(run.root, run.location, name) for name in sorted(names)]


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
