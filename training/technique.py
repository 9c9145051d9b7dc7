"""The interface of techniques: what each declares, and its hooks during training. Imports no torch.

A technique changes the training from outside the loop: gradual pruning, RigL, SET. It is an object with the hooks that
it needs. Techniques compose: a run with `technique=gmp,rigl` uses both, and at each hook they act in that order.
Techniques that a run does not use are absent from its address.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

from foundations.description.hparams import Hparams
from foundations.description.step import Step
from foundations.registry import Registered

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from pruning.hparams import PruningHparams
    from pruning.masks.mask import Mask
    from training.desc import TrainDesc
    from training.hparams import TrainingHparams


@dataclass(frozen=True, kw_only=True)
class TechniqueHparams(Hparams):
    """The hyperparameters of one technique. One without any uses this class itself."""

    moves_mask: ClassVar[bool] = False
    """Whether the technique drops weights of the mask and grows others. A training has one of these."""

    @property
    def uses_seed(self) -> bool:
        """Whether the technique draws random numbers, so that a seed can change the result."""
        return False

    @property
    def final_level(self) -> float | None:
        """The prune fraction of the mask at the end of training, if the hyperparameters set it; else None."""
        return None

    @property
    def least_outcome(self) -> float:
        """The least density of a mask that training learns, of all prunable weights; 0 where it may be any."""
        return 0.0

    @property
    def grows_zeros(self) -> bool:
        """Whether weights begin to train at 0."""
        return False

    @property
    def leaves_zeros(self) -> bool:
        """Whether weights of 0 get no gradient, so that they stay 0."""
        return False

    @property
    def choices(self) -> Sequence[tuple[Mapping[str, Any], Sequence[str]]]:
        """Defaults that a job prints in its first line: values by field, and the fields that set them."""
        return ()

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Return the hyperparameters for a training that ends at `end`, with the defaults that depend on it.

        has_mask: whether the training starts from a mask, or a technique before this one makes one.
        Raises: UsageError if the technique cannot be used in this training.
        """
        return self

    def within_mask(self) -> Self:
        """Return the hyperparameters of the next level of a lottery, which starts from the mask of the one before."""
        return self

    def check_with(self, training: TrainingHparams) -> None:
        """Raise UsageError if the technique cannot be used with these hyperparameters of training."""

    def versions(self) -> dict[str, int]:
        """Return the versions of everything else that determines the result, such as a pruning method."""
        return {}

    @property
    def scores_with(self) -> PruningHparams | None:
        """Hyperparameters by which the technique scores the weights while the network trains; None if it does not."""
        return None


H = TypeVar("H", bound=TechniqueHparams)


class Training(Protocol):
    """A technique's view of the training in which it acts."""

    model: nn.Module
    """The network, on the training's device."""
    optimizer: torch.optim.Optimizer
    mask: Mask | None
    """Mask of the weights kept at present; None if nothing is pruned. Change it by `set_mask`."""

    @property
    def seed(self) -> int:
        """Seed of the random streams of techniques."""

    @property
    def desc(self) -> TrainDesc:
        """Dataset, model and training. Raises: UsageError in a loop of a user's own, which has no description."""

    @property
    def mean_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """(outputs, targets) -> the mean loss of a batch, without smoothed labels, which no technique has changed."""

    @property
    def end(self) -> Step:
        """The last step of the training."""

    def step(self, text: str, hparam: str = "step") -> Step:
        """Read a step of the training, such as `80ep`. Raises: UsageError about `hparam`."""

    def set_mask(self, mask: Mask | None) -> None:
        """Keep the weights that a mask prunes, and the optimizer's state for them, at zero from now on.

        A technique may let the state alone, or mask gradients too: `Hooks.keeps_state`, `Hooks.masks_gradients`.
        """

    def restart_optimizer(self) -> None:
        """Begin a new optimizer: it has no state, such as momentum, from now on. Call it in `before_step`."""

    def prune(self, pruning: PruningHparams) -> Mask:
        """Return the mask that a strategy prunes from the present one (or from one of ones), scoring the network.

        In a training on several processes, all must call it; one scores, and all get its mask.
        """

    def batches(self, *keys: int | str) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield training batches without end: inputs and targets, on the device.

        Order and augmentation come from the random stream that the keys name, one of this run's own. In a training on
        several processes, each gets whole batches. For `prepare`: there, no other batch of training is under way.
        """

    def initialization(self, *keys: int | str) -> dict[str, Tensor]:
        """Draw new initial parameters, by name, on the CPU, from the random stream that the keys name."""

    def generator(self, *keys: int | str) -> torch.Generator:
        """Return a CPU generator at the start of a random stream of this run, which the keys name.

        Key it by the step (`step.iteration`): then a resumed training draws the same numbers.
        """


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that a technique owns and the optimizer of the training trains, besides those of the network."""

    parameters: Mapping[str, Tensor]
    """Float tensors by name, which `kept` holds, so that checkpoints do. They are in `.grad` as others are."""
    lr_factor: float = 1.0
    """Their learning rate, relative to that of the network: of the first group of its optimizer, at each step."""
    lr: float | None = None
    """Their learning rate in every step, if it does not follow that of the network."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the optimizer that differ from those of its first group, such as weight_decay and momentum."""


class Hooks(Generic[H]):
    """Hooks of a technique in one training. By default, every hook does nothing."""

    def __init__(self, training: Training, hparams: H) -> None:
        self.training, self.hparams = training, hparams

    def before_mask(self) -> None:
        """Change the network before the first step, and before the initial mask is put on it.

        Not called when a training is resumed.
        """

    def prepare(self) -> None:
        """Change the network or its mask before the first step. Not called when a training is resumed."""

    prunes_first: ClassVar[bool] = False
    """Whether the technique prunes only in `before_step`, which changes nothing before scoring.

    Then a training that is stopped during scoring writes a checkpoint of this step. Else it continues from the last
    checkpoint.
    """

    def before_step(self, step: Step) -> None:
        """Act at a step, before the network is evaluated and its state is kept; at the last step too.

        A resumed training calls it once more for the step of its checkpoint: a second call must change nothing.
        """

    def effective(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the weights of the forward pass, in place of some parameters of the network, by name.

        weights: all parameters by name, as the techniques before this one change them; a tensor that several layers
        share has the first of its names. The result is differentiable, so that gradients reach the parameters, and of
        the same shapes. Called for each forward pass, in training and evaluation; it changes nothing. Evaluations and
        kept states have the effective weights, checkpoints the parameters. At the end of training, after `before_step`,
        they are written into the parameters. Where they are written, also into a kept state, `model.training` is False.
        """
        return {}

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return the groups of parameters that the technique owns. Called after `prepare`, and when resumed."""
        return ()

    def frozen(self) -> Collection[str]:
        """Return names of parameters of the network that do not train. Called after `prepare`, and when resumed."""
        return ()

    keeps_state: ClassVar[bool] = False
    """Whether a mask leaves the optimizer's state of pruned weights alone, so that momentum moves on."""
    masks_gradients: ClassVar[bool] = False
    """Whether the optimizer sees gradients of zero for pruned weights. `after_backward` sees those of the loss."""

    def learning_rate(self, step: Step, rate: float) -> float:
        """Return the learning rate of a step in place of `rate`, that of the schedule and the techniques before."""
        return rate

    def outcome(self) -> Mask | None:
        """Return the mask that training has learnt, where it is the outcome (`Technique.mask_is_outcome`).

        Called once, after `before_step` of the last step. The mask that training has holds too.
        """
        return None

    def metrics(self) -> Mapping[str, float]:
        """Return values to record at each evaluation, by name, such as a density that training learns.

        Their names in the run are `<technique>_<name>`. In a training on several processes, each returns the same.
        """
        return {}

    def loss(self, value: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a training batch in place of `value`, the loss after the techniques before this one.

        value, and the result: a mean over the batch, float (). logits, labels: outputs and targets as the task has
        them (`datasets.tasks`): of classification, float (B, outputs) and int64 (B,).
        In a training on several processes, the batch is this process's part of it.
        """
        return value

    def reported_loss(self, total: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the reported loss of a test or validation batch in place of `total`: sums over the batch."""
        return total

    def evaluated(self) -> AbstractContextManager[None]:
        """Return a context manager in which the network is evaluated, and its states are kept.

        It may give the network other weights until the block ends.
        """
        return nullcontext()

    def after_backward(self, step: Step) -> bool:
        """Act between the gradients of a step and the optimizer's step; return whether to skip the optimizer's step.

        The gradients of all trained parameters are in `.grad`, those of pruned weights too. In a training on several
        processes, they are those of the whole batch.
        """
        return False

    def skipped_before(self, step: Step) -> int:
        """Return the number of iterations before a step that the optimizer skipped, and the learning rate ignores."""
        return 0

    def is_over(self, step: Step) -> bool:
        """Return whether training is over at a step, after `before_step`; then it stays so, also when it is resumed.

        No batch is trained any more, so that all later states are that of this step. A loop of a user's own goes on.
        """
        return False

    def after_step(self, step: Step) -> None:
        """Act after the optimizer's step of the iteration that began at `step`. Its gradients are in `.grad` still."""

    def kept(self, name: str) -> dict[str, Tensor]:
        """Return a dict for tensors that checkpoints hold: empty in a new training, filled when one is resumed.

        Call it in `__init__`, for each dict with a name of its own; then change the dict and its tensors as you like.
        A resumed training has the tensors on the network's device, in the order of their names.
        """
        return self._kept.setdefault(name, {})

    @functools.cached_property
    def _kept(self) -> dict[str, dict[str, Tensor]]:
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint must hold for the technique: those that are `kept`."""
        return {f"{name}.{key}": tensor.detach() for name, own in self._kept.items() for key, tensor in own.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the result of `state_dict`. Called for a resumed training in place of `prepare`."""
        device = next(self.training.model.parameters()).device
        for name, own in self._kept.items():
            own.clear()
            prefix = f"{name}."
            own |= {
                key.removeprefix(prefix): t.to(device, copy=True) for key, t in state.items() if key.startswith(prefix)
            }


@dataclass(frozen=True, kw_only=True, eq=False)
class Technique(Registered):
    """A technique by name."""

    summary: str
    """The effect of the technique, in a few words."""
    paper: str = ""
    tested_against: str = ""
    """The code whose trajectories a test compares, as owner/repository."""
    differences: str = ""
    """Known differences from the paper or its code, in a sentence or two."""
    hparams: type[TechniqueHparams] = TechniqueHparams
    """Its own hyperparameters: TechniqueHparams, or a subclass that adds some."""
    hooks: Callable[[Training, Any], Hooks[Any]]
    """(training, hyperparameters) -> its hooks in that training; usually a subclass of Hooks."""
    transform: Callable[[nn.Module, Any], None] | None = None
    """(network on the CPU, hyperparameters): changes the structure of the network in place.

    Called wherever a network of the run is built, after it is initialized and before weights are loaded. Parameters and
    buffers that the network had keep their names; added ones draw from torch's global generator, which follows a stream
    of the run. A state without the added ones can be loaded, as that of a parent. Raises: UsageError about `technique`
    for a network that it cannot change.
    """
    density: str = ""
    """The hyperparameter that `sparse(density=...)` sets; empty if the technique has no density."""
    needs_classes: bool = False
    """Whether it works only for tasks in which each example, or token, has one of several classes."""
    changes_mask: bool = False
    """Whether the mask changes while the network trains. The run then keeps the mask that it ends with."""
    mask_is_outcome: bool = False
    """Whether training learns a mask (`Hooks.outcome`), so that its density may be an outcome too. The run keeps it."""
    stays_within_mask: bool = False
    """Whether its outcome is part of the mask that the training has, so that another technique may change that mask."""
    takes_shards: bool = False
    """Whether its hooks work where weights are sharded over processes (FSDP2), and their gradients are DTensors."""
    version: int = 1
    """Raised by hand when results change. Addresses contain it if it is not 1."""
