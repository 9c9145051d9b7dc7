"""Techniques that move the mask after optimizer steps, against their definitions in plain loops of float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from tests.training.techniques.toy_training import ToyTraining, batch, run, step, toy_training
from training.hparams import TechniquesHparams

STEPS, EVERY = 20, 4
Update = Callable[[int, "Loop"], None]


def begun(**flags: Any) -> ToyTraining:
    return toy_training(training_steps=f"{STEPS}it", **flags)


class Loop:
    """SGD with momentum and weight decay on a masked network, written out; `update` may change the mask."""

    def __init__(self, start: ToyTraining, *, keeps_state: bool = False, masks_gradients: bool = False) -> None:
        assert start.mask is not None
        self.start, self.keeps_state, self.masks_gradients = start, keeps_state, masks_gradients
        self.masks = {name: kept.clone() for name, kept in start.mask.items()}
        self.counts = {name: int(kept.sum()) for name, kept in start.mask.items()}
        self.weights = {name: p * self.masks.get(name, torch.ones(1)) for name, p in start.unmasked.items()}
        self.momenta = {name: torch.zeros_like(p) for name, p in self.weights.items()}
        self.gradients: dict[str, Tensor] = {}

    def train(self, steps: int, update: Update) -> Loop:
        own = self.start.desc.training
        for t in range(1, steps + 1):
            x, y = batch(t - 1)
            leaves = {name: w.clone().requires_grad_() for name, w in self.weights.items()}
            loss = F.cross_entropy(torch.func.functional_call(self.start.model, leaves, (x,)), y)
            found = torch.autograd.grad(loss, list(leaves.values()))
            self.gradients = dict(zip(leaves, found, strict=True))
            for name, gradient in self.gradients.items():
                if self.masks_gradients and name in self.masks:
                    gradient = gradient * self.masks[name]
                decayed = gradient + own.weight_decay * self.weights[name]
                self.momenta[name] = own.momentum * self.momenta[name] + decayed
                self.weights[name] = self.weights[name] - own.lr * self.momenta[name]
            self.zero()
            update(t, self)
        return self

    def zero(self) -> None:
        for name, kept in self.masks.items():
            self.weights[name] = self.weights[name] * kept
            if not self.keeps_state:
                self.momenta[name] = self.momenta[name] * kept

    def uniforms(self, name: str, t: int) -> Tensor:
        drawn = self.start.generator("growth", t - 1, name)
        return torch.rand(self.weights[name].shape, generator=drawn, dtype=torch.float64)

    def drop(self, name: str, count: int, score: Tensor | None = None) -> int:
        """Drop the lowest of the kept weights; return the number that went."""
        kept = self.masks[name].flatten()
        score = self.weights[name].abs() if score is None else score
        for index in sorted(kept.nonzero().flatten().tolist(), key=lambda i: float(score.flatten()[i]))[:count]:
            kept[index] = False
        return count

    def drop_to(self, name: str, count: int) -> int:
        """Drop the lowest of the kept weights and all that equal the last of them; return the number that went."""
        sizes = self.weights[name].abs()
        limit = sizes[self.masks[name]].sort().values[count - 1]
        goes = self.masks[name] & (sizes <= limit)
        self.masks[name] &= ~goes
        return int(goes.sum())

    def grow(self, name: str, score: Tensor, count: int) -> None:
        kept = self.masks[name].flatten()
        pruned = (~kept).nonzero().flatten().tolist()
        for index in sorted(pruned, key=lambda i: -float(score.flatten()[i]))[:count]:
            kept[index] = True


def fraction(t: int, start: float = 0.5, end: float = 0.005) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * t / STEPS)) / 2


def assert_same(training: ToyTraining, expected: Loop) -> None:
    assert training.mask == Mask(expected.masks)
    assert training.mask != begun().mask
    for name, parameter in training.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected.weights[name], rtol=1e-8, atol=1e-10)
        momentum = training.optimizer.state[parameter]["momentum_buffer"]
        torch.testing.assert_close(momentum, expected.momenta[name], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("growth", ["gradient", "random", "random_unfired", "bernoulli"])
def test_itop_drops_by_magnitude_and_grows_by_each_rule(growth: str) -> None:
    """Liu et al. 2021, algorithm 1: every k steps, drop ceil(f n) of each layer's n weights, grow as many."""
    fired = {name: kept.clone() for name, kept in begun().mask.items()}  # type: ignore[union-attr]

    def update(t: int, loop: Loop) -> None:
        if t % EVERY:
            return
        for name in loop.masks:
            went = loop.drop_to(name, math.ceil(fraction(t) * int(loop.masks[name].sum())))
            uniform, pruned = loop.uniforms(name, t), ~loop.masks[name]
            if growth == "bernoulli":
                loop.masks[name] |= pruned & (uniform < went / int(pruned.sum()))
            elif growth == "random_unfired":
                loop.grow(name, uniform - fired[name].double(), went)
            else:
                loop.grow(name, loop.gradients[name].abs() if growth == "gradient" else uniform, went)
            fired[name] |= loop.masks[name]
        loop.zero()

    expected = Loop(begun()).train(STEPS, update)
    training = begun()
    kind = {"itop_growth": "random", "itop_bernoulli": True} if growth == "bernoulli" else {"itop_growth": growth}
    run(training, STEPS, technique="itop", mask_update_frequency="4it", **kind)

    assert_same(training, expected)
    total = sum(kept.numel() for kept in fired.values())
    rate = sum(int(kept.sum()) for kept in fired.values()) / total
    assert training.hooks.metrics() == {"itop_exploration_rate": pytest.approx(rate, rel=1e-12)}
    assert training.mask is not None
    start = begun().mask
    assert start is not None
    assert (training.mask.kept == start.kept) == (growth != "bernoulli")


@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_granet_prunes_to_the_stated_density_and_drops_and_grows(allocation: str) -> None:
    """Liu et al. 2021, equation 1 with c = t / k, and magnitude and gradient of each layer after each pruning."""
    first, density = 0.3, 0.12

    def update(t: int, loop: Loop) -> None:
        if t % EVERY:
            return
        if t <= 12:  # the last multiple of 4 up to granet_end
            total = sum(kept.numel() for kept in loop.masks.values())
            target = density + (first - density) * (1 - t / 12) ** 3
            if allocation == "global":
                keep = total - int(total * (1 - target) + 0.5)
                everywhere = torch.cat([loop.weights[n].abs()[loop.masks[n]] for n in loop.masks])
                limit = everywhere.sort(descending=True).values[keep - 1]
                for name in loop.masks:
                    loop.masks[name] &= loop.weights[name].abs() >= limit
            else:
                for name, count in uniform_counts(loop, target).items():
                    loop.drop(name, int(loop.masks[name].sum()) - min(count, int(loop.masks[name].sum())))
            loop.zero()
        for name in loop.masks:
            went = loop.drop_to(name, math.ceil(fraction(t) * int(loop.masks[name].sum())))
            loop.grow(name, loop.gradients[name].abs(), went)
        loop.zero()

    def uniform_counts(loop: Loop, target: float) -> dict[str, int]:
        sizes = {name: kept.numel() for name, kept in loop.masks.items()}
        total = sum(sizes.values())
        keep = total - int(total * (1 - target) + 0.5)
        exact = {name: size * keep / total for name, size in sizes.items()}
        counts = {name: int(value + 1e-9) for name, value in exact.items()}
        rest = sorted(exact, key=lambda name: (counts[name] - exact[name], name))[: keep - sum(counts.values())]
        return {name: count + (name in rest) for name, count in counts.items()}

    expected = Loop(begun()).train(STEPS, update)
    training = begun()
    run(
        training, STEPS, technique="granet", mask_update_frequency="4it", granet_density=density,
        granet_initial_density=first, granet_allocation=allocation, granet_end="14it",
    )  # fmt: skip

    assert_same(training, expected)
    assert training.mask is not None
    assert training.mask.kept == round(density * training.mask.total)


def test_sparse_momentum_moves_weights_between_layers_and_keeps_their_number() -> None:
    """Dettmers & Zettlemoyer 2019, algorithm 1: layers grow in proportion to the mean momentum of their weights."""

    def update(t: int, loop: Loop) -> None:
        if t % EVERY:
            return
        means = {n: float(loop.momenta[n].abs()[kept].mean()) for n, kept in loop.masks.items()}
        total = sum(means.values())
        went = 0
        for name, kept in loop.masks.items():
            sparsity, rate = 1 - int(kept.sum()) / kept.numel(), fraction(t)
            if sparsity < 0.2 and means[name] / total > 1 / len(means):
                rate = min(sparsity, rate)
            went += loop.drop(name, math.ceil(rate * int(kept.sum())))
        room = {n: math.floor(0.99 * int((~kept).sum())) for n, kept in loop.masks.items()}
        for name, count in filled(means, room, went).items():
            loop.grow(name, loop.momenta[name].abs(), count)
        loop.zero()

    def filled(means: dict[str, float], room: dict[str, int], went: int) -> dict[str, int]:
        """Return whole numbers near the shares: layers that are full leave the rest to the others."""
        exact: dict[str, float] = {}
        rest, open_ = float(went), sorted(means)
        while open_:
            unit = rest / sum(means[n] for n in open_)
            full = [n for n in open_ if unit * means[n] >= room[n]]
            for name in full or open_:
                exact[name] = room[name] if full else unit * means[name]
            rest -= sum(exact[n] for n in full or open_)
            open_ = [n for n in open_ if n not in exact]
        counts = {name: int(value) for name, value in exact.items()}
        more = sorted(exact, key=lambda n: (counts[n] - exact[n], n))[: went - sum(counts.values())]
        return {name: count + (name in more) for name, count in counts.items()}

    expected = Loop(begun(), keeps_state=True).train(STEPS, update)
    training = begun()
    run(training, STEPS, technique="snfs", mask_update_frequency="4it")

    assert_same(training, expected)
    start = begun().mask
    assert training.mask is not None
    assert start is not None
    assert training.mask.kept == start.kept
    assert training.mask.kept_per_layer() != start.kept_per_layer()


@pytest.mark.parametrize("mode", ["em", "em_s"])
def test_mest_drops_by_weight_and_gradient_and_grows_at_random(mode: str) -> None:
    """Yuan et al. 2021, section 3: score |w| + lambda |dL/dw|; below the density and back, or above it and back."""
    margins = (0.4, 0.2, 0.0) if mode == "em" else (0.5, 0.25, 0.0)
    seen: list[int] = []

    def update(t: int, loop: Loop) -> None:
        if t % EVERY == 0 and t < STEPS:
            margin = margins[(t >= 8) + (t >= 16)]
            for name, count in loop.counts.items():
                low, high = (1 - margin, 1.0) if mode == "em" else (1.0, 1 + margin)
                score = loop.weights[name].abs() + 0.3 * loop.gradients[name].abs()
                loop.drop(name, max(0, int(loop.masks[name].sum()) - round(count * low)), score)
                loop.grow(name, loop.uniforms(name, t), round(count * high) - int(loop.masks[name].sum()))
            loop.zero()
        seen.append(sum(int(kept.sum()) for kept in loop.masks.values()))

    expected = Loop(begun(), keeps_state=True, masks_gradients=True).train(STEPS, update)
    training = begun()
    run(
        training, STEPS, technique="mest", mest_mode=mode, mest_lambda=0.3, mask_update_frequency="4it",
        mest_stages="8it,16it", mest_margins=",".join(map(str, margins)),
    )  # fmt: skip

    assert_same(training, expected)
    total = sum(expected.counts.values())
    assert seen[-1] == total
    assert (max(seen) > total) == (mode == "em_s")


def test_mest_without_lambda_drops_by_magnitude_alone() -> None:
    plain, weighted = begun(), begun()

    run(plain, STEPS, technique="mest", mask_update_frequency="4it")
    run(weighted, STEPS, technique="mest", mask_update_frequency="4it", mest_lambda=1.0)

    assert plain.mask != weighted.mask


def test_rigl_averages_the_gradients_of_the_last_batches() -> None:
    """The growth score is |sum of the gradients of the last A batches|, that of the update included."""

    def trained(batches: int) -> Mask | None:
        training = begun(momentum=0.0, lr=1e-12, weight_decay=0.0)
        once: dict[str, Any] = {"mask_update_begin": "7it", "mask_update_end": "7it", "mask_update_frequency": "5it"}
        run(training, 8, technique="rigl", drop_fraction=0.9, grad_accumulation_n=batches, **once)
        return training.mask

    start = begun()
    masks = start.mask
    assert masks is not None
    masks.apply_(start.model)
    for batches in (1, 4):
        sums = {name: torch.zeros_like(start.model.get_parameter(name)) for name in masks}
        for number in range(8 - batches, 8):
            x, y = batch(number)
            loss = F.cross_entropy(start.model(x), y)
            weights = [start.model.get_parameter(name) for name in masks]
            for total, gradient in zip(sums.values(), torch.autograd.grad(loss, weights), strict=True):
                total += gradient
        loop = Loop(start)
        for name in masks:
            went = loop.drop(name, int(0.9 * int(masks[name].sum())))
            loop.grow(name, sums[name].abs(), went)
        assert trained(batches) == Mask(loop.masks)
    assert trained(1) != trained(4)


@pytest.mark.parametrize(
    ("flags", "has_mask", "message"),
    [
        ({"technique": "itop"}, False, "^start_density: without a mask"),
        ({"technique": "itop", "mask_update_frequency": "26it"}, True, "^mask_update_frequency: no update"),
        ({"technique": "itop", "mask_update_frequency": "0it"}, True, "^mask_update_frequency: no update"),
        ({"technique": "rigl", "grad_accumulation_n": 9, "mask_update_frequency": "8it"}, True, "^grad_accumulation_n"),
        ({"technique": "granet"}, False, "^mask_update_frequency: no update"),
        ({"technique": "granet", "mask_update_frequency": "20it"}, False, "^mask_update_frequency: the mask"),
        ({"technique": "granet", "granet_density": 0.6, "mask_update_frequency": "5it"}, False, "^granet_density: the"),
        ({"technique": "granet", "granet_begin": "9it", "granet_end": "8it", "mask_update_frequency": "1it"}, True,
         "^granet_begin, granet_end: "),
        ({"technique": "mest"}, True, "^mask_update_frequency: no update"),
        ({"technique": "mest", "mask_update_frequency": "10it", "mest_stages": "9it,21it"}, True,
         "^mask_update_frequency, mest_stages: the last update"),
        ({"technique": "mest", "mask_update_frequency": "1it", "mest_margins": "0.5,0"}, True, "^mest_margins, mest"),
        ({"technique": "mest", "mask_update_frequency": "1it", "mest_margins": "0"}, True, "^mest_margins,.*0 times"),
        ({"technique": "mest", "mest_margins": "0.5,x"}, True, "^mest_margins: it takes numbers"),
        ({"technique": "mest", "mest_margins": "0.5,0.1"}, True, "^mest_margins: each must"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_work_names_its_hyperparameters(
    flags: dict[str, Any], has_mask: bool, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        TechniquesHparams.of(flags).for_training(step(25), has_mask=has_mask)
