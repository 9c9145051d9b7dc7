"""`fan_in_magnitude`: a pruning method with an option of its own, as a plug-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from open_prune import Method, PruningHparams, hparam

if TYPE_CHECKING:
    from open_prune import Scores, Scoring


@dataclass(frozen=True, kw_only=True)
class FanInHparams(PruningHparams):
    """Pruning by magnitude and fan-in."""

    fan_in_power: float = hparam(0.5)
    """The power of the fan-in: 0 is magnitude pruning, 0.5 measures weights in units of Kaiming's initial deviation."""


def fan_in_magnitude(scoring: Scoring, hparams: FanInHparams) -> Scores:
    """Return s = |w| n^p, where n is the number of inputs of a unit of the weight's layer."""
    return {name: weight.abs() * weight[0].numel() ** hparams.fan_in_power for name, weight in scoring.weights.items()}


FAN_IN_MAGNITUDE = Method(
    spelling="fan_in_magnitude",
    paper="an example of a method of your own",
    hparams=FanInHparams,
    score=fan_in_magnitude,
    depends_on_mask=False,
)
