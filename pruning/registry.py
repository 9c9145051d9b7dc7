"""The methods of pruning by name: a strategy is a line of data, found by one regular expression. Imports no torch."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal

from foundations.errors import UsageError, did_you_mean

Direction = Literal["lowest", "highest"]
_N = r"(?P<examples_per_class>[1-9]\d*)"


@dataclass(frozen=True)
class Strategy:
    """A method: how it is spelled, what scores, and on which network."""

    spelling: str
    """The name for people; N stands for the number of examples per class."""
    pattern: str
    """The regular expression of its names."""
    score: str
    """`module:function` of the scorer."""
    paper: str
    builds_mask: bool = False
    """Whether `score` returns a mask of a given number of weights (scoring, keep) instead of scores."""
    removes: Direction = "lowest"
    """Which end of the scores goes."""
    mode: Literal["train", "eval"] = "train"
    """How batchnorm works while scoring: on the statistics of the scoring batch, or on the running ones."""
    prepare: str | None = None
    """`module:function` that turns the copy of the network into the one to score, once, before the first score."""
    float64: bool = False
    """Whether scores need double precision."""
    needs_input_shape: bool = False
    follows_mask: bool = True
    """Whether scores change with the mask; otherwise iterations and their schedule change nothing."""
    draws: bool = False
    """Whether scores are drawn at random."""
    revives: bool = False
    """Whether weights that an earlier iteration pruned may return."""
    options: tuple[str, ...] = ()
    """The hyperparameters of its own that its scorer takes."""
    prepare_options: tuple[str, ...] = ()
    """The hyperparameters of its own that its `prepare` takes."""
    version: int = 1
    """Raised by hand when results change; in the address when not 1."""
    name: str = ""
    """The name as given."""
    examples_per_class: int | None = None

    @property
    def is_constructive(self): return self.builds_mask

    @property
    def needs_examples(self) -> bool:
        """Whether the method scores with examples."""
        return "examples_per_class" in self.pattern

    @property
    def all_options(self) -> tuple[str, ...]:
        """The hyperparameters that this method has and others have not."""
        mode = ("score_in_eval_mode",) if self.needs_examples and self.mode == "train" else ()
        return (*self.options, *self.prepare_options, *mode)

    @property
    def uses_seed(self) -> bool:
        """Whether a seed can change the mask: it draws at random, or its examples are chosen by it."""
        return self.draws or self.needs_examples


STRATEGIES: tuple[Strategy, ...] = (
    Strategy(
        spelling="random",
        pattern="random",
        score="pruning.random:random",
        paper="no paper: scores drawn uniformly",
        follows_mask=False,
        draws=True,
    ),
    Strategy(
        spelling="magnitude",
        pattern="magnitude",
        score="pruning.magnitude:magnitude",
        paper="Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks",
        follows_mask=False,
    ),
    Strategy(
        spelling="snipN",
        pattern=f"snip{_N}",
        score="pruning.snip:snip",
        paper="Lee et al. 2019, SNIP: Single-shot Network Pruning based on Connection Sensitivity",
        options=("score_per_batch",),
    ),
    Strategy(
        spelling="forceN",
        pattern=f"force{_N}",
        score="pruning.force:force",
        paper="de Jorge et al. 2021, Progressive Skeletonization: Trimming more fat from a network at initialization",
        revives=True,
        options=("score_per_batch",),
    ),
    Strategy(
        spelling="graspN",
        pattern=f"grasp{_N}",
        score="pruning.grasp:grasp",
        removes="highest",
        paper="Wang et al. 2020, Picking Winning Tickets Before Training by Preserving Gradient Flow",
        options=("score_per_batch",),
    ),
    Strategy(
        spelling="graspabsN",
        pattern=f"graspabs{_N}",
        score="pruning.grasp:graspabs",
        paper="Frankle et al. 2021, Pruning Neural Networks at Initialization: Why Are We Missing the Mark?",
        options=("score_per_batch",),
    ),
    Strategy(
        spelling="taylorN",
        pattern=f"taylor{_N}",
        score="pruning.taylor:taylor",
        paper="Jaiswal et al. 2022, Training Your Sparse Neural Network Better with Any Mask",
    ),
    Strategy(
        spelling="fisherN",
        pattern=f"fisher{_N}",
        score="pruning.fisher:fisher",
        paper="Theis et al. 2018, Faster gaze prediction with dense networks and Fisher pruning",
    ),
    Strategy(
        spelling="synflow",
        pattern="synflow",
        score="pruning.synflow:synflow",
        prepare="pruning.synflow:prepare",
        prepare_options=("synflow_means",),
        mode="eval",
        float64=True,
        needs_input_shape=True,
        paper="Tanaka et al. 2020, Pruning neural networks without any data by iteratively conserving synaptic flow",
    ),
    Strategy(
        spelling="synflowl2",
        pattern="synflowl2",
        score="pruning.synflowl2:synflowl2",
        prepare="pruning.synflowl2:prepare",
        prepare_options=("synflow_means",),
        options=("synflowl2_as_published",),
        mode="eval",
        float64=True,
        needs_input_shape=True,
        paper="Patil & Dovrolis 2021, PHEW: Constructing Sparse Networks that Learn Fast and Generalize Well",
    ),
    Strategy(
        spelling="phew",
        pattern="phew",
        score="pruning.phew:phew",
        builds_mask=True,
        options=("phew_kernels",),
        mode="eval",
        needs_input_shape=True,
        follows_mask=False,
        revives=True,
        draws=True,
        paper="Patil & Dovrolis 2021, PHEW: Constructing Sparse Networks that Learn Fast and Generalize Well",
    ),
)


def find_strategy(name: str) -> Strategy:
    """Return the strategy of a name, with its `name` and `examples_per_class` filled in.

    Raises: UsageError that lists the possible names.
    """
    for strategy in STRATEGIES:
        match = re.fullmatch(strategy.pattern, name, re.ASCII)
        if match:
            count = match.groupdict().get("examples_per_class")
            return dataclasses.replace(strategy, name=name, examples_per_class=int(count) if count else None)
    spellings = [strategy.spelling for strategy in STRATEGIES]
    suggestion = did_you_mean(re.sub(r"\d+$", "N", name), spellings)
    raise UsageError(
        f"'{name}' is not possible.{suggestion} Possible: {', '.join(spellings)} "
        "(N: examples per class, such as snip10).",
        "strategy",
    )
