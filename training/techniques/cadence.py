"""Steps at which a technique acts: from a first step to a last one, every so many iterations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from foundations.description.hparams import Hparams
from foundations.description.step import Step
from foundations.errors import UsageError


@dataclass(frozen=True)
class Cadence:
    """The steps begin, begin + frequency, ... that are not after the end."""

    begin: Step
    end: Step
    frequency: Step

    @classmethod
    def of(cls, hparams: Hparams, prefix: str, any_step: Step) -> Self:
        """Read the hyperparameters `<prefix>begin`, `<prefix>end` and `<prefix>frequency`.

        any_step: a step of the training.
        """
        names = (f"{prefix}begin", f"{prefix}end", f"{prefix}frequency")
        return cls(*(Step.parse(getattr(hparams, name), any_step.iterations_per_epoch, name) for name in names))

    def check_within(self, last: Step, prefix: str) -> None:
        """Check the cadence for a training that ends at `last`. Raises: UsageError."""
        if self.frequency.iteration == 0:
            raise UsageError("it must be above 0it.", f"{prefix}frequency")
        if not self.begin <= self.end <= last:
            raise UsageError(
                f"{self.begin} to {self.end} is not within the training; choose begin <= end <= {last}.",
                f"{prefix}begin",
                f"{prefix}end",
            )

    def has(self, step: Step) -> bool:
        """Return whether a step is one of these."""
        return self.begin <= step <= self.end and self.since_begin(step) % self.frequency.iteration == 0

    def since_begin(self, step: Step) -> int:
        """Return the number of iterations from the first step to another one."""
        return step.iteration - self.begin.iteration

    @property
    def length(self) -> int:
        """The number of iterations from the first step to the end."""
        return self.since_begin(self.end)
