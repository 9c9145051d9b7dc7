"""Refusing, before anything is computed, names of prunable layers that the network does not have."""

from __future__ import annotations

from collections.abc import Iterable

from foundations.description.desc import Desc
from foundations.plan import PlannedRun
from foundations.registry import load
from pruning.hparams import LAYER_GROUPS
from pruning.weights.prunable import weights_to_prune
from training.context import Context
from training.job import Job, initialized_model


def check_prunable_names(to_do: Iterable[PlannedRun], context: Context) -> None:
    """Check that the networks of runs have the layers that `prunable_layers` names.

    A network is built only if it names more than groups of layers. Raises: UsageError.
    """
    checked: set[object] = set()
    for planned in to_do:
        job: Job[Desc] = load(planned.desc.job)(planned.desc, planned.run, context, context.platform)
        named = [pruning for pruning in job.prunings if not LAYER_GROUPS.issuperset(pruning.prunable_layers.split(","))]
        keys = {(job.trained.model, job.techniques, pruning.prunable_layers) for pruning in named} - checked
        if keys:
            checked |= keys
            model = initialized_model(job.trained, job.replicate, techniques=job.techniques).to("meta")
            for pruning in named:
                weights_to_prune(model, pruning)
