"""Exponential moving average of the weights (Polyak and Juditsky 1992, in the form of Tarvainen and Valpola 2017).

After each step, average = d average + (1 - d) weights, with d the decay. Running statistics of batch normalization are
averaged with the weights; integers are not. The average is evaluated, and it is the state that a run keeps at a step:
the best and the last one, and those to branch from. With `ema_only_at_end`, only the last state is the average.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from foundations.description.hparams import hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from training.technique import Hooks, Technique, TechniqueHparams, Training

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class EmaHparams(TechniqueHparams):
    """The average of the weights, and its use."""

    ema_decay: float = hparam(0.999, at_least=0, below=1)
    """The share of the average that stays after each step."""
    ema_warmup: bool = hparam(False)
    """In step t of the average, from 1, decay by (1 + t) / (10 + t) while this is less: short trainings then do not
    keep their first weights."""
    ema_begin: str = hparam("0it", step=True)
    """The step whose weights the average starts from."""
    ema_only_at_end: bool = hparam(False)
    """Before the last step, evaluate and keep the weights that train, not the average."""

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Check the first step. Raises: UsageError if it is the end or after it."""
        begin = Step.parse(self.ema_begin, end.iterations_per_epoch, "ema_begin")
        if begin >= end:
            raise UsageError(f"{begin} is not before the end of training, {end}.", "ema_begin")
        return self


class Ema(Hooks[EmaHparams]):
    """Average the weights."""

    def __init__(self, training: Training, hparams: EmaHparams) -> None:
        super().__init__(training, hparams)
        self._begin = training.step(hparams.ema_begin, "ema_begin")
        self._average = self.kept("average")

    def before_step(self, step: Step) -> None:
        """Start the average at its first step; at the last step, replace the weights by the average."""
        if step >= self._begin and not self._average:
            self._average |= {name: tensor.clone() for name, tensor in self._averaged().items()}
        if step == self.training.end:
            self._put(self._average)

    def after_step(self, step: Step) -> None:
        """Add the new weights to the average."""
        import torch

        if step < self._begin:
            return
        weights = self._averaged()
        torch._foreach_lerp_([self._average[name] for name in weights], list(weights.values()), 1 - self._decay(step))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the average, in the memory formats of the weights."""
        import torch

        super().load_state_dict(state)
        if self._average:
            own = self._averaged()
            self._average |= {name: torch.empty_like(own[name]).copy_(t) for name, t in self._average.items()}

    def evaluated(self) -> AbstractContextManager[None]:
        """Put the average in the place of the weights, inside the block."""
        if not self._average or self.hparams.ema_only_at_end:
            return contextlib.nullcontext()
        return self._with_average()

    @contextlib.contextmanager
    def _with_average(self) -> Iterator[None]:
        own = {name: tensor.clone() for name, tensor in self._averaged().items()}
        self._put(self._average)
        try:
            yield
        finally:
            for name, tensor in self._averaged().items():
                tensor.copy_(own[name])

    def _decay(self, step: Step) -> float:
        count = step.iteration - self._begin.iteration + 1
        decay = self.hparams.ema_decay
        return min(decay, (1 + count) / (10 + count)) if self.hparams.ema_warmup else decay

    def _averaged(self) -> dict[str, Tensor]:
        """Return the parameters and buffers that are averaged, without gradients."""
        return {name: t for name, t in self.training.model.state_dict().items() if t.is_floating_point()}

    def _put(self, values: dict[str, Tensor]) -> None:
        """Give the network these values, and zeros where its mask prunes."""
        for name, tensor in self._averaged().items():
            tensor.copy_(values[name])
        if self.training.mask is not None:
            self.training.mask.apply_(self.training.model)


EMA = Technique(
    spelling="ema",
    known_as=("polyak", "polyak_averaging", "weight_averaging", "mean_teacher"),
    summary="evaluate, and end with, an exponential moving average of the weights",
    paper="Tarvainen and Valpola 2017, Mean Teachers Are Better Role Models",
    hparams=EmaHparams,
    hooks=Ema,
)
