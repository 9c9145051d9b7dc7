"""The hooks of all techniques of a training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from foundations.description.step import Step
from training.checked_hooks import hooks_of
from training.own_weights import OwnWeights
from training.technique import Hooks, Training
from training.without_effect import warn_of_zeros

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.masks.mask import Mask
    from training.hparams import TechniquesHparams


@dataclass(frozen=True)
class AllHooks:
    """The hooks of the techniques by name, called in their order, and their results as one.

    Jobs and `training.sparse` call techniques through this class alone.
    """

    by_name: Mapping[str, Hooks[Any]] = field(default_factory=dict)
    own: OwnWeights | None = None
    """Effective weights, own parameters and outcomes of the techniques; None if they have none."""

    @classmethod
    def of(cls, techniques: TechniquesHparams | None, training: Training) -> Self:
        """Return the hooks of some techniques in a training. Raises: PluginError as `hooks_of`."""
        parts = () if techniques is None else techniques.parts
        by_name = {technique.spelling: hooks_of(technique, training, own) for technique, own in parts}
        return cls(by_name, OwnWeights.of(training, tuple(by_name.values())))

    def __bool__(self) -> bool:
        return bool(self.by_name)

    @property
    def _each(self) -> tuple[Hooks[Any], ...]:
        return tuple(self.by_name.values())

    @property
    def changes_loss(self) -> bool:
        """Whether a technique changes the training loss."""
        return any(type(hooks).loss is not Hooks.loss for hooks in self._each)

    @property
    def prunes_first(self) -> bool:
        """Whether no technique changes the state in a step before the network is scored."""
        return all(hooks.prunes_first for hooks in self._each)

    @property
    def changes_rate(self) -> bool:
        """Whether a technique changes the learning rate."""
        return any(type(hooks).learning_rate is not Hooks.learning_rate for hooks in self._each)

    @property
    def own_parameters(self) -> list[Tensor]:
        """The parameters that techniques own."""
        return [] if self.own is None else self.own.parameters.tensors

    @property
    def keeps_state(self) -> bool:
        """Whether masks leave the optimizer's state of pruned weights alone."""
        return any(hooks.keeps_state for hooks in self._each)

    @property
    def masks_gradients(self) -> bool:
        """Whether the optimizer sees gradients of zero for pruned weights."""
        return any(hooks.masks_gradients for hooks in self._each)

    def start(self, training: Training, mask: Mask | None, step: Step) -> None:
        """Prepare a new training that starts from a mask, if there is one, and act at its first step."""
        warn_of_zeros({name: hooks.hparams for name, hooks in self.by_name.items()})
        for hooks in self._each:
            hooks.before_mask()
        if mask is not None:
            mask.apply_(training.model)
        training.set_mask(mask)
        for hooks in self._each:
            hooks.prepare()
        if self.own is not None:
            self.own.begin()
        self.before_step(step)

    def before_step(self, step: Step) -> None:
        """Act at a step, before evaluation; at the last step, let the outcome of training take its place."""
        for hooks in self._each:
            hooks.before_step(step)
        if self.own is not None:
            self.own.act(step)

    def leave(self) -> None:
        """Take effective weights and own parameters away, before or after the end."""
        if self.own is not None:
            self.own.leave()

    def learning_rate(self, step: Step, rate: float) -> float:
        """Return the learning rate of a step, as the techniques change it one after the other."""
        for hooks in self._each:
            rate = hooks.learning_rate(step, rate)
        return rate

    def metrics(self) -> dict[str, float]:
        """Return values to record, by `<technique>_<name>`."""
        return {
            f"{technique}_{name}": value
            for technique, hooks in self.by_name.items()
            for name, value in hooks.metrics().items()
        }

    def loss(self, value: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a training batch, as the techniques change it one after the other."""
        for hooks in self._each:
            value = hooks.loss(value, logits, labels)
        return value

    def reported_loss(self, total: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the reported loss of a batch, as the techniques change it one after the other."""
        for hooks in self._each:
            total = hooks.reported_loss(total, logits, labels)
        return total

    @contextlib.contextmanager
    def evaluated(self) -> Iterator[None]:
        """Inside the block, let the network have the weights that are evaluated."""
        with contextlib.ExitStack() as stack:
            for hooks in self._each:
                stack.enter_context(hooks.evaluated())
            stack.enter_context(self.scored())
            yield

    def scored(self) -> AbstractContextManager[None]:
        """Return a context manager in which the network's parameters are the effective weights."""
        return nullcontext() if self.own is None else self.own.evaluated()

    def after_backward(self, step: Step) -> bool:
        """Act before the optimizer's step; return whether a technique skips that."""
        skips = [hooks.after_backward(step) for hooks in self._each]  # each acts, whatever others return
        return any(skips)

    def is_over(self, step: Step) -> bool:
        """Return whether a technique ends the training at a step."""
        return any(hooks.is_over(step) for hooks in self._each)

    def skipped_before(self, step: Step) -> int:
        """Return the number of iterations before a step that the learning rate ignores."""
        return sum(hooks.skipped_before(step) for hooks in self._each)

    def after_step(self, step: Step) -> None:
        """Act after the optimizer's step."""
        for hooks in self._each:
            hooks.after_step(step)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors of all techniques, by `<technique>.<name>`."""
        states = {technique: hooks.state_dict() for technique, hooks in self.by_name.items()}
        found = {f"{technique}.{name}": tensor for technique, own in states.items() for name, tensor in own.items()}
        return found if self.own is None else found | self.own.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the result of `state_dict`."""
        for technique, hooks in self.by_name.items():
            prefix = f"{technique}."
            hooks.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
        if self.own is not None:
            self.own.load_state_dict(state)
