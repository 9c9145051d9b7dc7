"""Gradients of small weights, and of negative ones as in ToST's published lottery."""

from __future__ import annotations

import torch

from tests.training.techniques.toy_training import run, toy_training


def test_only_weights_that_are_zero_get_no_gradient_by_default() -> None:
    for freezes in (False, True):
        training = toy_training(density=None, momentum=0.0, weight_decay=0.0)
        weight = training.model.get_parameter("0.weight")
        with torch.no_grad():
            weight[0] = 0.0
        before = weight.detach().clone()

        run(training, 1, technique="freeze_small" if freezes else "smoothing")

        moved = weight.detach() != before
        assert bool(moved[1:].all())
        assert bool(moved[0].any()) is not freezes


def test_no_negative_weight_gets_a_gradient_where_asked_for_and_biases_do() -> None:
    training = toy_training(density=None, momentum=0.0, weight_decay=0.0)
    before = {name: tensor.detach().clone() for name, tensor in training.model.named_parameters()}

    run(training, 1, technique="freeze_small", freeze_negative=True)

    for name, parameter in training.model.named_parameters():
        moved = parameter.detach() != before[name]
        is_free = before[name] >= 1e-6 if name.endswith("weight") else torch.ones_like(moved)
        assert torch.equal(moved, is_free), name


def test_weight_decay_still_moves_negative_weights() -> None:
    training = toy_training(density=None, momentum=0.0, weight_decay=0.5)
    weight = training.model.get_parameter("0.weight")
    before = weight.detach().clone()

    run(training, 1, technique="freeze_small", freeze_negative=True)

    negative = before < 0
    assert torch.allclose(weight.detach()[negative], before[negative] * (1 - training.desc.training.lr * 0.5))
