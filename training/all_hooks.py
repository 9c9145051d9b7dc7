"""The hooks of all techniques of a training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from foundations.description.step import Step
from training.checked_hooks import hooks_of
from training.technique import Hooks, Training

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

    @classmethod
    def of(cls, techniques: TechniquesHparams | None, training: Training) -> Self:
        """Return the hooks of some techniques in a training. Raises: PluginError as `hooks_of`."""
        parts = () if techniques is None else techniques.parts
        return cls({technique.spelling: hooks_of(technique, training, own) for technique, own in parts})

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

    def start(self, training: Training, mask: Mask | None, step: Step) -> None:
        """Prepare a new training that starts from a mask, if there is one, and act at its first step."""
        for hooks in self._each:
            hooks.before_mask()
        if mask is not None:
            mask.apply_(training.model)
        training.set_mask(mask)
        for hooks in self._each:
            hooks.prepare()
        self.before_step(step)

    def before_step(self, step: Step) -> None:
        """Act at a step, before evaluation."""
        for hooks in self._each:
            hooks.before_step(step)

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
            yield

    def after_backward(self, step: Step) -> bool:
        """Act before the optimizer's step; return whether a technique skips that."""
        skips = [hooks.after_backward(step) for hooks in self._each]  # each acts, whatever others return
        return any(skips)

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
        return {f"{technique}.{name}": tensor for technique, own in states.items() for name, tensor in own.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the result of `state_dict`."""
        for technique, hooks in self.by_name.items():
            prefix = f"{technique}."
            hooks.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
