"""SET, sparse evolutionary training (Mocanu et al. 2018): weights grow at random.

At an update the optimizer steps first, and then the mask changes, as in google-research/rigl.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.step import Step
from training.technique import Technique
from training.techniques.drop_and_grow import DropAndGrow, DropAndGrowHparams

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class SetHparams(DropAndGrowHparams):
    """The mask's updates: their steps and sizes, and the mask at the start of a training that has none."""

    @property
    def uses_seed(self) -> bool:
        """True: growth is random."""
        return True


class Set(DropAndGrow[SetHparams]):
    """Drop by magnitude, grow at random."""

    def growth(self, step: Step, weights: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        """Return U(0, 1) for every weight, without ties."""
        return self.uniforms(step, weights)

    def clock_of_optimizer(self, step: Step) -> Step | None:
        """Return the optimizer's step at the update of an iteration; None if there is none."""
        updates = self.updates
        first, shown = max(1, updates.begin.iteration), step.at(step.iteration + 1)
        since = shown.iteration - first
        return shown if since >= 0 and since % updates.frequency.iteration == 0 and shown <= updates.end else None

    def after_step(self, step: Step) -> None:
        """Update the mask."""
        self.move_raw_weights()
        clock = self.clock(step)
        if clock is not None:
            self.update(step, clock)


SET = Technique(
    spelling="set",
    known_as=("sparse_evolutionary_training",),
    summary="drop the smallest weights, grow at random",
    paper="Mocanu et al. 2018, Scalable training of artificial neural networks with adaptive sparse connectivity",
    differences=(
        "Steps are counted as in RigL; the mask changes after the optimizer's step, as in google-research/rigl."
    ),
    hparams=SetHparams,
    hooks=Set,
    density="start_density",
    changes_mask=True,
    takes_shards=True,
)
