"""RigL and SET, against their definitions written out in float64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.masks.mask import Mask
from tests.training.techniques.toy_training import ToyTraining, batch, run, step, toy_training
from training.hparams import TechniquesHparams
from training.techniques.drop_and_grow import drop_and_grow

UPDATES: dict[str, Any] = {"mask_update_begin": "3it", "mask_update_end": "17it", "mask_update_frequency": "5it"}
"""Updates at iterations 3, 8 and 13."""


def swapped(kept: Tensor, weight: Tensor, growth: Tensor, fraction: float) -> Tensor:
    """Return a layer's mask after an update, by the rules of google-research/rigl, with sorting."""
    ones = int(kept.sum())
    n_prune = int(ones * fraction)
    by_magnitude = torch.where(kept, weight.abs(), -1).flatten().argsort(descending=True, stable=True)
    stays = torch.zeros(kept.numel(), dtype=torch.bool)
    stays[by_magnitude[: ones - n_prune]] = True
    lifted = growth.flatten().clone()
    lifted[stays] = -1  # below every score
    grown = lifted.argsort(descending=True, stable=True)[:n_prune]
    stays[grown] = True
    return stays.view(kept.shape)


def updated_at(technique: str, clock: str, iteration: int, optimizer_steps: int, last: int) -> int | None:
    """Return the clock's step if the mask is updated in an iteration, else None.

    optimizer_steps: their number before the iteration. last: the clock's step at the last update.
    """
    if clock == "batches":
        return iteration if iteration in (3, 8, 13) else None
    shown = optimizer_steps + (technique == "set")
    return shown if 3 <= shown <= 17 and last + 5 <= shown else None


def trained_by_hand(
    start: ToyTraining, technique: str, iterations: int, clock: str = "batches", grow_init: str = "zeros"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return weights and masks after SGD with momentum and an L2 penalty on raw weights, as in google-research/rigl.

    There, weights are multiplied by their masks in the forward pass. Those pruned keep values of their own.
    """
    raw = {name: p.clone().requires_grad_() for name, p in start.unmasked.items()}
    assert start.mask is not None
    masks = {name: mask.clone() for name, mask in start.mask.items()}
    buffers = {name: torch.zeros_like(value) for name, value in raw.items()}
    initial = {name: value.detach().clone() for name, value in raw.items()}
    hparams = start.desc.training
    done, last = 0, -5
    for t in range(iterations):
        x, y = batch(t)
        masked = {n: (value * masks[n] if n in masks else value).detach().requires_grad_() for n, value in raw.items()}
        loss = F.cross_entropy(torch.func.functional_call(start.model, masked, (x,)), y)
        gradients = dict(zip(masked, torch.autograd.grad(loss, list(masked.values())), strict=True))
        shown = updated_at(technique, clock, t, done, last)
        with torch.no_grad():
            if shown is None or technique == "set":
                done += 1
                for name, value in raw.items():
                    gradient = gradients[name] * masks[name] if name in masks else gradients[name]
                    buffers[name].mul_(hparams.momentum).add_(gradient + hparams.weight_decay * value)
                    value -= hparams.lr * buffers[name]
            if shown is None:
                continue
            last, fraction = shown, 0.3 / 2 * (1 + math.cos(math.pi * min(shown, 14) / 14))
            for name, before in dict(masks).items():
                uniform = torch.rand(before.shape, generator=start.generator("growth", t, name), dtype=torch.float64)
                growth = gradients[name].abs() if technique == "rigl" else uniform
                masks[name] = swapped(before, raw[name] * before, growth, fraction)
                is_new = masks[name] & ~before
                drawn = start.generator("grow_init", t, name)
                raw[name][is_new] = new_values(grow_init, raw[name], initial[name], drawn).double()[is_new]
                buffers[name][is_new] = 0
    return {name: value.detach() * masks.get(name, torch.ones(1)) for name, value in raw.items()}, masks


def new_values(grow_init: str, raw: Tensor, initial: Tensor, drawn: torch.Generator) -> Tensor:
    """Return the values of new weights, by the definitions of google-research/rigl."""
    if grow_init == "initial_dist":
        return initial.flatten()[torch.randperm(initial.numel(), generator=drawn)].view(initial.shape)
    if grow_init == "random_normal":
        return torch.randn(raw.shape, generator=drawn) * raw.std(correction=0)
    if grow_init == "random_uniform":
        return (2 * torch.rand(raw.shape, generator=drawn) - 1) * raw.abs().mean()
    return torch.zeros_like(raw)


@pytest.mark.parametrize("grow_init", ["zeros", "initial_dist", "random_normal", "random_uniform"])
@pytest.mark.parametrize("clock", ["batches", "optimizer_steps"])
@pytest.mark.parametrize("technique", ["rigl", "set"])
def test_a_training_in_float64_is_the_one_written_out_by_hand(technique: str, clock: str, grow_init: str) -> None:
    training = toy_training()
    values, masks = trained_by_hand(toy_training(), technique, 25, clock, grow_init)

    flags = {"mask_update_clock": clock, "grow_init": grow_init, **UPDATES}
    run(training, 25, technique=technique, **flags)

    assert training.mask == Mask(masks)
    assert training.mask != toy_training().mask
    for name, parameter in training.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), values[name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("begin", "end", "frequency", "rigl", "set_"),
    [
        (0, 4, 1, [0, 2, 4, 6, 8], [0, 1, 2, 3]),
        (3, 17, 5, [3, 9, 15], [2, 7, 12]),
        (1, 1, 4, [1], [0]),
    ],
)
def test_optimizer_steps_are_the_clock_of_googles_code(
    begin: int, end: int, frequency: int, rigl: list[int], set_: list[int]
) -> None:
    """With begin 0, end 4 and frequency 1, RigL there updates, steps, updates, steps, and so on."""
    for technique, expected in (("rigl", rigl), ("set", set_)):
        training = toy_training()
        seen: list[Mask | None] = []
        run(
            training,
            20,
            [lambda _, training=training, seen=seen: seen.append(training.mask)],  # type: ignore[misc]
            technique=technique,
            mask_update_clock="optimizer_steps",
            drop_fraction=0.5,
            drop_fraction_anneal="constant",
            mask_update_begin=f"{begin}it",
            mask_update_end=f"{end}it",
            mask_update_frequency=f"{frequency}it",
        )
        assert [t for t, (one, other) in enumerate(itertools.pairwise(seen)) if one != other] == expected


@pytest.mark.parametrize(("clock", "expected"), [("batches", list(range(12))), ("optimizer_steps", None)])
def test_the_learning_rate_follows_the_optimizers_steps_where_the_clock_does(
    clock: str, expected: list[int] | None
) -> None:
    training, seen = toy_training(), []

    def rate(iteration: int) -> float:
        seen.append(iteration)
        return 0.1

    steps: dict[str, Any] = {"mask_update_begin": "2it", "mask_update_end": "7it", "mask_update_frequency": "3it"}
    run(training, 12, learning_rate=rate, technique="rigl", mask_update_clock=clock, **steps)

    assert seen == (expected or [0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 9])


def test_growth_by_gradient_ignores_weight_decay() -> None:
    """With a decay this large, all weights that fall would grow back at once."""
    flags: dict[str, Any] = {"mask_update_begin": "0it", "mask_update_end": "0it", "drop_fraction": 0.5}
    plain, decayed = toy_training(weight_decay=0.0), toy_training(weight_decay=100.0)

    run(plain, 1, technique="rigl", **flags)
    run(decayed, 1, technique="rigl", **flags)

    assert plain.mask == decayed.mask


@pytest.mark.parametrize("technique", ["rigl", "set"])
def test_the_number_of_kept_weights_of_each_layer_never_changes(technique: str) -> None:
    training = toy_training()
    assert training.mask is not None
    before, seen = training.mask.kept_per_layer(), []

    def note(_: Step) -> None:
        assert training.mask is not None
        nonzero = {name: int((weight != 0).sum()) for name, weight in training.weights.items()}
        seen.append((training.mask.kept_per_layer(), all(nonzero[name] <= before[name] for name in before)))

    run(training, 25, [note], technique=technique, **UPDATES)

    assert seen == [(before, True)] * 26


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=3),
    st.floats(0, 1),
    st.floats(0.01, 1),
    st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_an_update_swaps_exactly_the_fraction_of_each_layer(
    shapes: list[tuple[int, int]], density: float, fraction: float, seed: int
) -> None:
    drawn = torch.Generator().manual_seed(seed)
    names = [f"layer{number}" for number in range(len(shapes))]
    # Few different values, so that there are ties.
    weights = {n: torch.randint(-3, 4, s, generator=drawn).double() for n, s in zip(names, shapes, strict=True)}
    growth = {n: torch.randint(0, 4, s, generator=drawn).double() for n, s in zip(names, shapes, strict=True)}
    mask = Mask({n: torch.rand(s, generator=drawn) < density for n, s in zip(names, shapes, strict=True)})

    after = drop_and_grow(mask, weights, growth, fraction)

    assert after.kept_per_layer() == mask.kept_per_layer()
    for name, kept in mask.items():
        dropped = int(int(kept.sum()) * fraction)
        magnitude = weights[name].abs()
        lost, won = kept & ~after[name], ~kept & after[name]
        assert int(lost.sum()) == int(won.sum()) <= dropped
        if lost.any():
            # As many kept weights as survive the drop are at least as large as every lost weight.
            assert int((magnitude[kept] >= magnitude[lost].max()).sum()) >= int(kept.sum()) - dropped
        if won.any():
            assert growth[name][won].min() >= growth[name][lost].max()


def test_rigl_leaves_the_optimizers_step_out_where_the_mask_changes_and_set_does_not() -> None:
    for technique, steps in (("rigl", 24), ("set", 25)):
        training = toy_training()
        biases: list[Tensor] = []

        def note(_: Step, training: ToyTraining = training, biases: list[Tensor] = biases) -> None:
            biases.append(training.model.get_parameter("4.bias").detach().clone())

        run(training, 25, [note], technique=technique, mask_update_begin="8it", mask_update_frequency="100it")

        changes = [not torch.equal(one, other) for one, other in itertools.pairwise(biases)]
        assert changes == [t != 8 or technique == "set" for t in range(25)]
        assert sum(changes) == steps


@pytest.mark.parametrize("technique", ["rigl", "set"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_new_weights_and_the_optimizers_state_for_them_are_zero(technique: str, optimizer: str) -> None:
    training = toy_training(optimizer_name=optimizer, lr=0.01)
    before = training.mask
    assert before is not None
    states: list[dict[str, Tensor]] = []

    def note(at: Step) -> None:
        if at.iteration == 9:
            for name in before:
                parameter = training.model.get_parameter(name)
                state = training.optimizer.state[parameter]
                states.append({"weight": parameter.detach().clone(), **{k: v.clone() for k, v in state.items()}})

    once: dict[str, Any] = {"mask_update_begin": "8it", "mask_update_end": "8it", "drop_fraction": 0.5}
    run(training, 9, [note], technique=technique, **once)

    assert training.mask is not None
    for name, state in zip(before, states, strict=True):
        is_new = training.mask[name] & ~before[name]
        assert is_new.any()
        for value in state.values():
            if value.shape == is_new.shape:
                assert not value[is_new].any()


@pytest.mark.parametrize(
    ("anneal", "expected"),
    [
        ("constant", lambda _: 0.4),
        ("cosine", lambda t: 0.4 / 2 * (1 + math.cos(math.pi * min(t, 80) / 80))),
        ("exponential", lambda t: 0.4 * (1 - (t - 20) / 80) ** 2),
    ],
)
def test_the_fraction_is_annealed_as_published(anneal: str, expected: Any) -> None:
    flags = {"drop_fraction": 0.4, "drop_fraction_anneal": anneal, "drop_fraction_exponent": 2.0}
    steps = {"mask_update_begin": "20it", "mask_update_end": "100it", "mask_update_frequency": "10it"}
    ((_, hparams),) = TechniquesHparams.of({"technique": "set", **flags, **steps}).parts

    updates = [t for t in range(130) if hparams.updates(step(0)).has(step(t))]  # type: ignore[attr-defined]

    assert updates == list(range(20, 101, 10))
    found = [hparams.fraction_at(step(t)) for t in updates]  # type: ignore[attr-defined]
    assert found == pytest.approx([expected(t) for t in updates], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("init", ["grad_scale", "grad_sign"])
def test_new_weights_start_at_the_values_that_are_asked_for(init: str) -> None:
    training = toy_training()
    before = training.mask
    assert before is not None

    run(training, 5)
    x, y = batch(5)
    loss = F.cross_entropy(training.model(x), y)
    found = torch.autograd.grad(loss, [training.model.get_parameter(name) for name in before])
    gradients = dict(zip(before, found, strict=True))

    again = toy_training()
    once: dict[str, Any] = {
        "mask_update_begin": "5it",
        "mask_update_end": "5it",
        "grow_init": init,
        "grow_init_divisor": 4.0,
    }
    run(again, 6, technique="rigl", **once)

    assert again.mask is not None
    for name, weight in again.weights.items():
        is_new = again.mask[name] & ~before[name]
        assert is_new.any()
        values = 4 * weight[is_new]
        if init == "grad_scale":
            torch.testing.assert_close(values, gradients[name][is_new])
        else:
            torch.testing.assert_close(values, gradients[name][is_new].sign())


def test_a_training_without_a_mask_starts_from_a_random_one_spread_like_erk() -> None:
    training = toy_training(density=None)
    initial = {name: p.detach().clone() for name, p in training.model.named_parameters()}

    run(training, 0, technique="rigl", start_density=0.25)

    assert training.mask is not None
    shapes = {name: tensor.shape for name, tensor in training.mask.items()}
    total = sum(shape.numel() for shape in shapes.values())
    assert training.mask.kept == round(total * 0.25)
    # Erdős-Rényi-kernel: kept weights are proportional to the sum of the sizes of the shape.
    kept = training.mask.kept_per_layer()
    factor = training.mask.kept / sum(sum(shape) for shape in shapes.values())
    assert all(abs(kept[name] - factor * sum(shape)) < 1 for name, shape in shapes.items())
    for name, weight in training.weights.items():
        assert torch.equal(weight, initial[name] * training.mask[name])


def test_a_frozen_layer_keeps_its_mask() -> None:
    training = toy_training()
    before = training.mask
    assert before is not None
    training.model.get_parameter("2.weight").requires_grad_(False)

    run(training, 25, technique="rigl", **UPDATES)

    assert training.mask is not None
    assert torch.equal(training.mask["2.weight"], before["2.weight"])
    assert not torch.equal(training.mask["0.weight"], before["0.weight"])


@pytest.mark.parametrize(
    ("flags", "has_mask", "message"),
    [
        ({}, False, "^start_density: without a mask"),
        ({"start_density": 0.1}, True, "^start_density: the training starts from a mask"),
        ({"mask_update_frequency": "0it"}, True, "^mask_update_frequency: "),
        ({"mask_update_begin": "9it", "mask_update_end": "8it"}, True, "^mask_update_begin, mask_update_end: "),
        ({"mask_update_end": "26it"}, True, "^mask_update_begin, mask_update_end: "),
    ],
)
def test_what_cannot_be_names_its_hyperparameters(flags: dict[str, Any], has_mask: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TechniquesHparams.of({"technique": "rigl", **flags}).for_training(step(25), has_mask=has_mask)
