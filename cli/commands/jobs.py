"""The train command, and shared code of the computing commands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cli.request.flags import Flags, RunOf, value_of
from cli.request.job_flags import JobHparams
from cli.request.replaced_data import parsed_over
from cli.request.request import Request, run_request
from datasets.added.added import register_added
from datasets.hparams import DatasetHparams
from foundations.description.desc import Desc, RunRef
from foundations.description.hparams import Hparams
from foundations.description.step import parse_steps
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


COMPUTING: dict[str, type[Hparams]] = {
    "job": JobHparams,
    "platform": PlatformHparams,
    "executor": ExecutorHparams,
}
"""The groups of every command that computes runs."""
TRAIN = Flags(
    "train",
    "Train a network and keep its states at chosen steps.",
    dataset=DatasetHparams,
    model=ModelHparams,
    training=TrainingHparams,
    techniques=TechniquesHparams,
    **COMPUTING,
)


def train_desc(flags: Any) -> TrainDesc:
    """Return the training that the flags describe."""
    return _train_desc(flags.dataset, flags.model, flags.training, flags.techniques)


def parent_desc(flags: Any) -> TrainDesc:
    """Return the training without techniques, which a branch of `train` has as its parent."""
    return _train_desc(flags.dataset, flags.model, flags.training, None)


@functools.lru_cache(maxsize=64)
def _train_desc(
    dataset: DatasetHparams, model: ModelHparams, training: TrainingHparams, techniques: TechniquesHparams | None
) -> TrainDesc:
    """Return the description of a training, cached: many branches share it."""
    return TrainDesc(dataset=dataset, model=model, training=training, techniques=techniques)


def train(argv: Sequence[str], environment: Environment) -> int:
    """`train`: compute a training, or reuse it."""
    return run_request(train_request(argv, environment), environment)


def train_request(argv: Sequence[str], environment: Environment) -> Request:
    """Return the request of a `train` command. Raises: UsageError, HelpRequested."""
    flags = parse_job(TRAIN, argv, environment)
    first_line = taken_by_default(argv, *flags.techniques.choices)
    return single_request(train_desc(flags), flags, first_line)


def single_request(desc: Desc, flags: Any, first_line: str) -> Request:
    """Return the request for one run, with the states that the flags name. Raises: UsageError."""
    return series_request({"": desc}, flags, "", first_line)


def series_request(descs: Mapping[str, Desc], flags: Any, series: str, first_line: str) -> Request:
    """Return the request for several runs by name, with the states that the flags name. Raises: UsageError."""
    lines = (flags.left_out, first_line)
    for desc in descs.values():
        check_keep_best(desc, flags.job)
    return Request(
        targets={name: target_of(desc, flags.job) for name, desc in descs.items()},
        job=flags.job,
        platform=flags.platform,
        executor=flags.executor,
        series=series,
        first_line="\n".join(filter(None, lines)),
    )


def target_of(desc: Desc, job: JobHparams) -> Target:
    """Return the target of a run with the states that the flags name. Raises: UsageError for a step outside the run."""
    steps = parse_steps(job.weight_save_steps or "", desc.iterations_per_epoch, "weight_save_steps")
    for step in steps:
        if not desc.start <= step <= desc.end:
            raise UsageError(f"{step} is not in this run; choose {desc.start} to {desc.end}.", "weight_save_steps")
    return Target(desc, job.replicate, tuple(steps))


def parse_job(
    flags: Flags,
    argv: Sequence[str],
    environment: Environment,
    run_of: RunOf | None = None,
    preset: Mapping[str, Any] | None = None,
    recipe_of: Callable[[str], Mapping[str, Any]] = recipe,
) -> SimpleNamespace:
    """Parse a job's flags over the preset that they name, with users' own datasets known; see `parsed_over`.

    preset: hyperparameters by name, in place of a recipe where the flags name none. recipe_of: the hyperparameters of a
    recipe.
    """
    register_added(Path(value_of("datasets_root", argv) or environment.datasets).expanduser())
    name = value_of("default_hparams", argv)
    if name is None and preset is None and value_of("model_name", argv) is None:
        name = DEFAULT_RECIPE
    chosen = recipe_of(name) if name else preset or {}
    return parsed_over(flags, argv, chosen, site_settings(environment.site), run_of, _check_training)


def _check_training(flags: Any) -> None:
    """Raise UsageError if the flags describe a training that is not possible."""
    if hasattr(flags, "training"):
        parent_desc(flags)


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


def check_keep_best(desc: Desc, job: JobHparams) -> None:
    """Raise UsageError for `keep_best` if no examples are held out to choose the best state."""
    if not job.keep_best:
        return
    from branches.desc import trained_of

    if not trained_of(RunRef(desc)).dataset.validation_examples:
        raise UsageError("no examples are held out to choose a state by; give their number.", "validation_examples")
