"""Techniques that fade while the network trains: from all to nothing, linearly between two steps. Imports no torch."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

from foundations.description.step import Step
from foundations.errors import UsageError
from training.technique import Hooks, TechniqueHparams

if TYPE_CHECKING:
    from models.networks.fading import Fading


class FadingHparams(TechniqueHparams):
    """A technique with two steps: the start of its fading and the end. Without them it does not fade.

    A subclass declares them as `<prefix>fade_begin` and `<prefix>fade_end`, text or None. With one of them given, the
    other is the first or the last step.
    """

    fade_prefix: ClassVar[str]
    """Prefix of the names of the two fields."""

    @classmethod
    def fade(cls) -> tuple[str, str]:
        """Return the names of the two fields."""
        return f"{cls.fade_prefix}fade_begin", f"{cls.fade_prefix}fade_end"

    @property
    def fades(self) -> bool:
        """Whether the technique fades."""
        return any(getattr(self, name) is not None for name in self.fade())

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Write both steps out. Raises: UsageError if they are not in order."""
        if not self.fades:
            return self
        first, last = self.fade()
        resolved = self.replaced({first: getattr(self, first) or "0it", last: getattr(self, last) or str(end)})
        begin, until = resolved._steps(end)
        if begin > until:
            raise UsageError(f"{begin} is after {until}; it fades from the first to the second.", first, last)
        return resolved

    def strength_at(self, step: Step) -> float:
        """Return the strength left at a step: 1 until the fading begins, 0 from its end on."""
        begin, end = self._steps(step)
        if step >= end:
            return 0.0
        return min(1.0, (end.iteration - step.iteration) / (end.iteration - begin.iteration))

    def _steps(self, any_step: Step) -> tuple[Step, Step]:
        first, last = (
            Step.parse(getattr(self, name) or "", any_step.iterations_per_epoch, name) for name in self.fade()
        )
        return first, last


F = TypeVar("F", bound=FadingHparams)


class FadingHooks(Hooks[F]):
    """Let parts of the network fade."""

    @staticmethod
    @abstractmethod
    def part() -> type[Fading]:
        """Return the class of the parts; import it here, so that listing techniques does not wait for torch."""

    def before_step(self, step: Step) -> None:
        """Set the strength of the fading parts at a step."""
        if self.hparams.fades:
            for module in self.training.model.modules():
                if isinstance(module, self.part()):
                    module.strength = self.hparams.strength_at(step)
