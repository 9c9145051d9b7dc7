"""The hyperparameters of training (OpenLTH's, and a few more)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from foundations.errors import UsageError
from foundations.hparams import ALWAYS_WRITTEN, Hparams, hparam
from foundations.step import Step


@dataclass(frozen=True, kw_only=True)
class TrainingHparams(Hparams):
    """Training."""

    optimizer_name: str = hparam("sgd", choices=("sgd", "adam", "adamw"), elided=ALWAYS_WRITTEN)
    """sgd, adam or adamw."""
    lr: float = hparam(0.1, above=0, elided=ALWAYS_WRITTEN)
    """Learning rate (its peak, with a warmup or a cosine)."""
    training_steps: str = hparam("160ep", step=True, elided=ALWAYS_WRITTEN)
    """How long to train, as a step: 160ep, 62560it or 159ep391it."""
    momentum: float = hparam(0.0, at_least=0, below=1)
    """Momentum of sgd."""
    nesterov_momentum: float = hparam(0.0, at_least=0, below=1)
    """Nesterov's momentum of sgd, in place of --momentum."""
    weight_decay: float = hparam(0.0, at_least=0)
    """Weight decay on all parameters, biases and batchnorm included: an L2 penalty (sgd, adam) or decoupled (adamw)."""
    lr_schedule: str = hparam("milestones", choices=("milestones", "cosine"))
    """milestones (drops by --gamma at --milestone_steps) or cosine (to 0 at the last step)."""
    milestone_steps: str | None = hparam(None, step_list=True)
    """Steps at which the learning rate drops, such as 80ep,120ep."""
    gamma: float | None = hparam(None, above=0)
    """Factor of each drop of the learning rate."""
    warmup_steps: str = hparam("0it", step=True)
    """Linear warmup of the learning rate from 0, as a step; the very first iteration then has learning rate 0."""
    label_smoothing: float = hparam(0.0, at_least=0, below=1)
    """Share of the target spread evenly over all classes, in the training loss."""
    data_order_seed: int | None = hparam(None)
    """Pins the order of the examples; by default each replicate has its own."""
    precision: str = hparam("float32", choices=("float32", "tf32", "bf16", "fp16"))
    """float32, tf32 (CUDA's matrix products), bf16 or fp16 (mixed precision; fp16 with loss scaling)."""

    def validate(self) -> None:
        """Check that drops have both their steps and their factor, and that one kind of momentum is meant."""
        if (self.milestone_steps is None) != (self.gamma is None):
            raise UsageError("give both or neither; one alone changes nothing.", "milestone_steps", "gamma")
        if self.lr_schedule == "cosine" and self.milestone_steps is not None:
            raise UsageError("a cosine has no milestones; give one of them.", "lr_schedule", "milestone_steps")
        if self.momentum and self.nesterov_momentum and self.momentum != self.nesterov_momentum:
            raise UsageError("they differ; give the one that is meant.", "momentum", "nesterov_momentum")

    def simplified(self) -> Self:
        """Drop what cannot change the result: both momenta where one is meant, sgd's under adam, an empty schedule."""
        changes: dict[str, Any] = {}
        if self.optimizer_name != "sgd":
            changes |= {"momentum": 0.0, "nesterov_momentum": 0.0}
        elif self.nesterov_momentum:
            changes |= {"momentum": 0.0}
        if self.milestone_steps is not None and (self.gamma == 1 or not self.milestone_steps):
            changes |= {"milestone_steps": None, "gamma": None}
        return self.replaced(changes)

    def end(self, iterations_per_epoch: int) -> Step:
        """Return the last step."""
        return Step.parse(self.training_steps, iterations_per_epoch, "training_steps")
