"""Flags of jobs that are not part of a description."""

from __future__ import annotations

from dataclasses import dataclass

from cli.request.folder_flags import DatasetsRootHparams, RootHparams
from foundations.description.hparams import hparam
from foundations.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class WorkHparams(RootHparams, DatasetsRootHparams):
    """Settings of the work on runs. Not part of a run's address."""

    keep_best: bool = hparam(False)
    """Also keep the state where the headline metric on held out examples, such as accuracy or perplexity, was best (see
    --validation_examples)."""
    evaluate_only_at_end: bool = hparam(False)
    """Measure on the test set at the first and last step only, not every epoch."""
    evaluate_every: int = hparam(1, at_least=1)
    """Measure on the test set every so many epochs only, and at the last step."""
    cuda_graphs: bool = hparam(False)
    """On a GPU, record the forward and backward pass once and replay it: small networks train faster."""
    checkpoint_seconds: float = hparam(60.0, at_least=0)
    """Seconds between checkpoints; an interrupted job also writes one."""
    num_workers: int | None = hparam(None, at_least=0)
    """Processes that decode images of datasets that are not held in memory, for each process of the job; by default one
    for each core. 0 decodes in the job's own process."""
    tensorboard: bool = hparam(False)
    """Write curves for `tensorboard --logdir ROOT/.logs/tensorboard`, also of runs that are complete already."""
    wandb: bool = hparam(False)
    """Log runs to Weights & Biases, also those that are complete already; its own variables, such as
    WANDB_MODE=offline, hold."""
    wandb_project: str | None = hparam(None)
    """The project of --wandb; by default open_prune."""
    log: str | None = hparam(None)
    """Further loggers, from plug-ins: their names, separated by commas."""
    no_download: bool = hparam(False)
    """Never download a dataset (OPEN_PRUNE_NO_DOWNLOAD=1 does the same)."""
    quiet: bool = hparam(False)
    """Print nothing but errors."""

    def loggers(self) -> tuple[str, ...]:
        """Return the names of the loggers. Raises: UsageError for an unknown one, or one whose package is missing."""
        if self.wandb_project is not None and not self.wandb:
            raise UsageError("it is the project of --wandb, which is not given.", "wandb_project")
        project = "" if self.wandb_project is None else f":{self.wandb_project}"
        named = {"tensorboard": "tensorboard"} if self.tensorboard else {}
        named |= {f"wandb{project}": "wandb_project" if project else "wandb"} if self.wandb else {}
        named |= {name.strip(): "log" for name in (self.log or "").split(",") if name.strip()}
        if named:
            from training.loggers.registry import check_installed  # most commands need none

            for name, hparam in named.items():
                check_installed(name, hparam)
        return tuple(named)


@dataclass(frozen=True, kw_only=True)
class RequestHparams(WorkHparams):
    """Settings of the work on runs, or output in its place. Not part of a run's address."""

    display_output_location: bool = hparam(False)
    """Print the run's directory and stop."""
    dry_run: bool = hparam(False)
    """Print what would be computed and what is there already, and stop."""
    remote: str | None = hparam(None)
    """A remote to ask before computing: a URL, or a name of `remote add`. Runs that it has are pulled."""


@dataclass(frozen=True, kw_only=True)
class JobHparams(RequestHparams):
    """Settings of the job. Not part of a run's address."""

    default_hparams: str | None = hparam(None)
    """Preset of every hyperparameter by the name of a network, such as mnist_lenet_300_100; other flags override it.
    By default cifar_resnet_20, unless --model_name is given: then nothing is preset."""
    replicate: int = hparam(1, at_least=1)
    """Number of the replicate: each has its own random streams and its own directory."""
    weight_save_steps: str | None = hparam(None)
    """Further steps whose states are kept, such as 100it,500it,2ep-8ep@2ep; the first and last always are."""
