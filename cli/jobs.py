"""The train command, and what the commands that compute have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from branches.desc import trained_of
from cli.flags import RunOf, parse, value_of
from cli.job_flags import JobHparams, make_context
from cli.progress import reporting
from cli.table import duration, figure, percent, table
from datasets.added import register_added
from datasets.hparams import DatasetHparams
from foundations.address import canonical_json
from foundations.desc import Desc, RunRef
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.interrupts import Interrupts
from foundations.plan import Plan, PlannedRun, Target, plan
from foundations.run import Run
from foundations.step import Step, parse_steps
from models.hparams import ModelHparams
from platforms.base import PlatformHparams
from training.context import Context
from training.desc import TrainDesc
from training.execution import Outcome, complete
from training.hparams import TechniquesHparams, TrainingHparams
from training.recipes import recipe

DEFAULT_RECIPE = "cifar_resnet_20"


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Train a network and keep its states at chosen steps."""

    dataset: DatasetHparams = field(default_factory=DatasetHparams)
    model: ModelHparams = field(default_factory=ModelHparams)
    training: TrainingHparams = field(default_factory=TrainingHparams)
    techniques: TechniquesHparams = field(default_factory=TechniquesHparams)
    job: JobHparams = field(default_factory=JobHparams)
    platform: PlatformHparams = field(default_factory=PlatformHparams)

    def train_desc(self) -> TrainDesc:
        """Return the training that the flags describe."""
        return _train_desc(self.dataset, self.model, self.training, self.techniques)

    def parent_desc(self) -> TrainDesc:
        """Return the training without techniques, which a branch of `train` has as its parent."""
        return _train_desc(self.dataset, self.model, self.training, None)


@functools.lru_cache(maxsize=64)
def _train_desc(
    dataset: DatasetHparams, model: ModelHparams, training: TrainingHparams, techniques: TechniquesHparams | None
) -> TrainDesc:
    """Return the training; many branches of one training share its description."""
    return TrainDesc(dataset=dataset, model=model, training=training, techniques=techniques)


Flags = TypeVar("Flags")
Result = TypeVar("Result")


def train(argv: Sequence[str], environment: Environment) -> int:
    """`train`: compute a training, or reuse it."""
    flags = parse_job(TrainFlags, argv, "train", environment)
    first_line = taken_by_default(argv, *flags.techniques.choices)
    return run_job(flags.train_desc(), flags.job, flags.platform, environment, first_line)


def parse_job(
    kind: type[Flags],
    argv: Sequence[str],
    command: str,
    environment: Environment,
    run_of: RunOf | None = None,
    preset: Mapping[str, Any] | None = None,
    recipe_of: Callable[[str], Mapping[str, Any]] = recipe,
) -> Flags:
    """Parse a job's flags over the preset that they name, with users' own datasets known. Raises: UsageError.

    preset: hyperparameters by name, in place of a recipe where the flags name none. recipe_of: the hyperparameters of a
    recipe.
    """
    register_added(Path(value_of("datasets_root", argv) or environment.datasets).expanduser())
    name = value_of("default_hparams", argv)
    if name is None and preset is None and value_of("model_name", argv) is None:
        name = DEFAULT_RECIPE
    return parse(kind, argv, command, recipe_of(name) if name else preset or {}, run_of)


def taken_by_default(argv: Sequence[str], *choices: tuple[Mapping[str, Any], Sequence[str]]) -> str:
    """Return a line that names what was not given, with the values that were taken, or nothing.

    choices: what was taken, by flag, and the flags of which any one gives it.
    """
    taken = [
        f"--{flag}={value}"
        for values, spellings in choices
        if all(value_of(spelling, argv) is None for spelling in spellings)
        for flag, value in values.items()
        if value is not None
    ]
    return f"Not given, so taken by default: {' '.join(taken)}" if taken else ""


def run_job(
    desc: Desc, job: JobHparams, platform: PlatformHparams, environment: Environment, first_line: str = ""
) -> int:
    """Compute a description as the flags say, and print what became of it. first_line: what is said before."""
    keep = steps_to_keep(desc, job.weight_save_steps)
    check_keep_best(desc, job)
    root = job.root_in(environment)
    if job.display_output_location:
        print(desc.location(job.replicate).under(root))
        return 0
    if job.dry_run:
        print(_preview(desc, plan([Target(desc, job.replicate, tuple(keep))], root), job.replicate))
        return 0
    if first_line and not job.quiet:
        print(first_line, flush=True)
    outcome = with_context(job, platform, environment, lambda context: complete(desc, context, keep))
    if not job.quiet:
        print(_summary(outcome))
    return 0


def with_context(
    job: JobHparams, platform: PlatformHparams, environment: Environment, work: Callable[[Context], Result]
) -> Result:
    """Return what some work comes to in the context that the flags describe, with signals caught."""
    interrupts = Interrupts()
    with reporting(job.quiet) as reporter:
        context = make_context(job, platform, environment, reporter, interrupts)
        with interrupts.caught():
            return work(context)


def steps_to_keep(desc: Desc, text: str | None) -> list[Step]:
    """Read --weight_save_steps. Raises: UsageError for a step outside the run."""
    steps = parse_steps(text or "", desc.iterations_per_epoch, "weight_save_steps")
    for step in steps:
        if not desc.start <= step <= desc.end:
            raise UsageError(f"{step} is not in this run; choose {desc.start} to {desc.end}.", "weight_save_steps")
    return steps


def check_keep_best(desc: Desc, job: JobHparams) -> None:
    """Raise UsageError where the best state is to be kept and no examples say which one that is."""
    if job.keep_best and not trained_of(RunRef(desc)).dataset.validation_examples:
        raise UsageError("no examples are held out to choose a state by; give their number.", "validation_examples")


def plan_table(made: Plan) -> str:
    """Return the runs of a plan in order, with what is there and what would be computed."""
    rows = [{"run": str(p.run), "is": p.status, "to do": _to_do(p)} for p in made]
    return table(rows, ("run", "is", "to do"))


def _to_do(planned: PlannedRun) -> str:
    if planned.is_done:
        return "nothing"
    missing = planned.missing()
    if planned.manifest is None and planned.until > planned.desc.start:
        return f"train to {planned.until}"
    return f"keep the state at {', '.join(map(str, missing)) or planned.desc.start}"


def _preview(desc: Desc, made: Plan, replicate: int) -> str:
    planned = made[desc.location(replicate)]
    lines = {
        "run": str(planned.run),
        "folder": str(planned.run.folder),
        "status": "complete: nothing to compute" if planned.is_done else planned.status,
        "training": f"{desc.start} to {desc.end} ({desc.iterations_per_epoch} iterations an epoch)",
        "described by": canonical_json(desc.canonical),
    }
    return "\n".join([*(f"{name + ':':<14}{value}" for name, value in lines.items()), "", plan_table(made)])


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
    """Return how a run does on the examples that it held out, if any, in words."""
    if "validation_accuracy" not in results:
        return ""
    selected = percent(results.get("selected_test_accuracy"))
    return f"{percent(results['validation_accuracy'])} (where that was best, test accuracy was {selected})"


def _collapsed(run: Run) -> str:
    """Return which layers have no weights left, in words: through them the output does not depend on the input."""
    report = run.sparsity() or {"collapsed_layers": [], "layers": []}
    names = report["collapsed_layers"]
    some = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"{len(names)} of {len(report['layers'])} layers have no weights left: {some}" if names else ""
