"""The hyperparameters of pruning. Imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from foundations.errors import UsageError
from foundations.hparams import ALWAYS_WRITTEN, Hparams, hparam
from pruning.level import DEFAULT_PRUNE_FRACTION, prune_fraction_of
from pruning.registry import Direction, Strategy, find_strategy

ALLOCATIONS = ("global", "uniform", "er", "erk", "balanced", "smart_ratio", "layerwise")
SCHEDULES = ("exponential", "linear")
SYNFLOW_MEANS = ("absolute", "stored", "added")
_OPTIONS = ("score_per_batch", "score_in_eval_mode", "synflow_means", "synflowl2_as_published", "phew_kernels")


@dataclass(frozen=True, kw_only=True)
class PruningHparams(Hparams):
    """How a network is pruned."""

    strategy: str = hparam("magnitude", elided=ALWAYS_WRITTEN)
    """The method that scores the weights, such as magnitude, random or snip10 (10 examples per class)."""

    prune_fraction: float | None = hparam(None, elided=ALWAYS_WRITTEN)
    """The fraction of the prunable weights that are pruned, 0 to 1 (0.8 where no level is given)."""

    density: float | None = hparam(None)
    """The fraction that is kept: another spelling of the level."""

    compression: float | None = hparam(None)
    """1 / density: another spelling of the level."""

    prune_iterations: int = hparam(1, at_least=1)
    """The number of times that the network is scored and pruned on the way to the level."""

    prune_schedule: str = hparam("exponential", choices=SCHEDULES)
    """How the number of weights falls over the iterations."""

    allocation: str = hparam("global", choices=ALLOCATIONS)
    """How the level is spread over the layers: 'global' ranks the weights of all of them together.

    'uniform' (or 'layerwise'): the same density in each. 'er', 'erk': Erdős-Rényi. 'balanced': the same number in each.
    'smart_ratio': denser at the input than towards the output.
    """

    prune_highest: bool = hparam(False)
    """Prune the highest scores, whatever the direction of the method."""

    prune_lowest: bool = hparam(False)
    """Prune the lowest scores, whatever the direction of the method."""


    score_batch_size: int | None = hparam(None, at_least=1)
    """The size of the batches of scoring examples (the training batch size if not given); matters to batchnorm."""

    pruning_layers_to_ignore: str | None = hparam(None, unordered=True)
    """Tensors that are not pruned, separated by commas, such as fc.weight. They count in the level all the same."""

    score_per_batch: bool = hparam(False)
    """Score batch by batch, as the OpenLTH fork does.

    SNIP and FORCE take the absolute value before they sum over batches; GraSP multiplies the gradient and the Hessian
    of one and the same batch.
    """

    score_in_eval_mode: bool = hparam(False)
    """Score with batchnorm's running statistics, as Synaptic-Flow does, rather than those of the scoring batch."""

    synflow_means: str = hparam("absolute", choices=SYNFLOW_MEANS)
    """What SynFlow makes of the running means that batchnorm subtracts.

    'absolute': as Synaptic-Flow does. 'stored': nothing, as the OpenLTH fork does. 'added': they are added instead.
    """

    synflowl2_as_published: bool = hparam(False)
    """Score SynFlow-L2 by |w| ∂R/∂w², as its published code does, rather than by w² ∂R/∂w²."""

    phew_kernels: bool = hparam(False)
    """Keep the whole kernel of every pair of channels that a walk of PHEW passes."""

    def validate(self) -> None:
        """Check the strategy's name, the level, and the direction."""
        find_strategy(self.strategy)
        self.level
        if self.prune_highest and self.prune_lowest:
            raise UsageError("it excludes --prune_lowest. Give one of them, or neither.", "prune_highest")
        if self.found_strategy.builds_mask and (self.prune_highest or self.prune_lowest):
            flag = "prune_highest" if self.prune_highest else "prune_lowest"
            raise UsageError(f"{self.strategy} makes a mask without scores, so none are the highest or lowest.", flag)
        if self.found_strategy.builds_mask and self.allocation != "global":
            raise UsageError(f"{self.strategy} spreads the weights by itself; only 'global' is possible.", "allocation")

    @property
    def level(self) -> float:
        """Return the prune fraction that the three spellings stand for."""
        level = prune_fraction_of(
            prune_fraction=self.prune_fraction, density=self.density, compression=self.compression
        )
        return DEFAULT_PRUNE_FRACTION if level is None else level

    @property
    def method(self): return self.found_strategy
    @property
    def prunes(self): return self.level > 0
    @property
    def prune_direction(self): return self.removes
    @property
    def examples_per_class(self): return self.found_strategy.examples_per_class
    @property
    def found_strategy(self) -> Strategy:
        """The registry's line for the strategy."""
        return find_strategy(self.strategy)

    @property
    def removes(self) -> Direction:
        """Which end of the scores goes."""
        if self.prune_highest or self.prune_lowest:
            return "highest" if self.prune_highest else "lowest"
        return self.found_strategy.removes

    @property
    def uses_seed(self) -> bool:
        """Whether the seed can change the mask; whether a shuffle follows is for its caller to know."""
        return self.level > 0 and self.found_strategy.uses_seed

    def simplified(self) -> Self:
        """Return the same pruning with one spelling for each meaning.

        The level becomes `prune_fraction`; what cannot change the mask returns to its default.
        """
        fixed: dict[str, Any] = {"prune_fraction": self.level, "density": None, "compression": None}
        strategy, prunes = self.found_strategy, self.level > 0
        if not prunes or self.removes == strategy.removes:
            fixed |= {"prune_highest": False, "prune_lowest": False}
        if not prunes or not strategy.follows_mask:
            fixed |= {"prune_iterations": 1}
        if not prunes or not strategy.follows_mask or self.prune_iterations == 1:
            fixed |= {"prune_schedule": "exponential"}
        if not prunes:
            fixed |= {"pruning_layers_to_ignore": None}
        if not prunes or self.allocation == "layerwise":
            fixed |= {"allocation": "uniform" if prunes else "global"}
        if not prunes or not strategy.needs_examples:
            fixed |= {"score_batch_size": None}
        for option in _OPTIONS:
            if not prunes or option not in strategy.all_options:
                fixed |= {option: self.default_of(option)}
        return dataclasses.replace(self, **fixed)

    def canonical(self) -> dict[str, Any]:
        """Return what stands in an address: also the strategy's version, when it is not 1."""
        version = self.found_strategy.version
        return super().canonical() | ({} if version == 1 else {"strategy_version": version})

    @classmethod
    def default_of(cls, name: str) -> Any:
        """Return the declared default of a field."""
        return next(field.default for field in dataclasses.fields(cls) if field.name == name)
