"""The declaration of a pruning method. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from foundations.errors import UsageError
from foundations.registry import Registered

if TYPE_CHECKING:
    from torch import nn

    from pruning.hparams import PruningHparams
    from pruning.masks.mask import Mask
    from pruning.scoring.scoring import Scores, Scoring

Direction = Literal["lowest", "highest"]
EXAMPLES_PER_CLASS = r"(?P<examples_per_class>[1-9]\d*)"
"""The part of a name's pattern that gives the number of scoring examples of each class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Method(Registered):
    """A way to score weights or, if it is constructive, to build a mask without scores."""

    paper: str
    passes: str = ""
    """Cost of one scoring, as text: such as 'one backward pass over the examples'."""
    tested_against: str = ""
    """The code whose scores or masks a test compares, as owner/repository; empty if a test compares the definition."""
    differences: str = ""
    """Known differences from the paper or its code, in a sentence or two."""
    hparams: type[PruningHparams]
    """The hyperparameters: PruningHparams, or a subclass that adds the method's own options."""
    score: Callable[[Scoring, Any], Scores] | None = None
    """(scoring, hyperparameters) -> the score of each weight, by tensor name."""
    build_mask: Callable[[Scoring, int, Any], Mask] | None = None
    """(scoring, number of weights to keep, hyperparameters) -> the mask. Only constructive methods have it."""
    keeps: str = ""
    """The content of a constructive method's mask, in a few words."""
    prune_direction: Direction = "lowest"
    """The end of the scores that is pruned."""
    mode: Literal["train", "eval"] = "train"
    """Whether batchnorm uses the statistics of the scoring batch (train) or the running ones (eval)."""
    float64: bool = False
    """Whether scores need double precision."""
    transform: Callable[[nn.Module, Any], None] | None = None
    """(network, hyperparameters): changes the copy of the network in place before it is scored for the first time."""
    set_weights: Callable[[nn.Module, Any, int], None] | None = None
    """(network, hyperparameters, seed): sets the weights from which training starts, in place, where the
    hyperparameters ask for it (`PruningHparams.replaces_weights`)."""
    needs_input_shape: bool = False
    depends_on_mask: bool = True
    """Whether scores change with the mask. If not, more iterations give the same mask."""
    stochastic: bool = False
    """Whether scores or masks are drawn at random."""
    can_regrow: bool = False
    """Whether weights that an earlier iteration pruned can return."""
    version: int = 1
    """Raised by hand when results change. Addresses contain it if it is not 1."""
    extension_version: int = 1
    """Version of a constructive method's extensions: raised by hand when only masks that extend another one change."""

    def check_declared(self) -> None:
        """Check that the method has one way to prune, and a name that gives its number of scoring examples."""
        if (self.score is None) == (self.build_mask is None):
            raise UsageError("give it either a score or, if it is constructive, build_mask.")
        scores_with_examples = self.hparams.scores_with_examples
        names_their_number = "(?P<examples_per_class>" in self.pattern
        if (scores_with_examples or names_their_number) and not self.needs_examples:
            word = re.sub(r"[^a-z_]", "", self.spelling) or "mine"
            raise UsageError(
                f"it scores with examples, so its names must say how many: spelling='{word}N',\n"
                f'pattern=f"{word}{{EXAMPLES_PER_CLASS}}", examples=("{word}10",).'
            )

    @property
    def is_constructive(self) -> bool:
        """Whether the method builds a mask without scores."""
        return self.build_mask is not None

    @property
    def needs_examples(self) -> bool:
        """Whether the method scores with examples."""
        return EXAMPLES_PER_CLASS in self.pattern

    @property
    def prunes(self) -> str:
        """The pruned weights, in a few words."""
        return f"all but {self.keeps}" if self.is_constructive else f"{self.prune_direction} scores"
