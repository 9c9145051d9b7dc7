"""MEST, memory-economic sparse training (Yuan et al. 2021): drop by weight and gradient, grow at random.

Every few epochs, in each layer, the weights of the lowest score

    |w| + lambda |dL/dw|

are dropped, and others grow at random. With elastic mutation (em), a layer of n weights is pruned to n (1 - m) and
grows back to n. With a soft memory bound (em_s), it is pruned to n and grows to n (1 + m), above the target. The margin
m falls in stages to 0, so that in either mode each layer ends with its n weights.

The gradients of pruned weights are masked and their momentum is not: it decays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from foundations.description.hparams import ALWAYS_WRITTEN, hparam
from foundations.description.step import Step, parse_steps
from foundations.errors import UsageError
from pruning.registry import ALLOCATIONS
from training.technique import Technique, Training
from training.techniques.after_step import UpdatedAfterStep
from training.techniques.moving_mask import StartHparams, dropped

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruning.masks.mask import Mask

EM, EM_S = MODES = ("em", "em_s")
_MARGINS = {EM: "0.2,0.1,0", EM_S: "0.5,0.25,0"}


@dataclass(frozen=True, kw_only=True)
class MestHparams(StartHparams):
    """The mask's updates, and the mask at the start of a training that has none."""

    start_allocation: str = hparam("uniform", choices=ALLOCATIONS)
    """Allocation of that density to the layers."""
    mask_update_frequency: str = hparam("5ep", step=True)
    """The time between updates of the mask."""
    mest_mode: str = hparam(EM, choices=MODES)
    """Prune below the density and grow back (em), or prune to it and grow above it (em_s: soft memory bound)."""
    mest_margins: str | None = hparam(None, elided=ALWAYS_WRITTEN)
    """The margin below or above each layer's number of weights, as a share of it, by stage; the last is 0. By default
    0.2,0.1,0 for em and 0.5,0.25,0 for em_s."""
    mest_stages: str | None = hparam(None, step_list=True, elided=ALWAYS_WRITTEN)
    """The steps at which a further stage begins; by default after 9/16 and 12/16 of the training (epochs 90 and 120 of
    160)."""
    mest_lambda: float = hparam(0.0, at_least=0)
    """Weight of the gradient's magnitude in the score. 0, the default of the published code, drops by magnitude."""

    @property
    def uses_seed(self) -> bool:
        """True: growth is random."""
        return True

    @property
    def margins(self) -> tuple[float, ...]:
        """The margin of each stage. Raises: UsageError."""
        texts = (_MARGINS[self.mest_mode] if self.mest_margins is None else self.mest_margins).split(",")
        try:
            found = tuple(float(text) for text in texts)
        except ValueError:
            raise UsageError("it takes numbers, such as 0.2,0.1,0.", "mest_margins") from None
        if not all(0 <= margin < (1 if self.mest_mode == EM else float("inf")) for margin in found) or found[-1] != 0:
            raise UsageError("each must be at least 0 (for em, below 1), and the last must be 0.", "mest_margins")
        return found

    def validate(self) -> None:
        """Check the margins."""
        assert self.margins

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Write out stages and margins. Raises: UsageError if the last stage would have no update."""
        resolved = super().for_training(end, has_mask=has_mask)
        stages = self.mest_stages
        if stages is None:
            stages = f"{end.iteration * 9 // 16}it,{end.iteration * 12 // 16}it"
        resolved = resolved.replaced(
            {"mest_stages": stages, "mest_margins": self.mest_margins or _MARGINS[self.mest_mode]}
        )
        begins, count = resolved.stages(end), len(resolved.margins)
        if len(begins) != count - 1:
            reason = f"a stage begins between two margins: {count - 1} times, and not {len(begins)} times."
            raise UsageError(reason, "mest_margins", "mest_stages")
        frequency = resolved.frequency(end)
        last = (end.iteration - 1) // frequency * frequency if frequency else 0
        if last == 0:
            reason = f"no update of the mask is within the training; choose a step from 1it to before {end}."
            raise UsageError(reason, "mask_update_frequency")
        if begins and last < begins[-1].iteration:
            reason = f"the last update of the mask is at {end.at(last)}, before the last stage at {begins[-1]}."
            raise UsageError(reason, "mask_update_frequency", "mest_stages")
        return resolved

    def frequency(self, any_step: Step) -> int:
        """Return the number of steps between updates. any_step: a step of the training."""
        per_epoch = any_step.iterations_per_epoch
        return Step.parse(self.mask_update_frequency, per_epoch, "mask_update_frequency").iteration

    def stages(self, any_step: Step) -> list[Step]:
        """Return the steps at which further stages begin. any_step: a step of the training."""
        return parse_steps(self.mest_stages or "", any_step.iterations_per_epoch, "mest_stages")


class Mest(UpdatedAfterStep[MestHparams]):
    """Drop by weight and gradient, grow at random."""

    keeps_state = True
    masks_gradients = True

    def __init__(self, training: Training, hparams: MestHparams) -> None:
        super().__init__(training, hparams)
        self._frequency, self._stages = hparams.frequency(training.end), hparams.stages(training.end)
        self._counts = self.kept("counts")
        self.needs_gradients = hparams.mest_lambda > 0

    def prepare(self) -> None:
        """Draw the mask to start from, if there is no other; note the number of weights of each layer."""
        super().prepare()
        import torch

        assert self.training.mask is not None
        self._counts |= {name: torch.tensor(count) for name, count in self.training.mask.kept_per_layer().items()}

    def clock(self, step: Step) -> Step | None:
        """Return the step after this one, if the mask is updated between them; it is not at the end."""
        after = step.at(step.iteration + 1)
        return after if after.iteration % self._frequency == 0 and after < self.training.end else None

    def _targets(self, clock: Step, *, after_growth: bool) -> dict[str, int]:
        """Return the number of weights of each layer after the drop of an update, or after its growth."""
        margin = self.hparams.margins[sum(clock >= begin for begin in self._stages)]
        factor = (1.0 if after_growth else 1 - margin) if self.hparams.mest_mode == EM else 1 + margin * after_growth
        return {name: round(int(count) * factor) for name, count in self._counts.items()}

    def drop(self, mask: Mask, weights: Mapping[str, nn.Parameter], clock: Step) -> Mask:
        """Return the mask without the weights of the lowest score."""
        kept = mask.kept_per_layer()
        for name, count in self._counts.items():
            count.clamp_(max=kept[name])  # another technique may have pruned since
        targets = self._targets(clock, after_growth=False)
        factor = self.hparams.mest_lambda
        scores = {
            name: weight.detach().abs() + factor * self._gradients[name] if name in self._gradients else weight
            for name, weight in weights.items()
        }
        return dropped(mask, scores, {name: max(0, kept[name] - targets[name]) for name in weights})

    def growth(self, step: Step, weights: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        """Return U(0, 1) for every weight."""
        return self.uniforms(step, weights)

    def grow(self, step: Step, stays: Mask, growth: Mapping[str, Tensor], counts: Mapping[str, int]) -> Mask:
        """Return the mask with new weights, up to the number of each layer."""
        clock = self.clock(step)
        assert clock is not None
        left, targets = stays.kept_per_layer(), self._targets(clock, after_growth=True)
        return super().grow(step, stays, growth, {name: max(0, targets[name] - left[name]) for name in counts})

    def metrics(self) -> Mapping[str, float]:
        """Return the density of the mask, which the soft memory bound lets rise on the way."""
        return {} if self.training.mask is None else {"mask_density": self.training.mask.density}


MEST = Technique(
    spelling="mest",
    known_as=("mest_em", "mest_em_s", "em_s", "elastic_mutation"),
    summary="drop by magnitude and gradient every few epochs, grow at random",
    paper="Yuan et al. 2021, MEST: Accurate and Fast Memory-Economic Sparse Training Framework on the Edge",
    differences="Compared with its definition, not with its code. The score has the gradient of the batch before the "
    "update; the code has none at that point, so that its lambda changes nothing. The code keeps the weights above a "
    "percentile; here the number is exact.",
    hparams=MestHparams,
    hooks=Mest,
    density="start_density",
    changes_mask=True,
)
