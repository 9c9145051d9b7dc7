"""A training of a small network in float64, through the loop, with hooks of techniques."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.description.step import Step
from foundations.random_streams import generator, stream_seed
from pruning.compute_mask import mask_from_hparams
from pruning.hparams import PruningHparams
from pruning.masks.attached_mask import AttachedMask
from pruning.masks.mask import Mask
from pruning.scoring.inputs import ScoringInputs
from tests.training.small_runs import train_desc
from tests.training.whole_loop import train
from training.all_hooks import AllHooks
from training.desc import TrainDesc
from training.hparams import TechniquesHparams
from training.loop.loop import Callback
from training.loop.optimizers import make_optimizer

EPOCH = train_desc().iterations_per_epoch
"""Iterations in an epoch."""


def step(iteration: int) -> Step:
    return Step(iteration, EPOCH)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def batch(iteration: int) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(iteration)
    return torch.randn(16, 12, generator=drawn, dtype=torch.float64), torch.randint(4, (16,), generator=drawn)


class Batches:
    def train_batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(first, EPOCH):
            yield batch(epoch * EPOCH + number)


@dataclass
class ToyTraining:
    """A technique's view of training a network of 12, 20, 8 and 4 units."""

    desc: TrainDesc
    model: nn.Module = field(default_factory=network)
    mask: Mask | None = None
    seed: int = 3
    attached: AttachedMask | None = None
    hooks: AllHooks = field(default_factory=AllHooks)
    unmasked: dict[str, Tensor] = field(default_factory=dict)
    """The weights before the mask, which the first run starts from."""

    def __post_init__(self) -> None:
        self.optimizer = make_optimizer(self.desc.training, self.model.parameters())
        if self.mask is not None:
            self.set_mask(self.mask)

    @property
    def end(self) -> Step:
        return self.desc.end

    @property
    def mean_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        return self.desc.dataset.task.loss

    def step(self, text: str, hparam: str = "step") -> Step:
        return self.desc.step(text, hparam)

    def restart_optimizer(self) -> None:
        self.optimizer.state.clear()

    def set_mask(self, mask: Mask | None) -> None:
        if self.attached is not None:
            self.attached.detach()
        self.mask = mask
        self.attached = None
        if mask is not None:
            chosen = {"keeps_state": self.hooks.keeps_state, "masks_gradients": self.hooks.masks_gradients}
            self.attached = mask.attach(self.optimizer, self.model, state=None, **chosen)

    def prune(self, pruning: PruningHparams) -> Mask:
        return mask_from_hparams(self.model, pruning, ScoringInputs(seed=self.seed, input_shape=(12,)), mask=self.mask)

    def initialization(self, *keys: int | str) -> dict[str, Tensor]:
        drawn = torch.Generator().manual_seed(hash(keys) % 1000)
        return {name: torch.randn(p.shape, generator=drawn) for name, p in self.model.named_parameters()}

    def batches(self, *keys: int | str) -> Generator[tuple[Tensor, Tensor], None, None]:
        for number in itertools.count():
            yield batch(stream_seed("batches", *keys) % 1000 + number)

    def generator(self, *keys: int | str) -> torch.Generator:
        return generator("technique", self.seed, *keys)

    @property
    def weights(self) -> dict[str, Tensor]:
        assert self.mask is not None
        return {name: self.model.get_parameter(name).detach() for name in self.mask}

    def momentum_of(self, name: str) -> Tensor:
        state: dict[str, Tensor] = self.optimizer.state[self.model.get_parameter(name)]
        return state["momentum_buffer"]


def toy_training(density: float | None = 0.3, **flags: Any) -> ToyTraining:
    values = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, **flags}
    made = ToyTraining(train_desc(**values))
    if density is not None:
        made.unmasked = {name: p.detach().clone() for name, p in made.model.named_parameters()}
        drawn = torch.Generator().manual_seed(1)
        masks = {name: torch.rand(p.shape, generator=drawn) < density for name, p in made.model.named_parameters()}
        made.set_mask(Mask({name: mask for name, mask in masks.items() if name.endswith("weight")}, made.model))
    return made


def run(
    training: ToyTraining,
    iterations: int,
    callbacks: Sequence[Callback] = (),
    *,
    learning_rate: Callable[[int], float] | None = None,
    **flags: Any,
) -> None:
    """Train from the start with the techniques that the flags name."""
    techniques = TechniquesHparams.of(flags).for_training(step(iterations), has_mask=training.mask is not None)
    training.hooks = hooks = AllHooks.of(techniques, training)
    if training.unmasked:
        training.model.load_state_dict(training.unmasked)
        training.unmasked = {}
    hooks.start(training, training.mask, step(0))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return hooks.loss(F.cross_entropy(logits, labels), logits, labels)

    train(
        training.model,
        training.optimizer,
        Batches(),
        loss,
        learning_rate or (lambda _: training.desc.training.lr),
        step(0),
        step(iterations),
        callbacks,
        hooks,
    )
