"""`swa`: stochastic weight averaging (Izmailov et al. 2018), a technique with an option and a state, as a plug-in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from open_prune import Hooks, Step, Technique, TechniqueHparams, Training, hparam

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SwaHparams(TechniqueHparams):
    """Averaging of weights."""

    swa_begin: str = hparam("0it", step=True)
    """The first step whose new weights are averaged."""


class Swa(Hooks[SwaHparams]):
    """Average the weights after each step; at the last step, the average takes their place."""

    def __init__(self, training: Training, hparams: SwaHparams) -> None:
        super().__init__(training, hparams)
        self.begin = training.desc.step(hparams.swa_begin, "swa_begin")
        self.count = 0
        self.average: dict[str, Tensor] = {}

    def after_step(self, step: Step) -> None:
        """Add the new weights to the average."""
        if step >= self.begin:
            self.count += 1
            for name, weight in self.training.model.named_parameters():
                average = self.average.setdefault(name, weight.detach().clone())
                average += (weight.detach() - average) / self.count

    def before_step(self, step: Step) -> None:
        """At the last step, replace the weights by the average."""
        if step == self.training.desc.end:
            for name, average in self.average.items():
                self.training.model.get_parameter(name).detach().copy_(average)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average and its number of steps, for checkpoints."""
        import torch

        return {"count": torch.tensor(self.count), **{f"average.{name}": t for name, t in self.average.items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a checkpoint."""
        device = next(self.training.model.parameters()).device
        self.count = int(state["count"])
        prefix = "average."
        self.average = {n.removeprefix(prefix): t.to(device) for n, t in state.items() if n.startswith(prefix)}


SWA = Technique(
    spelling="swa",
    summary="end with the average of the weights",
    paper="Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization",
    hparams=SwaHparams,
    hooks=Swa,
)
