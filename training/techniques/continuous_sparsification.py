"""Continuous sparsification: learn a soft mask that hardens, in rounds, and train the ticket (Savarese et al. 2020).

Each weight of the layers has a trained s, s0 at first, and the forward pass uses w sigmoid(beta s) / sigmoid(s0). The
loss has lambda times the sum of these factors. In each round, beta rises from 1 to the final temperature, by the same
factor at the start of each epoch but the first. Between rounds s becomes min(beta s, s0); weights, momentum and
statistics of batch normalization go on. The mask is s > 0 at the end of the last round: its density is an outcome.

Then the ticket: everything but s, statistics too, is again as it was at the start of the second epoch of the first
round, and trains for another round with a new optimizer and w 1[s > 0] / sigmoid(s0) in the forward pass. So a training
has `cs_rounds` + 1 parts of equal length; or `cs_rounds` with --cs_result=network, which ends after the rounds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from foundations.description.hparams import hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.hparams import ALL_BUT_CLASSIFIER
from training.technique import Hooks, ParameterGroup, Technique, TechniqueHparams, Training
from training.techniques.own_layers import density_of, outcome_of, weights_of_layers

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.masks.mask import Mask

_TICKET = "ticket"


@dataclass(frozen=True, kw_only=True)
class CsHparams(TechniqueHparams):
    """The rounds, the temperature and the penalty of continuous sparsification."""

    cs_rounds: int = hparam(3, at_least=1)
    """The number of rounds. The ticket is trained for as long as one of them."""
    cs_result: str = hparam(_TICKET, choices=(_TICKET, "network"))
    """After the rounds: train the ticket, from the step of --cs_rewind, or end with the network that they lead to."""
    cs_rewind: str = hparam("1ep", step=True)
    """The step of the first round to which the ticket goes back."""
    cs_s0: float = hparam(0.0, at_least=-80, at_most=80)
    """The first value of s: lower ones end sparser."""
    cs_lambda: float = hparam(1e-8, at_least=0)
    """The factor of the penalty of the mask."""
    cs_final_temperature: float = hparam(200.0, above=0)
    """beta in the last epoch of a round."""
    cs_temperature_frequency: str = hparam("1ep", step=True)
    """The time between rises of beta."""
    cs_next_round: str = hparam("scaled", choices=("scaled", "unscaled"))
    """s at the start of the next round: min(beta s, s0) with the final beta, as in the paper (scaled); or min(s, s0),
    as the published code computes, since it sets beta to 1 first (unscaled)."""
    cs_lr_continues: bool = hparam(False)
    """Let the schedule of the learning rate, such as --milestone_steps, not begin again in each round."""
    cs_layers: str = hparam(ALL_BUT_CLASSIFIER, unordered=True)
    """The layers with a mask, as --prunable_layers names them: in ResNets and VGGs of CIFAR-10, the convolutions."""

    @property
    def parts(self) -> int:
        """The number of parts of equal length."""
        return self.cs_rounds + (self.cs_result == _TICKET)

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Check that the parts are of equal length, and that beta rises in each."""
        length, odd = divmod(end.iteration, self.parts)
        if odd or not length:
            reason = f"the training of {end} is not {self.parts} rounds of equal length (the ticket is one of them)."
            raise UsageError(reason, "cs_rounds", "training_steps")
        every = Step.parse(self.cs_temperature_frequency, end.iterations_per_epoch, "cs_temperature_frequency")
        if not 0 < every.iteration < length:
            raise UsageError(
                f"beta must rise within a round of {length}it; choose an earlier step above 0it.",
                "cs_temperature_frequency",
            )
        rewind = Step.parse(self.cs_rewind, end.iterations_per_epoch, "cs_rewind")
        if self.cs_result == _TICKET and not rewind.iteration < length:
            raise UsageError(f"it must be in the first round, before {length}it.", "cs_rewind")
        return self

    def simplified(self) -> Self:
        """Reset fields that cannot change the result."""
        changes: dict[str, Any] = {}
        if self.cs_rounds == 1:
            changes["cs_next_round"] = "scaled"
        if self.cs_result != _TICKET:
            changes["cs_rewind"] = "1ep"
        return self.replaced(changes)


class ContinuousSparsification(Hooks[CsHparams]):
    """Train masks that harden, round after round, and then the ticket."""

    def __init__(self, training: Training, hparams: CsHparams) -> None:
        super().__init__(training, hparams)
        self.s = self.kept("s")
        self.rewound = self.kept("rewound")
        self.round = self.kept("round")
        self.beta, self.is_hard = 1.0, False
        self.every = training.step(hparams.cs_temperature_frequency, "cs_temperature_frequency").iteration
        self.rewind = training.step(hparams.cs_rewind, "cs_rewind")
        self.length = training.end.iteration // hparams.parts

    def prepare(self) -> None:
        """Give each weight its s."""
        import torch

        for name, weight in weights_of_layers(self.training.model, self.hparams.cs_layers, "cs_layers").items():
            real = weight.abs()  # masks of complex weights are real
            self.s[name] = torch.full_like(real, self.hparams.cs_s0, memory_format=torch.contiguous_format)
        self.round["begun"] = torch.zeros((), dtype=torch.int64)

    def effective(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the weights under the soft masks or, after the rounds, under the hard ones."""
        if self.is_hard:
            return {
                n: weights[n] * (kept.to(self.s[n].dtype) * self._scale) for n, kept in self._kept_weights().items()
            }
        return {name: weights[name] * ((self.beta * s).sigmoid() * self._scale) for name, s in self.s.items()}

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return s, without weight decay."""
        has_decay = "weight_decay" in self.training.optimizer.param_groups[0]
        return [ParameterGroup(parameters=self.s, options={"weight_decay": 0.0} if has_decay else {})]

    @functools.cached_property
    def _scale(self) -> float:
        """1 / sigmoid(s0)."""
        import torch

        return 1 / float(torch.tensor(self.hparams.cs_s0, dtype=torch.float64).sigmoid())

    def _part(self, step: Step) -> int:
        """Return the number of the round of a step, from 0; at the end of training, the last one."""
        return min(step.iteration // self.length, self.hparams.parts - 1)

    def before_step(self, step: Step) -> None:
        """Begin rounds and the ticket, and set the temperature."""
        part = self._part(step)
        self.is_hard = part == self.hparams.cs_rounds or step == self.training.end
        if step == self.rewind and self.hparams.cs_result == _TICKET:
            self.rewound |= {name: tensor.detach().clone() for name, tensor in self._state()}
        if part > int(self.round["begun"]):
            self.round["begun"] += 1
            if self.is_hard:
                self._begin_ticket()
            else:
                self._begin_round()
        since, rises = step.iteration - part * self.length, -(-self.length // self.every) - 1
        self.beta = self.hparams.cs_final_temperature ** (min(since // self.every, rises) / rises)

    def _begin_round(self) -> None:
        factor = self.hparams.cs_final_temperature if self.hparams.cs_next_round == "scaled" else 1.0
        for s in self.s.values():
            s.detach().mul_(factor).clamp_(max=self.hparams.cs_s0)

    def _begin_ticket(self) -> None:
        import torch

        with torch.no_grad():
            for name, tensor in self._state():
                tensor.copy_(self.rewound[name])
        self.rewound.clear()
        self.training.restart_optimizer()
        for s in self.s.values():
            s.grad = None

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.training.model.named_parameters()
        yield from self.training.model.named_buffers()

    def skipped_before(self, step: Step) -> int:
        """Let the learning rate begin again in each round."""
        return 0 if self.hparams.cs_lr_continues else self._part(step) * self.length

    def after_backward(self, step: Step) -> bool:
        """Add the gradient of the penalty to that of s, which the ticket does not train."""
        import torch

        if self.is_hard:
            for s in self.s.values():
                s.grad = None
            return False
        for s in self.s.values():
            soft = (self.beta * s.detach()).sigmoid()
            penalty = self.hparams.cs_lambda * self.beta * self._scale * soft * (1 - soft)
            s.grad = penalty if s.grad is None else torch.add(s.grad, penalty)
        return False

    def outcome(self) -> Mask:
        """Return the mask s > 0."""
        return outcome_of(self.training.model, self._kept_weights())

    def metrics(self) -> Mapping[str, float]:
        """Return the density of the mask s > 0, and the temperature."""
        return {"density": density_of(self._kept_weights()), "temperature": self.beta}

    def _kept_weights(self) -> dict[str, Tensor]:
        return {name: s.detach() > 0 for name, s in self.s.items()}


CONTINUOUS_SPARSIFICATION = Technique(
    spelling="continuous_sparsification",
    known_as=("cs", "cont_sparse", "contsparse"),
    summary="learn soft masks that harden, in rounds, and train the ticket that they find",
    paper="Savarese et al. 2020, Winning the Lottery with Continuous Sparsification",
    tested_against="lolemacs/continuous-sparsification",
    differences=(
        "All layers but the classifier have masks; the published ResNet's shortcuts have none. The published script "
        "ends with an error before the ticket, and takes min(s, s0) between rounds (--cs_next_round=unscaled)."
    ),
    hparams=CsHparams,
    hooks=ContinuousSparsification,
    mask_is_outcome=True,
)
