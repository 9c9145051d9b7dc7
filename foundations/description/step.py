"""A point in training, as people write it (`80ep`, `500it`, `2ep30it`) and as the loop counts it (iterations).

The state 'at step t' is the state before the update of iteration t, so `0it` is the initialization and a run of N
iterations ends at step N.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from foundations.errors import UsageError

_STEP = re.compile(r"(?:(?P<ep>0|[1-9]\d{0,17})ep)?(?:(?P<it>0|[1-9]\d{0,17})it)?", re.ASCII)
_MOST_STEPS = 100_000
BEST = "best"
"""Stands for the step where the headline metric on held out examples was best, of a complete run."""
HOW_TO_WRITE_A_STEP = "a step is written like 80ep, 500it or 2ep30it"


@dataclass(frozen=True)
class Step:
    """An iteration count together with the number of iterations in an epoch.

    Steps compare only with steps of the same number of iterations in an epoch; otherwise they raise ValueError, since
    `2ep` of one batch size is not `2ep` of another.
    """

    iteration: int
    iterations_per_epoch: int

    def __post_init__(self) -> None:
        if self.iteration < 0 or self.iterations_per_epoch < 1:
            raise ValueError(f"no such step: {self.iteration} of {self.iterations_per_epoch} an epoch")

    @classmethod
    def parse(cls, text: str, iterations_per_epoch: int, hparam: str = "step") -> Step:
        """Read `80ep`, `500it` or `2ep30it`.

        Raises: UsageError that names `hparam`, for anything else (`012ep`, `1.5ep`, an empty text, spaces).
        """
        match = _STEP.fullmatch(text)
        if not match or not text:
            raise UsageError(f"'{text}' is not a step; {HOW_TO_WRITE_A_STEP}.", hparam)
        epochs, iterations = int(match["ep"] or 0), int(match["it"] or 0)
        return cls(epochs * iterations_per_epoch + iterations, iterations_per_epoch)

    @property
    def ep(self) -> int:
        """Whole epochs before this step."""
        return self.iteration // self.iterations_per_epoch

    @property
    def it(self) -> int:
        """Iterations into the current epoch."""
        return self.iteration % self.iterations_per_epoch

    @property
    def file_name_part(self) -> str:
        """The step as written in names of files: `ep2_it30`."""
        return f"ep{self.ep}_it{self.it}"

    def at(self, iteration: int) -> Step:
        """Return the step at another iteration of the same training."""
        return Step(iteration, self.iterations_per_epoch)

    def __str__(self) -> str:
        return f"{self.iteration}it"

    def _iteration_of(self, other: Step) -> int:
        """Return the iteration of another step. Raises: ValueError where its epochs have another length."""
        if self.iterations_per_epoch != other.iterations_per_epoch:
            raise ValueError(
                f"steps of {self.iterations_per_epoch} and of {other.iterations_per_epoch} iterations an epoch "
                "cannot be compared"
            )
        return other.iteration

    def __eq__(self, other: object) -> bool:
        return self.iteration == self._iteration_of(other) if isinstance(other, Step) else NotImplemented

    def __lt__(self, other: Step) -> bool:
        return self.iteration < self._iteration_of(other)

    def __le__(self, other: Step) -> bool:
        return self.iteration <= self._iteration_of(other)

    def __hash__(self) -> int:
        return hash((self.iteration, self.iterations_per_epoch))


def parse_steps(text: str, iterations_per_epoch: int, hparam: str = "steps") -> list[Step]:
    """Read a comma-separated list of steps and ranges, such as `0it,500it,2ep-8ep@2ep` (both ends included).

    Returns the steps in ascending order; a step that is written twice appears twice (two milestones at one step are two
    drops of the learning rate). An empty text is an empty list.

    Raises: UsageError that names `hparam`, for what is not a step, or a range without a stride or that runs backwards.
    """
    steps: list[Step] = []
    for part in filter(None, text.split(",")):
        bounds, at, stride_text = part.partition("@")
        first_text, dash, last_text = bounds.partition("-")
        first = Step.parse(first_text, iterations_per_epoch, hparam)
        if not dash and not at:
            steps.append(first)
            continue
        if not (dash and at):
            raise UsageError(f"'{part}' is not a range; a range is written like 2ep-8ep@2ep.", hparam)
        last = Step.parse(last_text, iterations_per_epoch, hparam)
        stride = Step.parse(stride_text, iterations_per_epoch, hparam)
        if stride.iteration == 0 or last < first:
            raise UsageError(f"the range '{part}' holds no steps; it runs from first to last by a stride > 0.", hparam)
        if (last.iteration - first.iteration) // stride.iteration >= _MOST_STEPS:
            raise UsageError(f"the range '{part}' holds more than {_MOST_STEPS:,} steps.", hparam)
        steps += [first.at(i) for i in range(first.iteration, last.iteration + 1, stride.iteration)]
    return sorted(steps)
