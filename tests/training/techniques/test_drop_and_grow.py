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

from foundations.errors import UsageError
from foundations.step import Step
from pruning.mask import Mask
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


def trained_by_hand(start: ToyTraining, technique: str, iterations: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return weights and masks after SGD with momentum and an L2 penalty, every line of it written out."""
    values = {name: p.detach().clone().requires_grad_() for name, p in start.model.named_parameters()}
    assert start.mask is not None
    masks = {name: mask.clone() for name, mask in start.mask.items()}
    buffers = {name: torch.zeros_like(value) for name, value in values.items()}
    hparams = start.desc.training
    for t in range(iterations):
        x, y = batch(t)
        loss = F.cross_entropy(torch.func.functional_call(start.model, values, (x,)), y)
        gradients = dict(zip(values, torch.autograd.grad(loss, list(values.values())), strict=True))
        updates = t in (3, 8, 13)
        fraction = 0.3 / 2 * (1 + math.cos(math.pi * min(t, 14) / 14))
        with torch.no_grad():
            for name, value in values.items():
                gradient = gradients[name] + hparams.weight_decay * value
                if not (updates and technique == "rigl"):
                    buffers[name].mul_(hparams.momentum).add_(gradient)
                    value -= hparams.lr * buffers[name]
                if name in masks:
                    value *= masks[name]
                    if updates:
                        stream = start.generator("growth", t, name)
                        uniform = torch.rand(value.shape, generator=stream, dtype=torch.float64)
                        growth = gradient.abs() if technique == "rigl" else uniform
                        before = masks[name]
                        masks[name] = swapped(before, value, growth, fraction)
                        buffers[name] *= before
                    value *= masks[name]
                    buffers[name] *= masks[name]
    return {name: value.detach() for name, value in values.items()}, masks


@pytest.mark.parametrize("technique", ["rigl", "set"])
def test_a_training_in_float64_is_the_one_written_out_by_hand(technique: str) -> None:
    training = toy_training()
    values, masks = trained_by_hand(toy_training(), technique, 25)

    run(training, 25, technique=technique, **UPDATES)

    assert training.mask == Mask(masks)
    assert training.mask != toy_training().mask
    for name, parameter in training.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), values[name], rtol=1e-12, atol=1e-14)


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
            # At least the number that is not dropped is as large as whatever is lost.
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


@pytest.mark.parametrize("init", ["initial_dist", "random_normal", "random_uniform", "grad_scale", "grad_sign"])
def test_new_weights_start_at_the_values_that_are_asked_for(init: str) -> None:
    training = toy_training()
    before = training.mask
    assert before is not None

    run(training, 5)
    weights = {name: weight.clone() for name, weight in training.weights.items()}
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
        values, scale = 4 * weight[is_new], weights[name]
        if init == "grad_scale":
            torch.testing.assert_close(values, gradients[name][is_new])
        elif init == "grad_sign":
            torch.testing.assert_close(values, gradients[name][is_new].sign())
        elif init == "initial_dist":
            drawn = again.initialization("grow_init", 5)[name].double()
            torch.testing.assert_close(values, drawn[is_new])
        elif init == "random_uniform":
            assert values.abs().max() <= scale.abs().mean()
        else:
            stream = again.generator("grow_init", 5, name)
            expected = torch.randn(weight.shape, generator=stream).double() * scale.std(correction=0)
            torch.testing.assert_close(values, expected[is_new], rtol=1e-6, atol=1e-7)


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
