"""The commands that compute: train and branch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from branches.desc import NO_PRUNING
from branches.lineage import Parent, job_of, parent_of
from branches.named import BRANCHES, NamedBranch
from cli.addresses import find_run
from cli.flags import parse, positional, value_of, with_defaults
from cli.job_flags import JobHparams, make_context, root_of
from cli.main import Environment
from cli.reporter import PlainReporter, TerminalReporter
from cli.table import duration, figure, percent, table
from datasets.hparams import DatasetHparams
from datasets.registry import register_added
from foundations.address import canonical_json
from foundations.errors import UsageError, did_you_mean
from foundations.hparams import Hparams
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
class AddressFlags:
    """Branch a run that is named by its address: how it trains is known."""

    job: JobHparams = field(default_factory=JobHparams)
    platform: PlatformHparams = field(default_factory=PlatformHparams)


Flags = TypeVar("Flags")


def train(argv: Sequence[str], environment: Environment) -> int:
    """`train`: compute a training, or reuse it."""
    flags = parse_job(TrainFlags, argv, "train", environment)
    return run_job(TrainJob(flags.train_desc()), flags.job, flags.platform, environment)


def branch(argv: Sequence[str], environment: Environment) -> int:
    """`branch PARENT NAME`: compute a branch, making what it needs of its parent, or reuse it."""
    names, rest = positional(argv)
    usage = "usage: python open_prune.py branch PARENT BRANCH [FLAGS]    (PARENT: train, lottery, or a run's address)"
    if not names and (not rest or rest[0] in ("-h", "--help")):
        rows = [{"branch": name, "what it does": named.summary} for name, named in BRANCHES.items()]
        print(f"{usage}\n\n{table(rows, ('branch', 'what it does'))}\n\n`branch train BRANCH --help` lists the flags.")
        return 0
    if len(names) != 2:
        raise UsageError(f"branch takes a parent and the branch's name, such as: branch train oneshot.\n{usage}")
    parent_name, name = names
    if parent_name == "lottery":
        from cli.lottery import branch_lottery

        return branch_lottery(name, rest, environment)
    if name not in BRANCHES:
        raise UsageError(f"'{name}' is not a branch.{did_you_mean(name, BRANCHES)} Possible: {', '.join(BRANCHES)}.")
    kind = _flags_of(BRANCHES[name], of_train=parent_name == "train")
    flags = parse_job(kind, rest, f"branch {parent_name} {name}", environment)
    if parent_name == "train":
        parent = Parent(flags.train_desc())
    else:
        run = find_run(root_of(flags.job, environment), parent_name)
        parent = parent_of(run)
        flags = replace(flags, job=replace(flags.job, replicate=run.location.replicate))
    pruning = getattr(flags, "pruning", NO_PRUNING)
    desc = BRANCHES[name].describe(parent, pruning, flags.branch)
    return run_job(job_of(desc), flags.job, flags.platform, environment)


def _flags_of(named: NamedBranch, of_train: bool) -> Any:
    """Return the dataclass of a branch's flags: the trunk's (unless an address says it), pruning's and its own."""
    groups: list[type[Hparams]] = [PruningHparams] if named.prunes else []
    names = ["pruning"] if named.prunes else []
    kind = make_dataclass(
        "BranchFlags",
        [
            (name, group, field(default_factory=group))
            for name, group in zip([*names, "branch"], [*groups, named.flags], strict=True)
        ],
        bases=(TrainFlags if of_train else AddressFlags,),
        frozen=True,
        kw_only=True,
    )
    kind.__doc__ = named.describe.__doc__
    return kind


def parse_job(kind: type[Flags], argv: Sequence[str], command: str, environment: Environment) -> Flags:
    """Parse a job's flags over the preset that they name, with users' own datasets known. Raises: UsageError."""
    register_added(Path(value_of("datasets_root", argv) or environment.datasets).expanduser())
    preset = value_of("default_hparams", argv)
    if preset is None and value_of("model_name", argv) is None:
        preset = DEFAULT_RECIPE
    return parse(kind, argv, command, with_defaults(kind, recipe(preset) if preset else {}))


def run_job(job: Job, hparams: JobHparams, platform: PlatformHparams, environment: Environment) -> int:
    """Do a job as its flags say, and print what it came to."""
    interrupts = Interrupts()
    context = make_context(hparams, platform, environment, make_reporter(hparams.quiet), interrupts)
    run = job.run(context)
    keep = steps_to_keep(job, hparams.weight_save_steps)
    if hparams.display_output_location:
        print(run.folder)
        return 0
    if hparams.dry_run:
        print(_preview(job, run))
        return 0
    with interrupts.caught():
        outcome = complete(job, context, keep)
    if not hparams.quiet:
        print(_summary(outcome))
    return 0


def steps_to_keep(job: Job, text: str | None) -> list[Step]:
    """Read --weight_save_steps. Raises: UsageError for a step outside the job's training."""
    steps = parse_steps(text or "", job.training.iterations_per_epoch, "weight_save_steps")
    for step in steps:
        if not job.start <= step <= job.end:
            raise UsageError(
                f"--weight_save_steps: {step} is not in this training. Possible: {job.start} to {job.end}."
            )
    return steps


def make_reporter(quiet: bool) -> Reporter:
    """Return who shows people what jobs have to say."""
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
        "test loss": figure(results["test_loss"], ".4f") if "test_loss" in results else "",
        "sparsity": percent(results.get("sparsity")),
        "training time": duration(outcome.manifest.wall_seconds),
        "this time": "reused: the run was complete, nothing was computed" if outcome.reused else "computed",
        "results in": str(outcome.run.folder),
    }
    return "\n".join(f"{name + ':':<16}{value}" for name, value in figures.items() if value)
