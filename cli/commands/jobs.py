"""The train command, and shared code of the computing commands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from branches.desc import trained_of
from cli.request.flags import RunOf, parse, value_of
from cli.request.job_flags import JobHparams
from cli.request.request import Request, run_request
from datasets.added.added import register_added
from datasets.hparams import DatasetHparams
from foundations.description.desc import Desc, RunRef
from foundations.description.step import Step, parse_steps
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.plan import Target
from models.hparams import ModelHparams
from platforms.executors.registry import ExecutorHparams
from platforms.executors.site import site_settings
from platforms.platform import PlatformHparams
from training.desc import TrainDesc
from training.hparams import TechniquesHparams, TrainingHparams
from training.recipes import recipe

DEFAULT_RECIPE = "cifar_resnet_20"


class JobFlags(Protocol):
    """The flags of every computing command: settings of the job, platform and executor."""

    @property
    def job(self) -> JobHparams: ...  # noqa: D102
    @property
    def platform(self) -> PlatformHparams: ...  # noqa: D102
    @property
    def executor(self) -> ExecutorHparams: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Train a network and keep its states at chosen steps."""

    dataset: DatasetHparams = field(default_factory=DatasetHparams)
    model: ModelHparams = field(default_factory=ModelHparams)
    training: TrainingHparams = field(default_factory=TrainingHparams)
    techniques: TechniquesHparams = field(default_factory=TechniquesHparams)
    job: JobHparams = field(default_factory=JobHparams)
    platform: PlatformHparams = field(default_factory=PlatformHparams)
    executor: ExecutorHparams = field(default_factory=ExecutorHparams)

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
    """Return the description of a training, cached: many branches share it."""
    return TrainDesc(dataset=dataset, model=model, training=training, techniques=techniques)


Flags = TypeVar("Flags")


def train(argv: Sequence[str], environment: Environment) -> int:
    """`train`: compute a training, or reuse it."""
    return run_request(train_request(argv, environment), environment)


def train_request(argv: Sequence[str], environment: Environment) -> Request:
    """Return the request of a `train` command. Raises: UsageError, HelpRequested."""
    flags = parse_job(TrainFlags, argv, "train", environment)
    first_line = taken_by_default(argv, *flags.techniques.choices)
    return single_request(flags.train_desc(), flags, first_line)


def single_request(desc: Desc, flags: JobFlags, first_line: str = "") -> Request:
    """Return the request for one run, with the states that the flags name."""
    check_keep_best(desc, flags.job)
    keep = tuple(steps_to_keep(desc, flags.job.weight_save_steps))
    target = Target(desc, flags.job.replicate, keep)
    return Request(
        targets={"": target}, job=flags.job, platform=flags.platform, executor=flags.executor, first_line=first_line
    )


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
    chosen = recipe_of(name) if name else preset or {}
    return parse(kind, argv, command, {**site_settings(environment.site), **chosen}, run_of)


def taken_by_default(argv: Sequence[str], *choices: tuple[Mapping[str, Any], Sequence[str]]) -> str:
    """Return a line with the flags that were not given and their default values, or an empty text.

    choices: default values by flag, and the flags of which any one replaces them.
    """
    taken = [
        f"--{flag}={value}"
        for values, spellings in choices
        if all(value_of(spelling, argv) is None for spelling in spellings)
        for flag, value in values.items()
        if value is not None
    ]
    return f"Not given, so taken by default: {' '.join(taken)}" if taken else ""


def steps_to_keep(desc: Desc, text: str | None) -> list[Step]:
    """Read --weight_save_steps. Raises: UsageError for a step outside the run."""
    steps = parse_steps(text or "", desc.iterations_per_epoch, "weight_save_steps")
    for step in steps:
        if not desc.start <= step <= desc.end:
            raise UsageError(f"{step} is not in this run; choose {desc.start} to {desc.end}.", "weight_save_steps")
    return steps


def check_keep_best(desc: Desc, job: JobHparams) -> None:
    """Raise UsageError for `keep_best` if no examples are held out to choose the best state."""
    if job.keep_best and not trained_of(RunRef(desc)).dataset.validation_examples:
        raise UsageError("no examples are held out to choose a state by; give their number.", "validation_examples")
