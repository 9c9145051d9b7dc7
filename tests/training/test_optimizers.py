"""The optimizers against their definitions, in plain float64 arithmetic."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from foundations.errors import DamagedError
from pruning.masks.mask import Mask
from training.hparams import TrainingHparams
from training.loop.optimizers import load_optimizer_tensors, make_optimizer, optimizer_tensors
from training.loop.weight_decay import undecayed_parameters

STEPS = 6
ALL = [
    TrainingHparams(optimizer_name="sgd", lr=0.1),
    TrainingHparams(optimizer_name="sgd", lr=0.1, momentum=0.9, weight_decay=0.05),
    TrainingHparams(optimizer_name="sgd", lr=0.1, nesterov_momentum=0.9, weight_decay=0.05),
    TrainingHparams(optimizer_name="adam", lr=0.1, weight_decay=0.05),
    TrainingHparams(optimizer_name="adamw", lr=0.1, weight_decay=0.05),
    TrainingHparams(optimizer_name="rmsprop", lr=0.1, weight_decay=0.05),
    TrainingHparams(optimizer_name="rmsprop", lr=0.1, momentum=0.5),
    TrainingHparams(
        optimizer_name="adamw", lr=0.1, weight_decay=0.05, adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-3
    ),
    TrainingHparams(optimizer_name="adam", lr=0.1, adam_beta1=0.0, adam_beta2=0.5),
]
NAMES = [
    "sgd",
    "momentum",
    "nesterov",
    "adam",
    "adamw",
    "rmsprop",
    "rmsprop with momentum",
    "adamw with other constants",
    "adam with other constants",
]


def by_definition(hparams, weight, gradients):
    """Return the weight after a step for each gradient: Sutskever et al. 2013 as PyTorch has it; Kingma and Ba 2015;
    Loshchilov and Hutter 2019; Tieleman and Hinton 2012, with the root before the 1e-8.
    """
    lr, decay = hparams.lr, hparams.weight_decay
    velocity = first = second = 0.0
    for t, gradient in enumerate(gradients, 1):
        if hparams.optimizer_name == "adamw":
            weight -= lr * decay * weight
        else:
            gradient = gradient + decay * weight
        if hparams.optimizer_name == "sgd":
            mu = hparams.nesterov_momentum or hparams.momentum
            velocity = mu * velocity + gradient
            weight -= lr * (gradient + mu * velocity if hparams.nesterov_momentum else velocity)
        elif hparams.optimizer_name == "rmsprop":
            second = 0.99 * second + 0.01 * gradient**2
            velocity = hparams.momentum * velocity + gradient / (math.sqrt(second) + 1e-8)
            weight -= lr * velocity
        else:
            beta1, beta2, epsilon = hparams.adam_beta1, hparams.adam_beta2, hparams.adam_epsilon
            first = beta1 * first + (1 - beta1) * gradient
            second = beta2 * second + (1 - beta2) * gradient**2
            weight -= lr * (first / (1 - beta1**t)) / (math.sqrt(second / (1 - beta2**t)) + epsilon)
    return weight


@pytest.mark.parametrize("hparams", ALL, ids=NAMES)
@settings(max_examples=25, deadline=None)
@given(
    weight=st.floats(-2, 2),
    gradients=st.lists(st.floats(-2, 2).filter(lambda g: abs(g) > 1e-3), min_size=1, max_size=6),
)
def test_a_step_is_the_optimizers_definition(hparams, weight, gradients):
    parameter = nn.Parameter(torch.tensor([weight], dtype=torch.float32))
    optimizer = make_optimizer(hparams, [parameter])
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient])
        optimizer.step()

    assert parameter.item() == pytest.approx(by_definition(hparams, weight, gradients), rel=1e-4, abs=1e-5)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


def step(model, optimizer, seed):
    images = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(images).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("hparams", ALL, ids=NAMES)
def test_pruned_weights_and_the_optimizers_state_for_them_are_zero_after_every_step(hparams):
    model = network()
    optimizer = make_optimizer(hparams, model.parameters())
    bits = {name: torch.rand(w.shape) < 0.3 for name, w in model.named_parameters() if w.dim() > 1}
    Mask(bits).attach(optimizer, model)
    weights = dict(model.named_parameters())
    for seed in range(STEPS):
        step(model, optimizer, seed)
        for name, kept in bits.items():
            state = [value for value in optimizer.state[weights[name]].values() if torch.is_tensor(value)]
            for tensor in (weights[name], *(value for value in state if value.shape == kept.shape)):
                assert not tensor[~kept].any()
            assert weights[name][kept].all()


@pytest.mark.parametrize("hparams", ALL, ids=NAMES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_an_optimizer_goes_on_from_its_tensors_to_the_same_bits(hparams, memory_format):
    model = network().to(memory_format=memory_format)
    optimizer = make_optimizer(hparams, model.parameters())
    for seed in range(3):
        step(model, optimizer, seed)
    other = network().to(memory_format=memory_format)
    other.load_state_dict(model.state_dict())
    resumed = make_optimizer(hparams, other.parameters())
    kept = {name: tensor.contiguous().clone() for name, tensor in optimizer_tensors(optimizer).items()}

    load_optimizer_tensors(resumed, kept)
    for seed in range(3, 6):
        step(model, optimizer, seed)
        step(other, resumed, seed)

    for (name, one), (_, two) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(one, two), name
    mine, theirs = optimizer_tensors(optimizer), optimizer_tensors(resumed)
    assert {name: tensor.stride() for name, tensor in mine.items()} == {n: t.stride() for n, t in theirs.items()}
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_frozen_parameters_are_left_to_themselves():
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = make_optimizer(TrainingHparams(lr=0.1, weight_decay=0.5), model.parameters())

    step(model, optimizer, 0)

    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("other", [nn.Linear(2, 2, bias=False), nn.Linear(2, 3)], ids=["fewer", "other shapes"])
def test_the_tensors_of_another_network_are_refused(other):
    model = nn.Linear(2, 2)
    optimizer = make_optimizer(ALL[3], model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()

    with pytest.raises(DamagedError, match="of another network"):
        load_optimizer_tensors(make_optimizer(ALL[3], other.parameters()), optimizer_tensors(optimizer))


@pytest.mark.parametrize("hparams", ALL[1:], ids=NAMES[1:])
def test_batchnorm_can_be_exempt_from_weight_decay(hparams):
    decayed, spared, plain = network(), network(), network()
    without = dataclasses.replace(hparams, weight_decay=0.0)
    exempt = dataclasses.replace(hparams, no_batchnorm_decay=True)
    for model, how in ((decayed, hparams), (spared, exempt), (plain, without)):
        step(model, make_optimizer(how, model.parameters(), undecayed_parameters(model, how)), 0)

    for name, parameter in spared.named_parameters():
        expected = plain if name.startswith("1.") else decayed
        assert torch.allclose(parameter, expected.get_parameter(name), rtol=1e-5), name
    if hparams.optimizer_name not in ("rmsprop", "adam"):  # their first step has the same length for any gradient
        assert not torch.equal(decayed[1].weight, plain[1].weight)


class Kinds(nn.Module):
    """A network with a parameter of each kind."""

    def __init__(self):
        super().__init__()
        self.tokens, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
        self.head.weight = self.tokens.weight
        self.pos_embed, self.cls_token = nn.Parameter(torch.zeros(1, 3, 4)), nn.Parameter(torch.zeros(1, 1, 4))
        self.attention, self.gru = nn.MultiheadAttention(4, 2), nn.GRU(4, 4)
        self.layer_norm, self.rms, self.group = nn.LayerNorm(4), nn.RMSNorm(4), nn.GroupNorm(2, 4)
        self.batch, self.conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)


NORMS = {"layer_norm.weight", "layer_norm.bias", "rms.weight", "group.weight", "group.bias", "batch.weight"} | {
    "batch.bias"
}
BIASES = {"attention.in_proj_bias", "attention.out_proj.bias", "gru.bias_ih_l0", "gru.bias_hh_l0", "conv.bias"} | {
    name for name in NORMS if name.endswith("bias")
}
EMBEDDINGS = {"tokens.weight", "pos_embed", "cls_token"}


@pytest.mark.parametrize(
    ("no_decay", "expected"),
    [
        ("norms", NORMS),
        ("biases", BIASES),
        ("embeddings", EMBEDDINGS),
        ("biases, norms,embeddings", NORMS | BIASES | EMBEDDINGS),
        (None, set()),
    ],
)
def test_kinds_of_parameters_are_exempt_from_weight_decay(no_decay, expected):
    model, hparams = Kinds(), TrainingHparams(weight_decay=0.1, no_decay=no_decay).simplified()
    exempt = undecayed_parameters(model, hparams)
    optimizer = make_optimizer(hparams, model.parameters(), exempt)

    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}

    assert {name for name, p in model.named_parameters() if not decays[id(p)]} == expected
    assert len(decays) == len(list(model.parameters()))


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_first_step_that_a_scaler_skips_leaves_no_state(name: str) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = make_optimizer(TrainingHparams(optimizer_name=name, momentum=0.9 * (name == "sgd")), [weight])
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.zeros(()))
    weight.grad = torch.full((3,), math.inf)

    scaler.step(optimizer)

    assert not optimizer.state
    assert torch.equal(weight.detach(), torch.ones(3))
