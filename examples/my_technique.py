"""`swa`: stochastic weight averaging (Izmailov et al. 2018), a technique with an option and a state, as a plug-in."""

from __future__ import annotations

from dataclasses import dataclass

from open_prune import Hooks, Step, Technique, TechniqueHparams, Training, hparam


@dataclass(frozen=True, kw_only=True)
class SwaHparams(TechniqueHparams):
    """Averaging of weights."""

    swa_begin: str = hparam("0it", step=True)
    """The first step whose new weights are averaged."""


class Swa(Hooks[SwaHparams]):
    """Average the weights after each step; at the last step, the average takes their place."""

    def __init__(self, training: Training, hparams: SwaHparams) -> None:
        super().__init__(training, hparams)
        self.begin = training.step(hparams.swa_begin, "swa_begin")
        self.average = self.kept("average")  # checkpoints hold the tensors in this dict

    def after_step(self, step: Step) -> None:
        """Add the new weights to the average."""
        if step >= self.begin:
            count = step.iteration - self.begin.iteration + 1
            for name, weight in self.training.model.named_parameters():
                average = self.average.setdefault(name, weight.detach().clone())
                average += (weight.detach() - average) / count

    def before_step(self, step: Step) -> None:
        """At the last step, replace the weights by the average."""
        if step == self.training.end:
            for name, average in self.average.items():
                self.training.model.get_parameter(name).detach().copy_(average)


SWA = Technique(
    spelling="swa",
    summary="end with the average of the weights",
    paper="Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization",
    hparams=SwaHparams,
    hooks=Swa,
)
