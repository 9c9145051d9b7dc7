"""The hyperparameters of pruning that methods share; each method adds its own in its file. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

from foundations.description.hparams import ALWAYS_WRITTEN, Hparams, hparam
from foundations.errors import UsageError
from pruning.level import LEVELS, prune_fraction_of
from pruning.method import Direction, Method
from pruning.registry import ALLOCATIONS, METHODS, SCHEDULES, STRUCTURES
from pruning.rounding import NEAREST, Roundings, check_rounding
from pruning.structure.structure import SKIP, UNEVEN, CountedStructure, counted

DEFAULT_LAYERS, CONVOLUTIONAL, ALL_BUT_CLASSIFIER = "all", "convolutions", "all_but_classifier"
LAYER_GROUPS = frozenset({DEFAULT_LAYERS, CONVOLUTIONAL, ALL_BUT_CLASSIFIER})
"""Groups of layers by name, for `prunable_layers`."""
PRUNABLE = ("prunable_layers", "prune_bias", "prune_batchnorm", "prune_residual")
"""The hyperparameters that choose the prunable weights."""

NO_SCALES = "the identity shortcuts of this network have no scales; add the technique shortcut_scales."


@dataclass(frozen=True, kw_only=True)
class PruningHparams(Hparams):
    """Pruning of a network.

    A method with options of its own has a subclass. `PruningHparams.of({"strategy": "snip10"})` builds the right one.
    """

    scores_with_examples: ClassVar[bool] = False

    strategy: str = hparam("magnitude", elided=ALWAYS_WRITTEN, choices=METHODS)
    """The method that scores the weights, such as magnitude, random or snip10 (10 examples per class)."""

    prune_fraction: float | None = hparam(None, elided=ALWAYS_WRITTEN, at_least=0, at_most=1)
    """The fraction of the prunable weights that is pruned, 0 to 1 (0.8 if no level is given)."""

    density: float | None = hparam(None, at_least=0, at_most=1)
    """The fraction of the prunable weights that is kept: another way to give the level."""

    compression: float | None = hparam(None, at_least=1)
    """1 / density: another way to give the level."""

    effective_density: float | None = hparam(None, at_least=0, at_most=1)
    """The fraction of the prunable weights that is kept on paths of kept weights from input to output, which alone can
    change the outputs: as many weights are pruned as leave it. The density is an outcome then."""

    prune_iterations: int = hparam(1, at_least=1)
    """The number of times that the network is scored and pruned to reach the level."""

    prune_schedule: str = hparam("exponential", choices=SCHEDULES)
    """The schedule by which the number of kept weights falls over the iterations."""

    rounding: str = hparam(NEAREST, choices=Roundings())
    """Rounding of the number of weights that an iteration prunes: to the nearest; the first of equal scores are pruned.

    'synaptic_flow', 'openlth' (and its fork) and 'force' round as these code bases do, in every iteration, and treat
    equal scores alike, to reproduce their masks exactly. 'prospr' keeps ceil(N d), 'second_order' int(N d), and 'acdc'
    ceil(N d) - 1 weights, as the code of these methods does, which prunes once. 'lamp', 'effective_sparsity',
    'turboprune' and 'sanity_checking' are the counts that these code bases have for an allocation.
    """

    allocation: str = hparam("global", choices=ALLOCATIONS)
    """The allocation of the level to the layers: 'global' ranks the weights of all layers together.

    'lamp': too, by the share of their scores in their layers. 'uniform' (or 'layerwise'): the same density in each.
    'er', 'erk': Erdős-Rényi. 'balanced': the same number in each. 'smart_ratio': denser at the input than towards the
    output. 'igq': ideal gas quotas. 'uniform_plus': the first convolution is dense, and 0.2 of the last layer stays.
    """

    structure: str | None = hparam(None, choices=STRUCTURES)
    """Keep as many weights in each group: N:M keeps N of every M consecutive inputs of a neuron, such as 2:4. It sets
    the level, which need not be given."""

    structure_uneven: str = hparam(SKIP, choices=UNEVEN)
    """First convolutions, convolutions in groups, depthwise ones, and layers whose inputs M does not divide: they stay
    dense (skip), have a shorter group at the end of the inputs (pad), or have groups that cross the places of a kernel,
    and neurons (flatten)."""

    prune_highest: bool = hparam(False)
    """Prune the highest scores, whatever the direction of the method."""

    prune_lowest: bool = hparam(False)
    """Prune the lowest scores, whatever the direction of the method."""

    invert_scores: bool = hparam(False)
    """Rank weights by 1 / score in place of the score, as Synaptic-Flow's --invert does; 1 / 0 is the highest."""

    pruning_layers_to_ignore: str | None = hparam(None, unordered=True)
    """Tensors that are not pruned, separated by commas: names or patterns, such as fc.weight,*conv_jump*. They still
    count in the level."""

    prunable_layers: str = hparam(DEFAULT_LAYERS, unordered=True)
    """The layers that can be pruned, separated by commas; others do not count in the level. all: the convolutional and
    linear ones. convolutions. all_but_classifier: not the output layer, nor the linear layers that stand with it in one
    classifier. Also types of layers (all,LSTM,Embedding), and names or patterns of layers and tensors (encoder.*).
    """

    prune_bias: bool = hparam(False)
    """Prune the biases of these layers too. They count in the level."""

    prune_batchnorm: bool = hparam(False)
    """Prune the scales of batch normalization too, and with --prune_bias its shifts. They count in the level."""

    prune_residual: bool = hparam(False)
    """Prune the scales of identity shortcuts too, in networks that have them (--technique=shortcut_scales). They count
    in the level."""

    @classmethod
    def group_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """Return the hyperparameters of the method that `values["strategy"]` names, else of the default method.

        Raises: UsageError if there is no such method.
        """
        return cast("type[Self]", METHODS.find(values.get("strategy", PruningHparams.strategy)).hparams)

    @classmethod
    def owners(cls) -> Mapping[str, type[Hparams]]:
        """Return the strategies, and the groups with the options of their methods."""
        return {f"strategy={method.spelling}": method.hparams for method in METHODS}

    def validate(self) -> None:
        """Check that the class is the method's, that the level is one number, and that the direction is clear."""
        if type(self) is not self.method.hparams:
            raise UsageError(
                f"'{self.strategy}' has the hyperparameters of {self.method.hparams.__name__}, "
                f"not of {type(self).__name__}; PruningHparams.of(...) chooses the class.",
                "strategy",
            )
        if self.method.is_constructive:
            for name in PRUNABLE:
                if getattr(self, name) != getattr(PruningHparams, name):
                    raise UsageError(f"{self.strategy} builds its mask of the weights of all layers.", name)
        _ = self.level
        self._check_structure()
        if self.effective_density is not None:
            given = [name for name in LEVELS[:-1] if getattr(self, name) is not None]
            if given:
                raise UsageError("it is another way to give the level; give one of them.", LEVELS[-1], *given)
            if self.rounding != NEAREST:
                raise UsageError(f"the number of weights is found by bisection; use {NEAREST}.", "rounding", LEVELS[-1])
        if self.method.is_constructive and self.rounding != NEAREST:
            raise UsageError(f"{self.strategy} builds its mask without scores; it takes only {NEAREST}.", "rounding")
        check_rounding(self.rounding, ALLOCATIONS.find(self.allocation), self.prune_schedule, self.prune_iterations)
        if ALLOCATIONS.find(self.allocation).normalize is not None and self.prune_direction == "highest":
            reason = f"{self.allocation} prunes the lowest shares of scores, and here the highest scores are pruned."
            raise UsageError(reason, "allocation")
        if self.prune_highest and self.prune_lowest:
            raise UsageError("give one of them, or neither.", "prune_highest", "prune_lowest")
        of_scores = [name for name in ("prune_highest", "prune_lowest", "invert_scores") if getattr(self, name)]
        if self.method.is_constructive and of_scores:
            raise UsageError(f"{self.strategy} builds its mask without scores.", *of_scores)
        if self.method.is_constructive and self.allocation != "global":
            raise UsageError(f"{self.strategy} spreads the weights by itself; it takes only global.", "allocation")

    def _check_structure(self) -> None:
        """Check that nothing else says how many weights stay, or in which layers, beside a structure."""
        if self.structure is None:
            if self.structure_uneven != SKIP:
                raise UsageError("it is for a structure, such as 2:4; give both.", "structure_uneven", "structure")
            return
        others = {"effective_density": None, "allocation": "global", "rounding": NEAREST}
        for name, default in others.items():
            if getattr(self, name) != default:
                raise UsageError(f"{self.structure} says how many weights each group keeps; leave it out.", name)
        if self.method.is_constructive:
            raise UsageError(f"{self.strategy} builds its mask without scores.", "structure")

    @property
    def counted(self) -> CountedStructure | None:
        """The structure, with the number of weights that its groups keep; None for a mask without structure."""
        return None if self.structure is None else counted(STRUCTURES, self.structure, "structure")

    @property
    def method(self) -> Method:
        """The method that `strategy` names."""
        return METHODS.find(self.strategy)

    @property
    def examples_per_class(self) -> int | None:
        """Number of scoring examples of each class, or None if the method scores without examples."""
        count = METHODS.match(self.strategy)[1].get("examples_per_class")
        return int(count) if count else None

    @property
    def level(self) -> float:
        """The level as a prune fraction, whichever hyperparameter gives it; of an effective density, 1 - that.

        Of a structure, that of its groups: layers without the structure are dense.
        """
        if (structure := self.counted) is not None:
            return self._level_of(structure)
        if self.effective_density is not None:
            return prune_fraction_of(density=self.effective_density)
        return prune_fraction_of(self.prune_fraction, self.density, self.compression)

    def _level_of(self, structure: CountedStructure) -> float:
        level = prune_fraction_of(density=structure.kept / structure.size)
        given = [name for name in LEVELS[:-1] if getattr(self, name) is not None]
        if given and prune_fraction_of(self.prune_fraction, self.density, self.compression) != level:
            share = f"{structure.kept} of {structure.size} weights of each group, a density of {1 - level:g}"
            raise UsageError(f"{self.structure} keeps {share}; leave the level out.", *given)
        return level

    @property
    def scores_in_eval_mode(self) -> bool:
        """Whether batchnorm uses its running statistics while the network is scored."""
        return self.method.mode == "eval"

    @property
    def runs_in_train_mode(self) -> bool:
        """Whether the network runs in train mode to be scored."""
        return not self.scores_in_eval_mode and (self.method.needs_examples or self.method.depends_on_mask)

    @property
    def prune_direction(self) -> Direction:
        """The end of the scores that is pruned."""
        if self.prune_highest or self.prune_lowest:
            return "highest" if self.prune_highest else "lowest"
        return self.method.prune_direction

    @property
    def replaces_weights(self) -> str | None:
        """The option by which training starts from weights that the method sets (`Method.set_weights`), if given."""
        return None

    @property
    def uses_seed(self) -> bool:
        """Whether a seed can change the mask: the method draws at random, or its examples are chosen at random."""
        return self.level > 0 and (self.method.stochastic or self.method.needs_examples)

    def simplified(self) -> Self:
        """Return equal hyperparameters in canonical form.

        The level becomes `prune_fraction`. Fields that cannot change the mask return to their defaults: if nothing is
        pruned, all fields but the strategy.
        """
        level, method = self.level, self.method
        if level == 0:
            return type(self)(strategy=self.strategy, prune_fraction=0.0)
        simple: dict[str, Any] = {"density": None, "compression": None}
        if self.effective_density is None:
            simple["prune_fraction"] = level
        simple["allocation"] = ALLOCATIONS.find(self.allocation).spelling
        if self.prune_direction == method.prune_direction:
            simple |= {"prune_highest": False, "prune_lowest": False}
        has_one_count = not method.depends_on_mask and self.rounding == NEAREST
        if has_one_count:
            simple["prune_iterations"] = 1
        if has_one_count or self.prune_iterations == 1:
            simple["prune_schedule"] = "exponential"
        return self.replaced(simple)

    def canonical(self) -> dict[str, Any]:
        """Return the part of an address. It contains the method's version if that is not 1."""
        version = self.method.version
        return super().canonical() | ({} if version == 1 else {"strategy_version": version})


@dataclass(frozen=True, kw_only=True)
class ExamplesHparams(PruningHparams):
    """Pruning of a network by a method that scores with examples."""

    scores_with_examples: ClassVar[bool] = True

    score_batch_size: int | None = hparam(None, at_least=1)
    """The size of the batches of scoring examples (if not given, the training batch size); matters to batchnorm."""

    score_in_eval_mode: bool = hparam(False)
    """Score with batchnorm's running statistics, as Synaptic-Flow does, rather than those of the scoring batch."""

    score_examples: str = hparam("per_class", choices=("per_class", "drawn", "redrawn"))
    """'per_class': N examples of each class, as they are, the same in every pass.

    'drawn': N times the number of classes, drawn at random from the whole training set, augmented and shuffled again in
    every pass, as Synaptic-Flow and PHEW do (in batches of 256: --score_batch_size). 'redrawn': as many, but each batch
    of each pass is drawn from scratch from the whole training set, as FORCE does in each of its steps.
    """

    @property
    def scores_in_eval_mode(self) -> bool:
        """Whether batchnorm uses its running statistics while the network is scored."""
        return self.score_in_eval_mode or super().scores_in_eval_mode

    def redrawn_batch(self, batch_size: int) -> int | None:
        """Return the size of the batches that each pass draws from scratch; None if it draws none.

        batch_size: used unless score_batch_size is given.
        """
        return (self.score_batch_size or batch_size) if self.score_examples == "redrawn" else None


@dataclass(frozen=True, kw_only=True)
class BatchesHparams(ExamplesHparams):
    """Pruning of a network by a method that scores with gradients of batches."""

    score_batches_equally: bool = hparam(False)
    """Let batches of scoring examples count alike, whatever their size, rather than by their number of examples.

    Synaptic-Flow, ToST, PHEW, GraSP and FORCE do so.
    """
