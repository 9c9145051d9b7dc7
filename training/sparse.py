"""Techniques in a training loop of a user's own: `sparse(optimizer, model, "rigl", density=0.1, end=1000)`.

A job calls the hooks of techniques around each step. Here, `optimizer.step()` does, so that the loop does not change.
"""

from __future__ import annotations

import copy
import functools
import types
import warnings
import weakref
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from foundations.description.hparams import fields_of
from foundations.description.step import Step
from foundations.errors import UsageError
from foundations.random_streams import generator, global_generator_from
from pruning.examples import Examples
from pruning.hparams import PruningHparams
from pruning.masks.attached_mask import AttachedMask
from pruning.masks.mask import Mask
from pruning.masks.reinitialization import reinitialize_
from pruning.scoring.arguments import plain, shape_of_example, whole_number
from pruning.scoring.inputs import ScoringInputs
from pruning.scoring.outputs import Loss, Objective
from pruning.weights.named_weights import unwrapped
from training.all_hooks import AllHooks
from training.gradinit import pair_of
from training.hparams import TechniquesHparams
from training.masking import prune_part
from training.optimizer_steps import (
    average_over_processes,
    changed_rates,
    check_optimizer,
    computed_once,
    has_gradients,
    unscale_gradients,
)
from training.sparse_arguments import (
    arguments_of,
    check_state,
    parsed,
    refuse_whole_weights,
    warn_of_left_out,
    written,
)

_IN_USE = weakref.WeakSet[Optimizer]()


def sparse(
    optimizer: Optimizer,
    model: nn.Module,
    technique: str | None,
    *,
    end: int | str,
    density: float | None = None,
    mask: Mask | None = None,
    seed: int = 0,
    steps_per_epoch: int | None = None,
    examples: Examples | None = None,
    batches: Iterable[tuple[Tensor, Tensor]] | None = None,
    input_shape: tuple[int, ...] | None = None,
    loss: Loss = F.cross_entropy,
    state: Collection[str] | str | None = None,
    resume_from: Mapping[str, Any] | None = None,
    **options: Any,
) -> SparseTraining:
    """Let techniques act on a training in a loop of your own: the steps of its optimizer call them from now on.

        training = sparse(optimizer, model, "rigl", density=0.1, end=1000)

    Call it before the first step, when the network is on its device, and before schedules of the learning rate are
    made. It prepares the network: it draws and applies the mask to start from, and so on.

    technique: names of techniques, separated by commas; they act in that order. None keeps `mask` alone.
    end: the number of steps of the optimizer in the training; later steps keep the last mask. A step is an int or, as
    in jobs, a text; epochs (`80ep`) need steps_per_epoch. A step with accumulated gradients is one; a step that a
    GradScaler leaves out does not count.
    density: of the mask that rigl and set start from, and that gmp ends with. mask: a mask to start from.
    seed: of everything random; a job's is its replicate.
    examples: to score weights by, as `prune` takes them, where the strategy of gmp needs some. loss: for scores,
    (outputs, targets) -> the mean over the batch. input_shape: of one example, for strategies that need no more of it;
    by default that of `examples`. batches: inputs (B, ...) and targets (B, ...), such as a DataLoader,
    for techniques that train before the first step (gradinit).
    state: names of the state of an optimizer of your own that has an entry for each weight, as `Mask.attach` takes it.
    resume_from: the result of `SparseTraining.state_dict()`, to continue that training. Load the model and the
    optimizer before; nothing is drawn, and the mask is that of the state.
    options: hyperparameters of the techniques, by the names of their flags, such as mask_update_frequency=100.

    Raises: UsageError for an argument that is not valid, for a technique that replaces layers, which only jobs can use,
    or that needs whole weights where they are sharded (FSDP2), and for an optimizer that is used already, or that
    computes the loss several times in a step (LBFGS).
    """
    check_optimizer(optimizer)
    if optimizer in _IN_USE:
        raise UsageError("techniques use it already; name several in one call, such as 'gmp,rigl'.", "optimizer")
    if not (mask is None or isinstance(mask, Mask)):
        raise UsageError(f"it must be a Mask, and not a {type(mask).__name__}; Mask(tensors) makes one.", "mask")
    per_epoch = whole_number(steps_per_epoch, "steps_per_epoch", 1)
    last = parsed(written(end), per_epoch, "end")
    values, level = arguments_of(technique, options, has_mask=mask is not None)
    if density is not None:
        if level is None:
            reason = f"{technique} has none; pass a mask to start from." if technique else "the mask has its own."
            raise UsageError(reason, "density")
        if level in values:
            raise UsageError("they are the same; give one of them.", "density", level)
        values[level] = plain(density)
    try:
        techniques = TechniquesHparams.of(values)
        for each in fields_of(type(techniques)):
            if each.rule.is_step and (value := getattr(techniques, each.name)) is not None:
                parsed(value, per_epoch, each.name)
        resolved = techniques.for_training(last, has_mask=mask is not None)
    except UsageError as error:
        if level in error.hparams and level not in values and mask is None:
            reason = f"{technique} needs a mask to start from; pass density or mask."
            raise UsageError(reason, "density") from error
        names = ("density" if name == level and density is not None else name for name in error.hparams)
        raise UsageError(error.reason, *names) from error
    for pruning in resolved.scores_with:
        if pruning.examples_per_class is not None and examples is None:
            raise UsageError(f"{pruning.strategy} scores with examples; pass examples=(x, y).", "examples")
        if pruning.method.needs_input_shape and examples is None and input_shape is None:
            raise UsageError(f"{pruning.strategy} needs the shape of one example, such as (3, 32, 32).", "input_shape")
    network = unwrapped(model)
    refuse_whole_weights(network, resolved)
    inputs = ScoringInputs(
        seed=whole_number(seed, "seed") or 0,
        examples=examples,
        input_shape=shape_of_example(input_shape),
        objective=Objective(loss),
    )
    training = SparseTraining(optimizer, network, resolved, last, inputs, batches, state)
    training.start(mask, resume_from)
    training.check_wrapper(model)
    if mask is None and training.mask is not None:
        warn_of_left_out(training.model, training.mask, resolved)
    return training


@dataclass(eq=False)
class SparseTraining:
    """A training whose optimizer steps call techniques: `sparse` starts one."""

    optimizer: Optimizer
    model: nn.Module
    """The network, without wrappers such as DistributedDataParallel."""
    techniques: TechniquesHparams
    end: Step
    """The last step."""
    inputs: ScoringInputs
    """Input of scores, and the seed of everything random."""
    own_batches: Iterable[tuple[Tensor, Tensor]] | None
    elementwise: Collection[str] | str | None = None
    """Names of the optimizer's state that has an entry for each weight, if the optimizer is not one of torch."""
    mask: Mask | None = field(default=None, init=False)
    """The present mask; None if nothing is pruned."""
    _attached: AttachedMask | None = field(default=None, init=False)
    _is_detached: bool = field(default=False, init=False)
    _has_warned: bool = field(default=False, init=False)
    _has_loss: bool = field(default=False, init=False)
    """Whether the techniques have changed the loss since the last step."""

    def __post_init__(self) -> None:
        self._now = self.end.at(0)
        self._hooks = AllHooks.of(self.techniques, self)
        self._begins_with_mask = False

    def start(self, mask: Mask | None, state: Mapping[str, Any] | None = None) -> None:
        """Prepare the network, and let the optimizer's steps call the techniques. `sparse` has done so.

        state: continue from the result of `state_dict`, and prepare nothing.
        """
        try:
            if state is None:
                self._hooks.start(self, mask, self._now)
                self._begins_with_mask = self.mask is not None
            else:
                self.load_state_dict(state)
        except BaseException:
            self.detach()
            raise
        _IN_USE.add(self.optimizer)
        inner = self.optimizer.step

        @functools.wraps(inner)
        def step(_: Optimizer, closure: Callable[[], Any] | None = None, **arguments: Any) -> Any:
            return self._step(inner, closure, arguments)

        del step.__wrapped__  # its signature has no optimizer to bind
        # A method, as schedules of the learning rate take for granted.
        self.optimizer.step = types.MethodType(step, self.optimizer)  # type: ignore[method-assign]

    def check_wrapper(self, model: nn.Module) -> None:
        """Check that the network is not in a wrapper that waits for gradients which frozen weights do not have.

        Raises: UsageError, after `detach`.
        """
        if self._hooks.own is not None and self._hooks.own.freezes and isinstance(model, DistributedDataParallel):
            self.detach()
            words = f"{self.techniques.technique} freezes weights, whose gradients DistributedDataParallel waits for"
            raise UsageError(f"{words}; call sparse with the network before you wrap it.", "model")

    def metrics(self) -> dict[str, float]:
        """Return values that the techniques report at present, by `<technique>_<name>`."""
        return self._hooks.metrics()

    def detach(self) -> None:
        """Stop: steps of the optimizer are as they were, and may move the pruned weights again."""
        self.set_mask(None)
        self._hooks.leave()
        self._is_detached = True
        _IN_USE.discard(self.optimizer)

    @property
    def steps(self) -> int:
        """The number of steps of the optimizer so far, with those that a technique left out."""
        return self._now.iteration

    @property
    def skipped_steps(self) -> int:
        """The number of steps so far that published code does not count in the learning rate (mask_update_clock)."""
        return self._hooks.skipped_before(self._now)

    def loss(self, value: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss to differentiate in place of `value`, the mean over a batch, as the techniques change it.

        outputs: float (B, classes). targets: int64 (B,). Only techniques that change the loss need the call.
        """
        self._has_loss = True
        return self._hooks.loss(value, outputs, targets)

    def reported_loss(self, total: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss to report in place of `total`, the sum over a batch; the arguments are those of `loss`."""
        return self._hooks.reported_loss(total, outputs, targets)

    def evaluated(self) -> AbstractContextManager[None]:
        """Return a context manager in which the network has the weights to evaluate, such as averages of `ema`.

        with training.evaluated(), torch.no_grad():
            outputs = model(inputs)
        """
        return self._hooks.evaluated()

    def state_dict(self) -> dict[str, Any]:
        """Return the step, the mask and the techniques' tensors, for `torch.save` beside model and optimizer."""
        mask = None if self.mask is None else dict(self.mask)
        tensors = self._hooks.state_dict()
        own = {"hparams": self.techniques.values(), "seed": self.seed, "end": self.end.iteration}
        return {**own, "step": self.steps, "mask": mask, "tensors": tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state_dict`. Load the states of the model and the optimizer before.

        Raises: UsageError for a state of another training.
        """
        check_state(state, self.state_dict(), begins_with_mask=self._begins_with_mask)
        mask = None if state["mask"] is None else Mask(state["mask"], self.model)
        self._hooks.load_state_dict(state["tensors"])
        self.set_mask(mask)
        self._now = self.end.at(state["step"])
        self._hooks.before_step(self._now)

    @property
    def seed(self) -> int:
        """Seed of the random streams of techniques."""
        return self.inputs.seed

    @property
    def mean_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """(outputs, targets) -> the mean loss of a batch."""
        return self.inputs.objective.value

    @property
    def desc(self) -> NoReturn:
        """The description of a job, which is not there. Raises: UsageError."""
        raise UsageError(
            f"{self.techniques.technique} reads the description of a job; train it by --technique.", "technique"
        )

    def step(self, text: str, hparam: str = "step") -> Step:
        """Read a step of the training. Raises: UsageError about `hparam`."""
        return Step.parse(text, self.end.iterations_per_epoch, hparam)

    def set_mask(self, mask: Mask | None) -> None:
        """Keep the weights that a mask prunes, and the optimizer's state for them, at zero from now on."""
        if self._attached is not None:
            self._attached.detach()
        self.mask = mask
        self._attached = None
        if mask is not None:
            self._attached = mask.attach(
                self.optimizer,
                self.model,
                state=self.elementwise,
                keeps_state=self._hooks.keeps_state,
                masks_gradients=self._hooks.masks_gradients,
            )

    def restart_optimizer(self) -> None:
        """Begin a new optimizer, without state."""
        self.optimizer.state.clear()

    def prune(self, pruning: PruningHparams) -> Mask:
        """Return the mask that a strategy prunes from the present one (or from one of ones), scoring the network."""
        start = self.mask or Mask.to_prune(self.model, pruning)
        return prune_part(self.model, pruning, start, self.inputs)

    def batches(self, *keys: int | str) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield training batches without end, on the network's device. Raises: UsageError if there are none."""
        if self.own_batches is None:
            words = f"{self.techniques.technique} trains before the first step; pass batches, such as your DataLoader."
            raise UsageError(words, "batches")
        device = next(self.model.parameters()).device
        while True:
            is_empty = True
            for batch in self.own_batches:
                is_empty, (inputs, targets) = False, pair_of(batch)
                yield inputs.to(device), targets.to(device)
            if is_empty:
                raise UsageError(
                    "there are none left; pass a list or a DataLoader, which can be read again.", "batches"
                )

    def initialization(self, *keys: int | str) -> dict[str, Tensor]:
        """Draw new initial parameters, by name, on the CPU, from the random stream that the keys name."""
        drawn = copy.deepcopy(self.model)
        with global_generator_from("technique", self.seed, *keys):
            reinitialize_(drawn)
        return {name: p.detach().cpu() for name, p in drawn.named_parameters(remove_duplicate=False)}

    def generator(self, *keys: int | str) -> torch.Generator:
        """Return a CPU generator at the start of a random stream of the seed, which the keys name."""
        return generator("technique", self.seed, *keys)

    def _step(self, inner: Callable[..., Any], closure: Callable[[], Any] | None, arguments: Mapping[str, Any]) -> Any:
        """Take a step of the optimizer, with the hooks of the techniques around it."""
        found_inf = getattr(self.optimizer, "found_inf", None)
        is_over = self._now == self.end
        if self._is_detached or is_over or (found_inf is not None and found_inf.item()):
            if is_over and self._hooks and not (self._is_detached or self._has_warned):
                self._has_warned = True
                words = f"the training ended at step {self.steps}: techniques do nothing more, and the mask stays."
                warnings.warn(words, UserWarning, stacklevel=3)
            return inner(*() if closure is None else (closure,), **arguments)
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        if not has_gradients(self.optimizer):
            if closure is not None and value is None:  # Lightning's closure of a batch that the user leaves out
                return inner(**arguments)
            raise UsageError("no parameter has a gradient; call loss.backward() before optimizer.step().", "optimizer")
        self._check_loss()
        unscale_gradients(self.optimizer)
        average_over_processes(self._hooks.own_parameters)
        if self._hooks.after_backward(self._now):
            self.optimizer._opt_called = True  # type: ignore[attr-defined]  # else learning rate schedules warn
        else:
            with self._own_rates():
                inner(*() if closure is None else (computed_once(self.optimizer, value),), **arguments)
        self._hooks.after_step(self._now)
        self._now, self._has_loss = self._now.at(self.steps + 1), False
        self._hooks.before_step(self._now)
        return value

    def _own_rates(self) -> AbstractContextManager[None]:
        """Return a context manager in which the optimizer has the learning rates of the techniques."""
        if not self._hooks.changes_rate:
            return nullcontext()
        return changed_rates(self.optimizer, lambda rate: self._hooks.learning_rate(self._now, rate))

    def _check_loss(self) -> None:
        if self._hooks.changes_loss and not self._has_loss:
            raise UsageError(
                f"{self.techniques.technique} changes the loss; call loss = training.loss(loss, outputs, targets) "
                "before loss.backward().",
                "technique",
            )
