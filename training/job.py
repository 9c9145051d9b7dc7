"""Jobs: a description that can be computed.

A job says only what is its own: its description, the runs that it needs, and the state and mask that it starts from.
`training.completion` does the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from foundations.address import Desc
from foundations.run import Manifest, Run
from foundations.step import Step
from platforms.base import Platform
from training.context import Context
from training.desc import TrainDesc

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.mask import Mask
    from training.session import Shrink


@dataclass(frozen=True)
class Beginning:
    """What a training starts from."""

    state: Mapping[str, Tensor]
    mask: Mask | None = None
    parents: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the parents' files that were used, by `<run>/<file>`."""


@dataclass(frozen=True)
class Outcome:
    """What a job came to."""

    run: Run
    manifest: Manifest
    reused: bool


class Job(ABC):
    """A description that can be computed."""

    desc: Desc
    training: TrainDesc
    """How it trains; of a branch, its trunk's."""
    start: Step

    @property
    def end(self) -> Step:
        """The last step."""
        return self.training.end

    def run(self, context: Context) -> Run:
        """Return the run's directory."""
        return Run(context.root, self.desc.location(context.replicate))

    @abstractmethod
    def resolve(self, context: Context) -> None:
        """Make what the job needs of other runs, before its own lock is taken: no job blocks on a job inside it."""

    @abstractmethod
    def begin(self, run: Run, context: Context, platform: Platform) -> Beginning:
        """Return what the training starts from, keeping in the run what should outlast an interruption.

        A resumed training calls it too, so that what was lost of that since is made again.
        """

    def shrink(self, context: Context, platform: Platform) -> Shrink | None:
        """Return how the mask changes while training, or None where it does not."""
        return None

    def conclude(self, run: Run, mask: Mask | None) -> None:
        """Keep in the run what only the end of training knows."""

    def results(self, run: Run) -> dict[str, float]:
        """Return headline figures beside the last value of each metric."""
        return {}


@dataclass(frozen=True)
class TrainJob(Job):
    """Train a network from its initialization."""

    desc: TrainDesc

    @property
    def training(self) -> TrainDesc:  # type: ignore[override]
        """The description itself."""
        return self.desc

    @property
    def start(self) -> Step:  # type: ignore[override]
        """The initialization."""
        return self.desc.start

    def resolve(self, context: Context) -> None:
        """Do nothing: a training from the start needs no other run."""

    def begin(self, run: Run, context: Context, platform: Platform) -> Beginning:
        """Draw the initialization of the replicate."""
        from training.session import blank_model

        return Beginning(blank_model(self.desc, context.replicate).state_dict())
