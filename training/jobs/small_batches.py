"""Refusing, before anything is computed, training batches that batch normalization cannot normalize.

In training, it needs two values a channel. A batch of one example has one if the feature maps are 1 x 1, as in
networks whose images are small for them; with larger feature maps, networks train on a single example.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from datasets.hparams import DatasetHparams
from foundations.description.desc import Desc
from foundations.errors import UsageError
from foundations.plan import PlannedRun
from foundations.registry import load
from training.context import Context
from training.job import Job, initialized_model

_TORCH_SAYS = "Expected more than 1 value per channel"
_TRIED = 1000
"""Number of batch sizes to try in either direction, to find one to suggest."""


def check_small_batches(to_do: Iterable[PlannedRun], context: Context) -> None:
    """Check that the networks of runs can train on the smallest batch that they will get.

    A network is built only if that batch has one example (in one process), and once for all runs that share it.
    Raises: UsageError that names batch sizes that work.
    """
    processes, norms = context.platform.processes, dict[Hashable, str]()
    for planned in to_do:
        job: Job[Desc] = load(planned.desc.job)(planned.desc, planned.run, context, context.platform)
        dataset, model = job.trained.dataset, job.trained.model
        training = job.trained.training
        among = 1 if training.sync_batchnorm else processes
        share = among * training.accumulate
        single = [size for size in _sizes(planned, dataset) if size // share <= 1]
        if not single:
            continue
        key = (model, job.trained.outputs, dataset.inputs, job.techniques)
        if key not in norms:
            norms[key] = _failing_norm(job)
        if norms[key]:
            raise UsageError(_reason(dataset, single[0], among, share, norms[key]), "batch_size")


def _sizes(planned: PlannedRun, dataset: DatasetHparams) -> Iterator[int]:
    """Yield the sizes of a run's training batches: the whole ones, and the last one of an epoch."""
    per_epoch, start = dataset.iterations_per_epoch, planned.desc.start.iteration
    steps = planned.until.iteration - start
    until_last = per_epoch - 1 - start % per_epoch
    if steps > 0 and (until_last > 0 or (steps > 1 and per_epoch > 1)):
        yield dataset.batch_size
    if steps > until_last:
        yield dataset.num_train - (per_epoch - 1) * dataset.batch_size


def _failing_norm(job: Job[Desc]) -> str:
    """Return the name of the layer that cannot normalize one example; empty if all can."""
    model = initialized_model(job.trained, job.replicate, techniques=job.techniques)
    norms = [(name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    if not norms:  # the first operation on meta tensors takes seconds
        return ""
    model, reached = model.to("meta").train(), [""]

    def note(name: str, _module: nn.Module, _inputs: object) -> None:
        reached[0] = name

    for name, module in norms:
        module.register_forward_pre_hook(partial(note, name))
    try:
        with torch.no_grad():
            model(job.trained.dataset.inputs.blank(1, "meta"))
    except (RuntimeError, ValueError, TypeError) as error:  # a network that cannot run here fails when it trains
        return reached[0] if _TORCH_SAYS in str(error) else ""
    return ""


def _reason(dataset: DatasetHparams, size: int, processes: int, share: int, norm: str) -> str:
    """Return the end of a message: the fault of a batch, and the sizes that work."""
    name, count = dataset.dataset_name, dataset.num_train
    what = f"{dataset.batch_size} leaves a last batch of {size} of the {count:,} training examples of '{name}'"
    if size == dataset.batch_size:
        what = f"batches have {size} example{'s' * (size > 1)}"
    if processes > 1:
        what += f", which {processes} processes share"
    if share > processes:
        what += f", in {share // processes} parts"
    sizes = (range(dataset.batch_size + step, max(1, dataset.batch_size + step * _TRIED), step) for step in (-1, 1))
    working = [next((size for size in tried if size > 1 and _works(size, count, share)), None) for tried in sizes]
    advice = " or ".join(str(found) for found in working if found is not None)
    return f"{what}; batchnorm ({norm}) then sees one value a channel, which it cannot normalize. " + (
        f"Choose another size, such as {advice}." if advice else "There are too few examples for this network."
    )


def _works(size: int, count: int, share: int) -> bool:
    """Return whether all batches of an epoch have two examples or more, in each process."""
    last = count % size
    return min(size, count) // share > 1 and (not last or last // share > 1)
