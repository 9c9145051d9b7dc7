"""Timing a few steps of a training, and one scoring, on random examples: how long runs take on this machine.

Work of one thread is timed by its CPU time, so that other processes on the machine do not lengthen it.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from functools import partial

import torch
from safetensors.torch import save
from torch import nn

from foundations.examples import Rows
from platforms.platform import Platform
from pruning.compute_mask import mask_from_hparams
from pruning.hparams import PruningHparams
from pruning.level import LEVELS
from pruning.scoring.inputs import ScoringInputs, one_example
from training.desc import TrainDesc
from training.job import initialized_model
from training.loop.optimizers import make_optimizer
from training.loop.precision import autocast, matrix_products
from training.masking import objective_of

_FIRST, _TIMES, _SECONDS, _LONG = 2, 4, 0.5, 2.0
"""Examples of the first timed batch; factor to the next one; seconds for which batches grow; seconds of a first call
that stands for all."""


def time_training(desc: TrainDesc, platform: Platform) -> dict[str, float]:
    """Measure the parts of a training, in seconds, by some steps on random examples.

    start: to build and initialize the network. state: to write its state. iteration: forward and backward pass and
    update, of a batch. example: to evaluate one example. Large batches are timed by smaller ones.
    """
    device, precision = platform.device, desc.training.precision
    clock = _clock(device)
    began = clock()
    model: nn.Module = initialized_model(desc, 1)
    started = clock()
    hashlib.sha256(save(model.state_dict())).hexdigest()
    stated = clock()
    model.to(device, memory_format=platform.memory_format(precision, model))  # type: ignore[call-overload]
    cast = autocast(precision, device)
    optimizer = make_optimizer(desc.training, model.parameters())

    def step(examples: int) -> None:
        inputs, targets = _drawn(desc, examples, device)
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = desc.dataset.task.loss(model(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def forward(examples: int) -> None:
        with torch.no_grad(), cast():
            model(_drawn(desc, examples, device)[0])

    batch = desc.dataset.batch_size
    with matrix_products(precision):
        model.train()
        iteration = _seconds(step, batch, device)
        model.eval()
        example = _seconds(forward, batch, device) / batch
    return {"start": started - began, "state": stated - started, "iteration": iteration, "example": example}


def time_scoring(desc: TrainDesc, pruning: PruningHparams, platform: Platform) -> dict[str, float]:
    """Estimate the time of pruning a network, in seconds, by timing one iteration on some of its examples."""
    device, batch = platform.device, desc.dataset.batch_size
    model = initialized_model(desc, 1).to(device)
    task, per_class = desc.dataset.task, pruning.examples_per_class
    count = 0 if per_class is None else task.scoring_examples(per_class, desc.dataset.num_classes)

    def score(pruning: PruningHparams, examples: int) -> None:
        rows = Rows.of(*_drawn(desc, examples, device)) if count else None
        scoring = ScoringInputs(
            seed=1,
            examples=rows,
            batch_size=batch,
            objective=objective_of(task),
            **one_example(desc.dataset.inputs),
        )
        mask_from_hparams(model, pruning, scoring)

    once = pruning.replaced({"prune_iterations": 1})
    seconds = _seconds(partial(score, once), max(1, count), device)
    later = pruning.prune_iterations - 1
    if later and pruning.effective_density is not None:  # all but the first are repeated for each count
        plainly = pruning.replaced({**dict.fromkeys(LEVELS), "prune_iterations": 1})
        weights = sum(weight.numel() for weight in model.parameters())
        return {
            "scoring": seconds + later * weights.bit_length() * _seconds(partial(score, plainly), max(1, count), device)
        }
    return {"scoring": seconds * (1 + later)}


def _drawn(desc: TrainDesc, examples: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random inputs (examples, *shape), and targets of the task."""
    inputs, outputs = desc.dataset.inputs, desc.outputs
    if desc.dataset.task.stored_targets == "targets":
        return inputs.drawn(examples, device), torch.ones(examples, outputs, device=device)
    shape = (examples, *inputs.shape) if inputs.per_token else (examples,)
    return inputs.drawn(examples, device), torch.arange(math.prod(shape), device=device).view(shape) % outputs


def _seconds(work: Callable[[int], None], whole: int, device: torch.device) -> float:
    """Time work on `whole` examples, in seconds; on fewer if all would take long, and add the share of the others.

    The share is the slope between two numbers of examples: a part of the cost of a call does not grow with them.
    """
    examples = min(_FIRST, whole)
    first = _timed(work, examples, device)  # it allocates memory, chooses kernels and imports
    if first > _LONG:
        return first * whole / examples
    before = before_seconds = 0.0
    while True:
        seconds = min(_timed(work, examples, device) for _ in range(2))
        if examples == whole or (before and seconds * _TIMES > _SECONDS):
            share = max(0.0, seconds - before_seconds) / (examples - before)
            return seconds + share * (whole - examples)
        before, before_seconds = examples, seconds
        examples = min(examples * _TIMES, whole)


def _timed(work: Callable[[int], None], examples: int, device: torch.device) -> float:
    clock = _clock(device)
    began = clock()
    work(examples)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - began


def _clock(device: torch.device) -> Callable[[], float]:
    """Return the clock for work on a device, in seconds."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter
