"""Gem-Miner: learn a mask of weights that stay as they are, by scores from 0 to 1 (Sreenivasan et al. 2022).

Each weight has a score p, clipped to [0, 1] before each step, and a flag f, 1 at first. The forward pass uses
w f 1[p > 1/2]; the backward pass takes the rounding for the identity: dp = f w dL/d(effective w). lambda sum p^2 is
added to the loss, over all scores, also where f = 0. In steps, the live weights of smallest p lose their flags.

With r = 1 - target^(1 / steps), a step takes the flags of the ceil(r A) smallest of the A live weights, all with the
last one's score included: where many p are 0, all of these go. The mask that training ends with is f 1[p > 1/2], so
that its density is an outcome, and may be far below the target; --gem_miner_outcome=flags keeps f alone.

The first epoch, after which nothing is pruned, and the period count as in the published loop: there is a step after
epoch e, from 0, if e > 0 and the period divides e.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from foundations.description.hparams import hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from training.technique import Technique, Training
from training.techniques.learned_masks import LearnedMask, LearnedMaskHparams

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class GemMinerHparams(LearnedMaskHparams):
    """The target of the flags, its steps, and the penalty of the scores."""

    gem_miner_density: float = hparam(0.05, above=0, at_most=1)
    """The fraction of weights with a flag at the end. The published code's target_sparsity is the same in percent."""
    gem_miner_begin: str = hparam("1ep", step=True)
    """The step from which periods count; at this step itself no weight loses its flag."""
    gem_miner_period: str = hparam("5ep", step=True)
    """The time between the steps in which weights lose their flags."""
    gem_miner_lambda: float = hparam(1e-4, at_least=0)
    """The factor of the penalty of the scores."""
    gem_miner_penalty: str = hparam("l2", choices=("l2", "l1"))
    """The penalty: the sum of squares, or of the scores themselves."""
    gem_miner_threshold: float = hparam(0.5, at_least=0, below=1)
    """The score above which a weight is in the network."""
    gem_miner_outcome: str = hparam("rounded", choices=("rounded", "flags"))
    """The mask at the end: the weights with a flag and a score above the threshold, or all with a flag."""

    @property
    def density(self) -> float:
        """The fraction of weights with a flag at the end."""
        return self.gem_miner_density

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Check that the flags reach the target within the training."""
        super().for_training(end, has_mask=has_mask)
        if self.period(end) == 0:
            raise UsageError("it must be above 0it.", "gem_miner_period")
        if self.count_until(end, end) == 0 and self.density < 1:
            first = self.begin(end) + self.period(end)
            raise UsageError(
                f"the training ends at {end}, before weights first lose their flags, at {end.at(first)}.",
                "gem_miner_period",
                "gem_miner_begin",
            )
        return self

    def begin(self, any_step: Step) -> int:
        """Return the iteration from which periods count."""
        return Step.parse(self.gem_miner_begin, any_step.iterations_per_epoch, "gem_miner_begin").iteration

    def period(self, any_step: Step) -> int:
        """Return the number of iterations between steps."""
        return Step.parse(self.gem_miner_period, any_step.iterations_per_epoch, "gem_miner_period").iteration

    def count_until(self, step: Step, end: Step) -> int:
        """Return the number of times that weights have lost their flags, at a step included."""
        return max(0, step.iteration - self.begin(end)) // self.period(end)


class GemMiner(LearnedMask[GemMinerHparams]):
    """Keep the weights with a flag whose scores are above the threshold."""

    def __init__(self, training: Training, hparams: GemMinerHparams) -> None:
        super().__init__(training, hparams)
        self.flags = self.kept("flags")
        self.count = self.kept("count")

    def prepare(self) -> None:
        """Draw the scores, and give each weight a flag."""
        import torch

        super().prepare()
        self.flags |= {name: torch.ones_like(score, dtype=torch.bool) for name, score in self.scores.items()}
        self.count["done"] = torch.zeros((), dtype=torch.int64)

    def drawn(self, name: str, weight: Tensor) -> Tensor:
        """Draw uniformly from 0 to 1."""
        import torch

        return torch.rand(weight.shape, generator=self.training.generator("gem_miner", name))

    def differentiable(self, name: str) -> Tensor:
        """Return the scores of weights with a flag."""
        return self.scores[name] * self.flags[name]

    def masks(self) -> dict[str, Tensor]:
        """Return the masks of weights with a flag and a score above the threshold."""
        threshold = self.hparams.gem_miner_threshold
        return {name: (score.detach() > threshold) & self.flags[name] for name, score in self.scores.items()}

    @functools.cached_property
    def rate(self) -> float:
        """The fraction of live weights that lose their flags in a step."""
        end = self.training.end
        return 1 - math.exp(math.log(self.hparams.density) / max(1, self.hparams.count_until(end, end)))

    def before_step(self, step: Step) -> None:
        """Clip the scores, and at the steps of the period take flags away; at the end, flags may be the mask."""
        for score in self.scores.values():
            score.detach().clamp_(0, 1)
        if self.hparams.count_until(step, self.training.end) > int(self.count["done"]):
            self.count["done"] += 1
            self._take_flags()
        if step == self.training.end and self.hparams.gem_miner_outcome == "flags":
            for name, score in self.scores.items():
                score.detach().masked_fill_(self.flags[name], 1)

    def _take_flags(self) -> None:
        import torch

        names = sorted(self.scores)
        live = torch.cat([self.scores[name].detach()[self.flags[name]] for name in names])
        count = math.ceil(self.rate * len(live))
        if count:
            last = live.kthvalue(count).values
            for name in names:
                self.flags[name] &= self.scores[name].detach() > last

    def after_backward(self, step: Step) -> bool:
        """Add the gradient of the penalty."""
        import torch

        factor, is_squared = self.hparams.gem_miner_lambda, self.hparams.gem_miner_penalty == "l2"
        for score in self.scores.values():
            value = score.detach()
            penalty = 2 * factor * value if is_squared else factor * value.sign()
            score.grad = penalty if score.grad is None else torch.add(score.grad, penalty)
        return False

    def metrics(self) -> Mapping[str, float]:
        """Return the density of the present mask, and of the flags."""
        total = sum(flags.numel() for flags in self.flags.values())
        return {
            "density": sum(int(mask.sum()) for mask in self.masks().values()) / total,
            "flags": sum(int(flags.sum()) for flags in self.flags.values()) / total,
        }


GEM_MINER = Technique(
    spelling="gem_miner",
    known_as=("gm", "hc_iter"),
    summary="learn a mask of weights that do not train, by scores that are rounded, with fewer and fewer weights",
    paper="Sreenivasan et al. 2022, Rare Gems: Finding Lottery Tickets at Initialization",
    tested_against="ksreenivasan/pruning_is_enough",
    differences=(
        "All prunable layers have scores; the published code lists layers by hand, without ResNet-20's shortcuts."
    ),
    hparams=GemMinerHparams,
    hooks=GemMiner,
    density="gem_miner_density",
    mask_is_outcome=True,
)
