"""Scores of a run's weights by any pruning strategy, for measures of them. Imports no torch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from foundations.description.hparams import Hparams, hparam, merged_group
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.level import LEVELS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.measures.inputs import MeasuredRun, Measuring


@dataclass(frozen=True, kw_only=True)
class ScoringOptions(Hparams):
    """Weights to score, and the options of pruning for the scoring.

    `group_for` returns a class with the fields of a strategy: `strategy`, `density` and so on. Without a level, nothing
    is pruned.
    """

    step: str = hparam("0it", step=True)
    """The step whose weights are scored, such as 0it or 3ep."""

    @classmethod
    def group_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """Return the class with the options of the strategy that `values["strategy"]` names, else of magnitude."""
        return cast("type[Self]", _with_options_of(PruningHparams.group_for(values)))

    @classmethod
    def owners(cls) -> Mapping[str, type[Hparams]]:
        """Return the strategies, and the groups with the options of their methods."""
        return PruningHparams.owners()

    @property
    def pruning(self) -> PruningHparams:
        """The pruning of the network before it is scored, and the strategy that scores it."""
        values = {name: value for name, value in self.values().items() if name != "step"}
        if all(values[name] is None for name in (*LEVELS, "structure")):
            values["prune_fraction"] = 0.0
        return PruningHparams.of(values)

    def validate(self) -> None:
        """Check the options of pruning, and that the strategy has scores."""
        if type(self) is not ScoringOptions and self.pruning.method.is_constructive:
            raise UsageError(f"{self.pruning.strategy} builds its mask without scores, so there are none.", "strategy")

    def simplified(self) -> Self:
        """Return the same scoring without options that have no effect: if nothing is pruned, those of the pruning."""
        pruning = self.pruning
        if pruning.level > 0:
            return self.replaced(pruning.simplified().values())
        own = set(pruning.names()) - set(PruningHparams.names())
        kept = {name: getattr(self, name) for name in (*own, "step", "strategy", "invert_scores")}
        return type(self).of({**kept, "prune_fraction": 0.0})

    def canonical(self) -> dict[str, Any]:
        """Return the part of an address. It contains the method's version if it is not 1."""
        version = self.pruning.method.version
        return super().canonical() | ({} if version == 1 else {"strategy_version": version})


@functools.cache
def _with_options_of(group: type[PruningHparams]) -> type[ScoringOptions]:
    summary = "Which weights are scored, and how they are pruned before, if at all."
    return cast("type[ScoringOptions]", merged_group("ScoringOptions", (group,), ScoringOptions, summary))


def score(measuring: Measuring, run: MeasuredRun, options: ScoringOptions, model: nn.Module) -> dict[str, Tensor]:
    """Return the scores of a network's weights and of their layers' biases: float64 on the CPU, by name.

    model: the run's model at the step of the options, on the measurement's device.

    If the options have a level, the network is first pruned to it, starting from the run's mask if there is one, and
    then scored again with pruned weights as zeros. So the scores are of the pruned network.

    Raises: UsageError for a strategy without scores.
    """
    import torch

    from pruning.compute_mask import scores_from_hparams
    from pruning.masks.mask import Mask
    from pruning.weights.prunable import prunable_weights
    from training.masking import prune_with_data, scoring_inputs

    step, pruning, dataset = run.step(options.step), options.pruning, run.trained.dataset
    if pruning.examples_per_class is not None:
        measuring.use_dataset(run, dataset.spec.spelling)
    inputs = scoring_inputs(pruning, dataset, measuring.context, measuring.device, run.replicate)
    mask = run.mask_at(step)
    if pruning.level > 0:
        mask = prune_with_data(model, pruning, mask, inputs, measuring.context)
    everything = prunable_weights(model, biases=True)
    whole = {name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in everything.items()}
    scores = scores_from_hparams(model, pruning, inputs, Mask({**whole, **(mask or {})}))
    return {name: part.to("cpu", torch.float64) for name, part in scores.items()}


def bias_of(weight: str) -> str:
    """Return the name of the bias that belongs to a layer's weight."""
    return weight.removesuffix("weight") + "bias"
