"""Early-bird tickets: stop training when the mask that it would be pruned to has settled (You et al. 2020).

At the end of each epoch t the network is scored for a mask m_t, which is not put on it. With the last l of them,

    d_t = max over i < l of |m_t xor m_(t-i)| / n,

n the number of prunable weights. Training is over when l masks are known and d_t < epsilon: the weights, statistics and
metrics of all later steps are those of this one. It is the stopping rule of a lottery's first training. The paper
prunes channels by the scales of batch normalization, with l = 5 and epsilon = 0.1. Where another technique has pruned
more than m_t would, m_t is the mask of the training.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from foundations.description.hparams import ALWAYS_WRITTEN, hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.level import kept_of
from training.technique import Hooks, Technique, TechniqueHparams, Training

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.masks.mask import Mask


@dataclass(frozen=True, kw_only=True)
class EarlyBirdHparams(TechniqueHparams):
    """The masks that are compared, and the distance at which training stops."""

    early_bird_threshold: float = hparam(0.1, above=0, at_most=1, elided=ALWAYS_WRITTEN)
    """The share of prunable weights below which masks are taken for the same, epsilon."""
    early_bird_masks: int = hparam(5, at_least=2, elided=ALWAYS_WRITTEN)
    """The number of masks that must be the same, l."""
    early_bird_frequency: str = hparam("1ep", step=True, elided=ALWAYS_WRITTEN)
    """The time between masks, and before the first."""
    early_bird_prune_fraction: float = hparam(0.5, above=0, below=1, elided=ALWAYS_WRITTEN)
    """The share of the weights that the masks prune. Masks of a small density are never far from each other."""
    early_bird_strategy: str = hparam("magnitude", elided=ALWAYS_WRITTEN)
    """The strategy that scores the weights, with its defaults."""
    early_bird_layers_to_ignore: str | None = hparam(None, unordered=True)
    """As --pruning_layers_to_ignore, for the masks."""

    @functools.cached_property
    def pruning(self) -> PruningHparams:
        """The hyperparameters of pruning."""
        try:
            return PruningHparams.of(
                {
                    "strategy": self.early_bird_strategy,
                    "prune_fraction": self.early_bird_prune_fraction,
                    "pruning_layers_to_ignore": self.early_bird_layers_to_ignore,
                }
            )
        except UsageError as error:
            raise UsageError(error.reason, *("early_bird_" + name for name in error.hparams)) from error

    @property
    def scores_with(self) -> PruningHparams:
        """The strategy."""
        return self.pruning

    @property
    def uses_seed(self) -> bool:
        """Whether the strategy draws random numbers, or chooses examples."""
        return self.pruning.uses_seed

    def validate(self) -> None:
        """Check that the strategy has scores, and that time is between masks."""
        if self.pruning.method.is_constructive:
            raise UsageError(f"{self.pruning.strategy} builds its mask at once; choose another.", "early_bird_strategy")

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Return these. Raises: UsageError if the training has fewer masks than must be the same."""
        name, least = "early_bird_frequency", self.early_bird_masks
        every = Step.parse(self.early_bird_frequency, end.iterations_per_epoch, name).iteration
        if every == 0:
            raise UsageError("it must be above 0it.", name)
        if end.iteration // every < least:
            reason = f"a training of {end} has {end.iteration // every} masks every {every}it; {least} are compared."
            raise UsageError(reason, name, "early_bird_masks")
        return self

    def versions(self) -> dict[str, int]:
        """Return the version of the strategy."""
        return {"early_bird_strategy": self.pruning.method.version}


_ALIKE = 0.9
"""The share of the weights to keep that a mask has at least at the start. Those of srigl and mest have a few less."""


class EarlyBird(Hooks[EarlyBirdHparams]):
    """Compare the masks of the last epochs, and end the training when they are the same."""

    prunes_first = True

    def __init__(self, training: Training, hparams: EarlyBirdHparams) -> None:
        super().__init__(training, hparams)
        self.masks, self.found = self.kept("masks"), self.kept("found")
        self.frequency = training.step(hparams.early_bird_frequency, "early_bird_frequency").iteration
        self._is_new = False

    def prepare(self) -> None:
        """Note that the training begins here: techniques that come later have not set their first mask yet."""
        self._is_new = True

    def before_step(self, step: Step) -> None:
        """Add the mask of a step, and compare the last ones."""
        import torch

        if self._is_new:
            self._is_new = False
            self._refuse_sparser()
        number, rest = divmod(step.iteration, self.frequency)
        name = f"{number:08d}"
        if rest or number == 0 or name in self.masks or self.is_over(step):
            return
        mask = self._sparser() or self.training.prune(self.hparams.pruning)
        self.masks[name] = torch.cat([mask[key].flatten() for key in sorted(mask)])
        for old in sorted(self.masks)[: -self.hparams.early_bird_masks]:
            del self.masks[old]
        distances = [_distance(self.masks[name], other) for other in self.masks.values()]
        self.found["distance"] = torch.tensor(max(distances), dtype=torch.float64)
        if len(self.masks) == self.hparams.early_bird_masks and max(distances) < self.hparams.early_bird_threshold:
            self.found["step"] = torch.tensor(step.iteration)

    def _sparser(self, share: float = 1.0) -> Mask | None:
        """Return the training's mask if it keeps less than a share of the weights that are to be kept; else None."""
        from training.masking import prunable_part

        if self.training.mask is None:
            return None
        part = prunable_part(self.training.model, self.hparams.pruning, self.training.mask)
        return self.training.mask if part.kept < share * kept_of(part.total, self.hparams.pruning.level) else None

    def _refuse_sparser(self) -> None:
        mask = self._sparser(_ALIKE)
        if mask is not None:
            reason = f"the training starts from a mask that prunes {mask.sparsity:.4g} already; choose a larger share."
            raise UsageError(reason, "early_bird_prune_fraction")

    def is_over(self, step: Step) -> bool:
        """Return whether the masks have settled."""
        return "step" in self.found

    def after_backward(self, step: Step) -> bool:
        """Skip the optimizer's steps, in a loop that goes on."""
        return self.is_over(step)

    def metrics(self) -> Mapping[str, float]:
        """Return the largest distance of the last masks, and the iteration at which training was over."""
        return {name: float(value) for name, value in sorted(self.found.items())}


def _distance(mask: Tensor, other: Tensor) -> float:
    return float((mask.cpu() ^ other.cpu()).double().mean())


EARLY_BIRD = Technique(
    spelling="early_bird",
    known_as=("eb", "eb_ticket", "earlybird_ticket"),
    summary="stop training when the mask that it would be pruned to has settled",
    paper="You et al. 2020, Drawing Early-Bird Tickets: Towards More Efficient Training of Deep Networks",
    differences="The paper compares masks of channels, by the scales of batch normalization; here of single weights.",
    hparams=EarlyBirdHparams,
    hooks=EarlyBird,
)
