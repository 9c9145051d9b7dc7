"""The commands that compute: train and branch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from branches.desc import BranchHparams, OneshotDesc
from branches.oneshot import OneshotJob
from cli.flags import parse, positional, value_of, with_defaults
from cli.job_flags import JobHparams, make_context
from cli.main import Environment
from cli.reporter import PlainReporter, TerminalReporter
from cli.table import duration, percent
from datasets.hparams import DatasetHparams
from foundations.address import canonical_json
from foundations.errors import UsageError, did_you_mean
from foundations.interrupts import Interrupts
from foundations.reporter import Reporter, Silence
from foundations.run import Run
from foundations.step import Step, parse_steps
from models.hparams import ModelHparams
from models.registry import recipe
from platforms.base import PlatformHparams
from pruning.hparams import PruningHparams
from training.desc import TrainDesc
from training.hparams import TrainingHparams
from training.job import Job, Outcome, TrainJob, complete

DEFAULT_RECIPE = "cifar_resnet_20"


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Train a network and keep its states at chosen steps."""

    dataset: DatasetHparams = field(default_factory=DatasetHparams)
    model: ModelHparams = field(default_factory=ModelHparams)
    training: TrainingHparams = field(default_factory=TrainingHparams)
    job: JobHparams = field(default_factory=JobHparams)
    platform: PlatformHparams = field(default_factory=PlatformHparams)

    def train_desc(self) -> TrainDesc:
        """Return the training that the flags describe."""
        return TrainDesc(dataset=self.dataset, model=self.model, training=self.training)


@dataclass(frozen=True, kw_only=True)
class OneshotFlags(TrainFlags):
    """Prune a state of a trained (or just initialized) network, then retrain it with the mask."""

    pruning: PruningHparams = field(default_factory=PruningHparams)
    branch: BranchHparams = field(default_factory=BranchHparams)


BRANCHES = {"oneshot": "prune a state of the parent, then train with the mask"}
PARENTS = ("train",)

JobFlags = TypeVar("JobFlags", bound=TrainFlags)


def train(argv: Sequence[str], environment: Environment) -> int:
    """`train`: compute a training, or reuse it."""
    flags = _parse(TrainFlags, argv, "train")
    return _run(TrainJob(flags.train_desc()), flags, environment)


def branch(argv: Sequence[str], environment: Environment) -> int:
    """`branch PARENT NAME`: compute a branch, making what it needs of its parent, or reuse it."""
    names, rest = positional(argv)
    usage = "usage: python open_prune.py branch train BRANCH [FLAGS]"
    branches = "\n".join(f"  {name}  {summary}" for name, summary in BRANCHES.items())
    if not names and (not rest or rest[0] in ("-h", "--help")):
        print(f"{usage}\n\n{branches}\n\n`branch train BRANCH --help` lists the flags.")
        return 0
    if len(names) != 2:
        raise UsageError(f"branch takes the parent's kind and the branch's name: branch train oneshot.\n{usage}")
    parent, name = names
    if parent not in PARENTS:
        raise UsageError(f"'{parent}' is not a parent of branches.{did_you_mean(parent, PARENTS)} Possible: train.")
    if name not in BRANCHES:
        raise UsageError(f"'{name}' is not a branch.{did_you_mean(name, BRANCHES)} Possible: {', '.join(BRANCHES)}.")
    flags = _parse(OneshotFlags, rest, f"branch {parent} {name}")
    desc = OneshotDesc(parent=flags.train_desc(), pruning=flags.pruning, branch=flags.branch)
    return _run(OneshotJob(desc), flags, environment)


def _parse(kind: type[JobFlags], argv: Sequence[str], command: str) -> JobFlags:
    preset = value_of("default_hparams", argv)
    if preset is None and value_of("model_name", argv) is None:
        preset = DEFAULT_RECIPE
    return parse(kind, argv, command, with_defaults(kind, recipe(preset) if preset else {}))


def _run(job: Job, flags: TrainFlags, environment: Environment) -> int:
    interrupts = Interrupts()
    reporter = _reporter(flags.job.quiet)
    context = make_context(flags.job, flags.platform, environment, reporter, interrupts)
    run = job.run(context)
    keep = _steps_to_keep(job, flags.job.weight_save_steps)
    if flags.job.display_output_location:
        print(run.folder)
        return 0
    if flags.job.dry_run:
        print(_preview(job, run))
        return 0
    with interrupts.caught():
        outcome = complete(job, context, keep)
    if not flags.job.quiet:
        print(_summary(outcome))
    return 0


def _steps_to_keep(job: Job, text: str | None) -> list[Step]:
    steps = parse_steps(text or "", job.training.iterations_per_epoch, "weight_save_steps")
    for step in steps:
        if not job.start <= step <= job.end:
            raise UsageError(
                f"--weight_save_steps: {step} is not in this training. Possible: {job.start} to {job.end}."
            )
    return steps


def _reporter(quiet: bool) -> Reporter:
    if quiet:
        return Silence()
    return TerminalReporter() if sys.stdout.isatty() else PlainReporter()


def _preview(job: Job, run: Run) -> str:
    status = "complete: nothing to compute" if run.manifest() else "incomplete" if run.exists() else "not begun"
    ep = job.training.iterations_per_epoch
    lines = {
        "run": str(run.location),
        "folder": str(run.folder),
        "status": status,
        "training": f"{job.start} to {job.end} ({ep} iterations an epoch)",
        "described by": canonical_json(job.desc.canonical()),
    }
    return "\n".join(f"{name + ':':<14}{value}" for name, value in lines.items())


def _summary(outcome: Outcome) -> str:
    results = outcome.manifest.results
    figures: dict[str, Any] = {
        "test accuracy": percent(results.get("test_accuracy")),
        "top-5 accuracy": percent(results.get("test_top5accuracy")),
        "test loss": f"{results['test_loss']:.4f}" if "test_loss" in results else "",
        "sparsity": percent(results.get("sparsity")),
        "training time": duration(outcome.manifest.wall_seconds),
        "this time": "reused: the run was complete, nothing was computed" if outcome.reused else "computed",
        "results in": str(outcome.run.folder),
    }
    return "\n".join(f"{name + ':':<16}{value}" for name, value in figures.items() if value)
