"""The declaration of a schedule of the learning rate. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foundations.registry import Registered

if TYPE_CHECKING:
    from training.hparams import TrainingHparams


@dataclass(frozen=True)
class Course:
    """A training, as schedules of its learning rate see it. All steps are iterations from its start."""

    end: int
    """The last step."""
    iterations_per_epoch: int
    warmup: int = 0
    """The last step of the warmup; 0 without one."""
    milestones: tuple[int, ...] = ()
    """The steps of --milestone_steps."""
    gamma: float = 1.0
    """The factor of each milestone."""
    hparams: Any = None
    """The hyperparameters of the training (`TrainingHparams`), with the schedule's own."""

    def progress(self, t: int) -> float:
        """Return the part of the training after the warmup that has passed at a step, from 0 to 1."""
        return min(1.0, max(0, t - self.warmup) / max(1, self.end - self.warmup))


@dataclass(frozen=True, kw_only=True, eq=False)
class LrSchedule(Registered):
    """A schedule of the learning rate. The warmup is not part of it: it multiplies every schedule."""

    summary: str
    paper: str = ""
    factor: Callable[[int, Course], float]
    """(iteration from 0, training) -> the factor of --lr, of 0 or more."""
    ends_at_zero: bool = False
    """Whether the factor falls from 1 to 0. Then --min_lr takes the place of 0, and the factor says how the rate falls
    from --lr to it. Otherwise, --min_lr is a lower bound."""
    takes_milestones: bool = False
    """Whether the factor uses --milestone_steps and --gamma."""
    hparams: type[TrainingHparams] | None = None
    """A subclass with the options of the schedule, which become flags of its --lr_schedule; None without options."""
