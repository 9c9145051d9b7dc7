"""A technique with all hooks for weights that are not parameters: gates of layers, frozen biases, a learnt mask."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foundations.description.hparams import hparam
from foundations.description.step import Step
from pruning.masks.mask import Mask
from training.registry import TECHNIQUES
from training.technique import Hooks, ParameterGroup, Technique, TechniqueHparams

HALVED, RESTARTED, SMALL = 3, 5, 0.05


@dataclass(frozen=True, kw_only=True)
class WarpHparams(TechniqueHparams):
    """Options of the gates."""

    warp_power: float = hparam(1.0)
    """The power of a gate."""


class Warp(Hooks[WarpHparams]):
    """Multiply each matrix by a gate that is trained; keep the large weights at the end."""

    keeps_state = True

    def __init__(self, training: Any, hparams: WarpHparams) -> None:
        super().__init__(training, hparams)
        self.gates = self.kept("gates")
        self.count = self.kept("count")

    def prepare(self) -> None:
        for name, weight in self.training.model.named_parameters():
            if weight.dim() > 1:
                drawn = torch.rand((), generator=self.training.generator("gate", name), dtype=torch.float64)
                self.gates[name] = (0.5 + drawn).to(weight)
        self.count["steps"] = torch.zeros(())

    def effective(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {name: weights[name] * gate**self.hparams.warp_power for name, gate in self.gates.items()}

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        return [ParameterGroup(parameters=self.gates, lr_factor=0.5, options={"weight_decay": 0.01})]

    def frozen(self) -> Collection[str]:
        return [name for name, weight in self.training.model.named_parameters() if weight.dim() == 1]

    def learning_rate(self, step: Step, rate: float) -> float:
        return rate / 2 if step.iteration >= HALVED else rate

    def before_step(self, step: Step) -> None:
        if step.iteration == RESTARTED:
            self.training.restart_optimizer()

    def after_step(self, step: Step) -> None:
        self.count["steps"] += 1

    def outcome(self) -> Mask | None:
        weights = {name: self.training.model.get_parameter(name).detach() for name in self.gates}
        return Mask({name: w.abs() > SMALL for name, w in weights.items()}, self.training.model)

    def metrics(self) -> Mapping[str, float]:
        return {"gate": sum(gate.item() for _, gate in sorted(self.gates.items()))}


WARP = Technique(spelling="warp", summary="gates", hparams=WarpHparams, hooks=Warp, mask_is_outcome=True)


@contextmanager
def registered() -> Iterator[None]:
    """Inside the block, jobs and `sparse` know the technique."""
    before = list(TECHNIQUES)
    TECHNIQUES.register(sys.modules[__name__])
    try:
        yield
    finally:
        TECHNIQUES._entries[:] = before
        TECHNIQUES._found.pop(WARP.spelling, None)
