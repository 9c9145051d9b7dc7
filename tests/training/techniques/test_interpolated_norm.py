"""AWS's interpolated normalization, against a plain loop in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.errors import UsageError
from foundations.random_streams import generator
from pruning.masks.mask import Mask
from tests.training.small_runs import train_desc
from tests.training.techniques.toy_training import ToyTraining, batch, network, run, step

LR, MOMENTUM, DECAY = 0.1, 0.9, 0.01


def normalized_network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(12, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 8), nn.LayerNorm(8), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(8, 4)).double()


def masked_training(model: nn.Module) -> ToyTraining:
    drawn = torch.Generator().manual_seed(1)
    masks = {name: torch.rand(model.get_parameter(name).shape, generator=drawn) < 0.5 for name in MASKED}
    desc = train_desc(lr=LR, momentum=MOMENTUM, weight_decay=DECAY, training_steps="20it")
    return ToyTraining(desc, model, Mask(masks, model))


MASKED = ("0.weight", "3.weight")


def plain_loop(model: nn.Module, mask: Mask, seed: int, steps: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Train as the published code does: masks and alpha in the forward pass, pruned weights left to decay.

    Returns: the parameters, and batchnorm's running mean and variance.
    """
    w = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in w.items()}
    mean, var = torch.zeros(20, dtype=torch.float64), torch.ones(20, dtype=torch.float64)
    for iteration in range(steps):
        stream = generator("technique", seed, "interpolated_norm", iteration)
        alpha = torch.rand((), generator=stream, dtype=torch.float64)
        x, labels = batch(iteration)
        h = F.linear(x, w["0.weight"] * mask["0.weight"], w["0.bias"])
        batch_mean, batch_var = h.mean(0), h.var(0, unbiased=False)
        h_hat = (h - batch_mean) / (batch_var + 1e-5).sqrt()
        h = torch.relu(h_hat * (alpha + (1 - alpha) * w["1.weight"]) + (1 - alpha) * w["1.bias"])
        mean = 0.9 * mean + 0.1 * batch_mean.detach()
        var = 0.9 * var + 0.1 * batch_var.detach() * len(x) / (len(x) - 1)
        h = F.linear(h, w["3.weight"] * mask["3.weight"], w["3.bias"])
        h_hat = (h - h.mean(1, keepdim=True)) / (h.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        h = torch.relu(h_hat * (alpha + (1 - alpha) * w["4.weight"]) + (1 - alpha) * w["4.bias"])
        loss = F.cross_entropy(F.linear(h, w["6.weight"], w["6.bias"]), labels)
        gradients = torch.autograd.grad(loss, list(w.values()))
        with torch.no_grad():
            for (name, p), gradient in zip(w.items(), gradients, strict=True):
                velocity[name] = MOMENTUM * velocity[name] + gradient + DECAY * p
                p -= LR * velocity[name]
    return {name: (p * mask[name] if name in mask else p).detach() for name, p in w.items()}, mean, var


def test_twenty_steps_are_those_of_a_plain_loop() -> None:
    training = masked_training(normalized_network())
    assert training.mask is not None
    expected, mean, var = plain_loop(normalized_network(), training.mask, training.seed, 20)

    run(training, 20, technique="interpolated_norm")

    for name, parameter in training.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-9, atol=1e-12)
    norm: Any = training.model[1]  # type: ignore[index]
    torch.testing.assert_close((norm.running_mean, norm.running_var), (mean, var), rtol=1e-9, atol=1e-12)


def test_evaluation_has_the_scales_and_shifts_themselves() -> None:
    training, seen = masked_training(normalized_network()), []
    x, _ = batch(99)

    def evaluate(at: Any) -> None:
        if at == step(7):
            training.model.eval()
            with torch.no_grad():
                plain = normalized_network().eval()
                plain.load_state_dict(training.model.state_dict())
                seen.append((training.model(x), plain(x)))
            training.model.train()

    run(training, 8, [evaluate], technique="interpolated_norm")

    assert torch.equal(*seen[0])


def test_kept_states_have_the_scales_and_shifts_themselves() -> None:
    training, seen = masked_training(normalized_network()), []

    def keep(_: Any) -> None:
        before = {name: p.detach().clone() for name, p in training.model.named_parameters()}
        with training.hooks.evaluated():
            seen.append(all(torch.equal(p, before[name]) for name, p in training.model.named_parameters()))

    run(training, 4, [keep], technique="interpolated_norm")

    assert seen == [True] * 5


def test_a_network_without_normalization_is_refused() -> None:
    training = ToyTraining(train_desc(), network())
    with pytest.raises(UsageError, match="no normalization"):
        run(training, 1, technique="interpolated_norm")
