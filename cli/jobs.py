"""The train command, and what the commands that compute have in common."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, TypeVar

from cli.flags import parse, value_of, with_defaults
from cli.job_flags import JobHparams, make_context
from cli.main import Environment
from cli.reporter import PlainReporter, TerminalReporter
from cli.table import duration, figure, percent
from datasets.hparams import DatasetHparams
from datasets.registry import register_added
from foundations.address import canonical_json
from foundations.errors import UsageError
from foundations.interrupts import Interrupts
from foundations.reporter import Reporter, Silence
from foundations.run import Run
from foundations.step import Step, parse_steps
from models.hparams import ModelHparams
from models.registry import recipe
from platforms.base import PlatformHparams
from training.completion import complete
from training.desc import TrainDesc
from training.hparams import TrainingHparams
from training.job import Job, Outcome, TrainJob

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


Flags = TypeVar("Flags")


def train(argv: Sequence[str], environment: Environment) -> int:
    """`train`: compute a training, or reuse it."""
    flags = parse_job(TrainFlags, argv, "train", environment)
    return run_job(TrainJob(flags.train_desc()), flags.job, flags.platform, environment)


def parse_job(kind: type[Flags], argv: Sequence[str], command: str, environment: Environment) -> Flags:
    """Parse a job's flags over the preset that they name, with users' own datasets known. Raises: UsageError."""
    register_added(Path(value_of("datasets_root", argv) or environment.datasets).expanduser())
    preset = value_of("default_hparams", argv)
    if preset is None and value_of("model_name", argv) is None:
        preset = DEFAULT_RECIPE
    values = dict(recipe(preset)) if preset else {}
    strategy = value_of("strategy", argv)
    if strategy is not None and "pruning" in kind.__dataclass_fields__:  # type: ignore[attr-defined]
        values["strategy"] = strategy
        kind = _with_options_of(strategy, kind)
    return parse(kind, argv, command, with_defaults(kind, values))


def _with_options_of(strategy: str, kind: type[Flags]) -> type[Flags]:
    """Return the flags with the method's own options among those of pruning. Raises: UsageError for an unknown name."""
    from pruning.hparams import PruningHparams

    group = PruningHparams.group_for({"strategy": strategy})
    pruning = field(default_factory=lambda: group(strategy=strategy))
    made = make_dataclass(kind.__name__, [("pruning", group, pruning)], bases=(kind,), frozen=True, kw_only=True)
    made.__doc__ = kind.__doc__
    return made


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
        "held out": _validation(results),
        "sparsity": percent(results.get("sparsity")),
        "collapsed": _collapsed(outcome.run),
        "training time": duration(outcome.manifest.wall_seconds),
        "this time": "reused: the run was complete, nothing was computed" if outcome.reused else "computed",
        "results in": str(outcome.run.folder),
    }
    return "\n".join(f"{name + ':':<16}{value}" for name, value in figures.items() if value)


def _validation(results: Mapping[str, float | None]) -> str:
    """Say how a run does on the examples that it held out, if any."""
    if "validation_accuracy" not in results:
        return ""
    selected = percent(results.get("selected_test_accuracy"))
    return f"{percent(results['validation_accuracy'])} (where that was best, test accuracy was {selected})"


def _collapsed(run: Run) -> str:
    """Say which layers have nothing left: the network's output does not depend on its input through them."""
    report = run.sparsity() or {"collapsed_layers": [], "layers": []}
    names = report["collapsed_layers"]
    some = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"{len(names)} of {len(report['layers'])} layers have no weights left: {some}" if names else ""
