"""Training several runs in one process, step by step together; as one stacked network if this is faster.

Each run keeps its own model, optimizer, data order, mask, techniques, metrics, checkpoints and files. The runs share
only the forward and the backward pass. In a stacked network, each parameter is a tensor with one more dimension, the
parameters of the single networks are views of it, and `torch.func.vmap` runs all networks in the kernels of one. So
many small networks fill a GPU that one of them would leave idle. On CPUs the kernels of single networks are as fast or
faster, and the networks take turns.

Stacked networks round sums differently from a network alone: in float64, trainings agree to 1e-9 step by step. The
manifest of a run that was ever stacked records it. Networks that take turns compute the same bits as alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from foundations.errors import Interrupted, OpenPruneError
from foundations.interrupts import Interrupts
from foundations.plan import PlannedRun
from platforms.platform import Platform
from training.context import Context
from training.jobs.one_run import Gradients, steps_of
from training.loop.cuda_graph import Replayed
from training.loop.loop import Batch
from training.loop.precision import matrix_products
from training.loop.trainer import Trainer


def work_together(contexts: Mapping[PlannedRun, Context], platform: Platform) -> dict[PlannedRun, OpenPruneError]:
    """Execute the plans of several runs; return the errors of those that failed.

    The runs can be trained together (`Desc.together_key`), none depends on another, and their locks are held.
    contexts: the context of each.
    Raises: Interrupted when asked to stop, after each started run has written its checkpoint.
    """
    interrupts, clock = next(iter(contexts.values())).interrupts, SharedClock(len(contexts))
    with contextlib.ExitStack() as opened:
        begun = {
            planned: opened.enter_context(
                contextlib.closing(steps_of(planned, replace(context, clock=clock), platform))
            )
            for planned, context in contexts.items()
        }
        return _in_lockstep(begun, interrupts, clock)


class SharedClock:
    """Divides the seconds of the process among several runs, so that their sum is the process's time."""

    def __init__(self, runs: int, now: Callable[[], float] = time.monotonic) -> None:
        """Start at 0 seconds, with a number of runs."""
        self._runs, self._now, self._at, self._share = runs, now, now(), 0.0

    def __call__(self) -> float:
        """Return the seconds of one run until now."""
        now = self._now()
        self._share += (now - self._at) / self._runs
        self._at = now
        return self._share

    def leave(self) -> None:
        """Continue without a run that has ended. There must be one."""
        self()
        self._runs = max(1, self._runs - 1)


def _in_lockstep(
    runs: dict[PlannedRun, Generator[Gradients, None, None]], interrupts: Interrupts, clock: SharedClock
) -> dict[PlannedRun, OpenPruneError]:
    failed: dict[PlannedRun, OpenPruneError] = {}
    stopped: Interrupted | None = None
    asked: dict[PlannedRun, Gradients] = {}
    turns = Turns()
    while runs:
        for planned, steps in list(runs.items()):
            try:
                if interrupts.signal_number is not None and planned not in asked:
                    raise interrupts.interrupted("The same command begins it.")
                asked[planned] = next(steps)
                continue
            except StopIteration:
                pass
            except Interrupted as error:
                stopped = error
            except OpenPruneError as error:
                failed[planned] = error
            del runs[planned]
            clock.leave()
            asked.pop(planned, None)
        turns.compute_gradients(list(asked.values()))
    if stopped is not None:
        raise stopped
    return failed


class Turns:
    """Computes the gradients of several trainings: in a stack if they fit into one, else one by one."""

    def __init__(self) -> None:
        self._trainers: list[Trainer] = []
        self._stack: Stack | None = None

    def compute_gradients(self, asked: Sequence[Gradients]) -> None:
        """Put the gradients of each training's batch into its parameters."""
        trainers, batches = [trainer for trainer, _ in asked], [batch for _, batch in asked]
        if self._trainers != trainers:
            if self._stack is not None:
                self._stack.release()
            self._trainers = trainers
            self._stack = Stack.of(trainers, batches[0][0]) if pays(trainers) else None
        if self._stack is not None and len({images.shape for images, _ in batches}) == 1:
            self._stack.compute_gradients(batches)
            return
        for trainer, batch in asked:
            trainer.compute_gradients(*batch)


def pays(trainers: Sequence[Trainer]) -> bool:
    """Return whether these trainings can be stacked, and are faster so.

    On CPUs, a step of four stacked cifar_resnet_20 takes 1.7 times as long as four steps, one of eight stacked
    mnist_lenet_300_100 1.1 times as long as eight, and one of eight stacked digits_lenet_40_20 0.65 times (AMD EPYC,
    2 cores, n = 5): only tiny networks without convolutions spend their time on calling kernels.
    """
    if len(trainers) < 2 or any(
        t.parallel is not None or t.is_structural or t.hooks.own is not None or t.desc.training.accumulate > 1
        for t in trainers
    ):
        return False
    models = [trainer.model for trainer in trainers]
    return _calls_take_the_time(models[0], trainers[0].platform.device) and all(
        _structure(model) == _structure(models[0]) for model in models[1:]
    )


_TINY = 50_000
"""Maximum parameters of a network whose kernels take less time on a CPU core than calling them."""


def _calls_take_the_time(model: nn.Module, device: torch.device) -> bool:
    if device.type != "cpu":
        return True
    is_tiny = sum(parameter.numel() for parameter in model.parameters()) <= _TINY
    return is_tiny and not any(isinstance(module, nn.Conv2d) for module in model.modules())


def _structure(model: nn.Module) -> list[tuple[str, torch.Size, torch.dtype, bool]]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [(name, tensor.shape, tensor.dtype, tensor.requires_grad) for name, tensor in tensors]


class Stack:
    """Networks of one structure as one: their tensors are views of tensors with one more dimension, the first."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        """Stack the networks of some trainings. `release` gives them tensors of their own again."""
        self.trainers = list(trainers)
        self._network = trainers[0].model
        self._own = {
            name: [trainer.model.get_parameter(name) for trainer in trainers]
            for name, _ in self._network.named_parameters()
        }
        self.parameters = self._stacked([dict(trainer.model.named_parameters()) for trainer in trainers])
        self._buffers = self._stacked([dict(trainer.model.named_buffers()) for trainer in trainers])
        for name, parameter in self._network.named_parameters():
            self.parameters[name].requires_grad_(parameter.requires_grad)
        targets = {(t.desc.training.label_smoothing, t.desc.training.mixes) for t in trainers}
        self._has_one_loss = len(targets) == 1 and all(trainer.has_fixed_passes for trainer in trainers)
        recorded = trainers[0].recorded
        self._recorded = recorded and Replayed(
            self._pass, list(self.parameters.values()), list(self._buffers.values()), recorded.record
        )

    @classmethod
    def of(cls, trainers: Sequence[Trainer], images: Tensor) -> Stack | None:
        """Return the stack of some trainings; None if vmap cannot run the network. images: a batch to try it on."""
        stack = cls(trainers)
        kept = {name: buffer.clone() for name, buffer in stack._buffers.items()}
        try:
            with torch.no_grad(), trainers[0].autocast():
                stack._logits(stacked([images] * len(trainers)))
        except RuntimeError:
            stack.release()
            return None
        finally:
            for name, buffer in kept.items():
                stack._buffers[name].copy_(buffer)
        return stack

    def compute_gradients(self, batches: Sequence[Batch]) -> None:
        """Put the gradients of the loss of each network's batch into its parameters. The batches have one shape."""
        if self._has_one_loss:
            inputs = [stacked([batch[part] for batch in batches]) for part in (0, 1)]
            losses, logits = (self._recorded or self._pass)(inputs)
            sums = vmap(self.trainers[0].epoch.sums_of)(losses, logits, inputs[1])
            for trainer, own in zip(self.trainers, sums, strict=True):
                trainer.epoch.add_sums(own)
        else:
            images, labels = zip(*batches, strict=True)

            def own_losses(logits: Tensor) -> Tensor:
                each = zip(self.trainers, logits.unbind(), labels, strict=True)
                return torch.stack([trainer.scaler.scale(trainer.loss(own, y)) for trainer, own, y in each])

            self._differentiate(stacked(images), own_losses)
        for name, parameter in self.parameters.items():
            gradients = [None] * len(batches) if parameter.grad is None else parameter.grad.unbind()
            for own, gradient in zip(self._own[name], gradients, strict=True):
                own.grad = gradient
        for trainer in self.trainers:
            trainer.stacked = max(trainer.stacked, len(self.trainers))

    def release(self) -> None:
        """Give each network tensors of its own again."""
        for trainer in self.trainers:
            for tensor in (*trainer.model.parameters(), *trainer.model.buffers()):
                tensor.data = tensor.data.clone()
                tensor.grad = None if tensor.grad is None else tensor.grad.clone()

    def _pass(self, batches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return losses and outputs, (networks,) and (networks, B, outputs), of stacked inputs and targets."""
        inputs, targets = batches
        return self._differentiate(inputs, lambda outputs: vmap(self.trainers[0].plain_loss)(outputs, targets))

    def _differentiate(self, images: Tensor, losses: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Put the gradients of all losses of the logits into the stacked parameters; return losses and logits."""
        for parameter in self.parameters.values():
            parameter.grad = None
        first = self.trainers[0]
        with matrix_products(first.desc.training.precision):
            with first.autocast():
                logits = self._logits(images)
                values = losses(logits)
            values.sum().backward()  # type: ignore[no-untyped-call]
        return values.detach(), logits.detach()

    def _logits(self, images: Tensor) -> Tensor:
        """Return the logits of each network for its images, (networks, B, outputs)."""

        def forward(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(self._network, (parameters, buffers), (x,))  # type: ignore[no-any-return]

        found: Tensor = vmap(forward)(self.parameters, self._buffers, images)
        return found

    @staticmethod
    def _stacked(networks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        found = {}
        for name in networks[0]:
            tensors = [network[name] for network in networks]
            found[name] = stacked([tensor.detach() for tensor in tensors])
            for tensor, view in zip(tensors, found[name].unbind(), strict=True):
                tensor.data = view
        return found


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors of one shape as one, with a new first dimension. Its parts have the layout of the first tensor."""
    first = tensors[0]
    order = sorted(range(first.dim()), key=first.stride, reverse=True)
    back = [1 + order.index(axis) for axis in range(first.dim())]
    return torch.stack([tensor.permute(order) for tensor in tensors]).permute(0, *back)
