"""GradInit for any network: by definition in float64, and as the published code computes it."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.errors import UsageError
from tests.conftest import golden_case
from training.gradinit import GradInitStep, gradinit

SIZE = 8
"""Examples in a batch."""


def network(*, tracks: bool = True) -> nn.Sequential:
    """Return the network of the published cases, with random biases; the second batchnorm's bias is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        layers: list[tuple[str, nn.Module]] = [
            ("conv1", nn.Conv2d(3, 6, 3, padding=1, bias=False)),
            ("bn1", nn.BatchNorm2d(6, track_running_stats=tracks)),
            ("relu1", nn.ReLU()),
            ("conv2", nn.Conv2d(6, 8, 3, stride=2, padding=1)),
            ("bn2", nn.BatchNorm2d(8, track_running_stats=tracks)),
            ("relu2", nn.ReLU()),
            ("pool", nn.AdaptiveAvgPool2d(1)),
            ("flatten", nn.Flatten()),
            ("fc", nn.Linear(8, 10)),
        ]
        model = nn.Sequential(OrderedDict(layers)).double()
        nn.init.normal_(model.get_parameter("bn1.bias"), std=0.3)
        nn.init.normal_(model.get_parameter("bn1.weight"), mean=1, std=0.3)
    return model


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    drawn = torch.Generator().manual_seed(2)
    while True:
        images = torch.randn(SIZE, 3, 6, 6, generator=drawn, dtype=torch.float64)
        yield images, torch.randint(10, (SIZE,), generator=drawn)


def by_definition(gamma: float, algorithm: str, iterations: int, **options: Any) -> list[GradInitStep]:
    """Return the steps, with the scales as the variables: the loss is a function of p0 a."""
    eta, lr, least = options["eta"], options["lr"], options["min_scale"]
    net, source, steps = network(tracks=False), batches(), []
    start = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    scales = dict.fromkeys(start, 1.0)
    first: dict[str, dict[str, list[float]]] = {kind: {n: [] for n in start} for kind in ("objective", "constraint")}
    both: dict[str, list[float]] = {name: [] for name in start}

    def loss(weights: dict[str, Tensor], *parts: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = (torch.cat(each) for each in zip(*parts, strict=True))
        return F.cross_entropy(torch.func.functional_call(net, weights, (images,)), labels)

    for _ in range(iterations):
        leaves = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in scales.items()}
        weights = {name: start[name] * leaf for name, leaf in leaves.items()}
        one, two = next(source), next(source)
        gradients = torch.autograd.grad(loss(weights, one, two), list(weights.values()), create_graph=True)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        norm = flat.abs().sum() if algorithm == "adam" else torch.linalg.vector_norm(flat)
        if norm > gamma:
            kind, target = "constraint", norm
        else:
            kind, three = "objective", next(source)
            other = one if options["overlap"] else next(source)
            moved = {}
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                step = gradient.sign() if algorithm == "adam" else gradient
                step = step / norm if options["normalize_grad"] and algorithm == "sgd" else step
                moved[name] = weight - eta * step.detach()
            target = loss(moved, other, three) / eta
        slopes = torch.autograd.grad(target, list(leaves.values()))
        for name, slope in zip(leaves, slopes, strict=True):
            if not start[name].any():
                continue
            clipped = min(max(slope.item(), -options["grad_clip"]), options["grad_clip"])
            first[kind][name].append(clipped)
            both[name].append(clipped**2)
            mean = _exponential_mean(first[kind][name], 0.9) / (math.sqrt(_exponential_mean(both[name], 0.999)) + 1e-8)
            floor = least if name.endswith("weight") else 0.0
            scales[name] = max(scales[name] - lr * mean, floor)
        steps.append(GradInitStep(kind, norm.item(), target.item(), dict(scales)))
    return steps


def _exponential_mean(values: list[float], beta: float) -> float:
    """Return Adam's corrected mean: weights beta^age, divided by their sum."""
    weights = [beta**age for age in range(len(values))][::-1]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def steps_of(model: nn.Module, **options: Any) -> list[GradInitStep]:
    found: list[GradInitStep] = []
    gradinit(model, batches(), on_iteration=lambda _, step: found.append(step), **options)
    return found


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize(
    ("algorithm", "normalize", "gamma", "kinds"),
    [
        ("sgd", False, math.inf, {"objective"}),
        ("sgd", True, 0.0, {"constraint"}),
        ("sgd", True, 0.5, {"objective", "constraint"}),
        ("adam", False, math.inf, {"objective"}),
        ("adam", False, 8.0, {"objective", "constraint"}),
    ],
)
def test_scales_follow_the_definition_on_both_sides_of_gamma(
    algorithm: str, normalize: bool, gamma: float, kinds: set[str], overlap: bool
) -> None:
    options = {"eta": 0.05, "lr": 0.03, "min_scale": 0.9, "normalize_grad": normalize, "grad_clip": 0.5}
    expected = by_definition(gamma, algorithm, 10, overlap=overlap, **options)

    found = steps_of(network(), algorithm=algorithm, gamma=gamma, iterations=10, overlap=overlap, **options)

    assert {step.kind for step in expected} == kinds
    assert [step.kind for step in found] == [step.kind for step in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-9)
        assert ours.value == pytest.approx(theirs.value, rel=1e-9)
        # Batchnorm takes the bias of conv2 out: its gradient is 0 but for rounding, which Adam divides by 1e-8.
        assert ours.scales.pop("conv2.bias") == pytest.approx(1, abs=1e-6)  # type: ignore[attr-defined]
        assert ours.scales == pytest.approx({n: s for n, s in theirs.scales.items() if n != "conv2.bias"}, abs=1e-9)


@pytest.mark.parametrize("name", ["gradinit_sgd_normalized_gamma1", "gradinit_adam_gamma_inf"])
def test_scales_and_weights_are_those_of_the_published_code(name: str) -> None:
    folder = golden_case(name)
    case, inputs = json.loads((folder / "case.json").read_text()), load_file(folder / "inputs.safetensors")
    options, model = case["options"], network()
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    found: list[GradInitStep] = []

    gradinit(
        model,
        zip(inputs["x"].split(options["batch_size"]), inputs["y"].split(options["batch_size"]), strict=True),
        algorithm=options["algorithm"],
        eta=options["eta"],
        gamma=math.inf if options["gamma"] is None else options["gamma"],
        normalize_grad=options["normalize_grad"],
        lr=options["lr"],
        min_scale=options["min_scale"],
        iterations=options["iters"],
        grad_clip=options["grad_clip"],
        overlap=options["overlap"],
        on_iteration=lambda _, step: found.append(step),
    )

    assert [step.kind for step in found] == [step["kind"] for step in case["steps"]]
    for ours, theirs in zip(found, case["steps"], strict=True):
        for parameter, scale in theirs["scales"].items():
            # The gradient of conv2.bias is rounding alone (see above), so its scale is known to 1e-8 only.
            assert ours.scales[parameter] == pytest.approx(scale, abs=1e-8 if parameter == "conv2.bias" else 1e-9)
    torch.testing.assert_close(
        dict(model.state_dict()), load_file(folder / "weights_after.safetensors"), rtol=0, atol=1e-9
    )


def test_each_tensor_becomes_its_start_times_its_scale_and_nothing_else_changes() -> None:
    model = network().train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters, modes = list(model.parameters()), [module.training for module in model.modules()]

    scales = gradinit(model, batches(), iterations=6, lr=0.05)

    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(
            tensor, before[name] * scales[name] if name in scales else before[name], rtol=1e-12, atol=0
        )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.named_buffers())
    assert not model.get_parameter("bn2.bias").any()
    assert len({round(scale, 6) for scale in scales.values()}) > 4
    assert all(one is other for one, other in zip(parameters, model.parameters(), strict=True))
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in parameters)
    assert all(module.track_running_stats for module in (model[1], model[4]))


def test_the_scales_of_weights_stay_above_their_least_and_those_of_biases_above_0() -> None:
    scales = gradinit(network(), batches(), iterations=8, lr=0.4, min_scale=0.7)

    assert min(scale for name, scale in scales.items() if name.endswith("weight")) == 0.7
    assert min(scales.values()) == 0.0


def test_parameters_that_are_not_trained_keep_their_values() -> None:
    model = network()
    model.get_parameter("fc.weight").requires_grad_(False)
    before = model.get_parameter("fc.weight").clone()

    scales = gradinit(model, batches(), iterations=2)

    assert "fc.weight" not in scales
    assert torch.equal(model.get_parameter("fc.weight"), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "adamw"}, "^algorithm: 'adamw' is not a valid value; choose from sgd, adam"),
        ({"eta": 0.0}, "^eta: 0.0 is not a valid value"),
        ({"lr": -1.0}, "^lr: -1.0 is not a valid value"),
        ({"iterations": -1}, "^iterations: -1 is not a valid value"),
    ],
)
def test_arguments_that_are_not_valid_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gradinit(network(), batches(), **arguments)


def test_batches_that_end_too_early_leave_the_model_in_the_mode_it_had() -> None:
    model, some = network(), batches()

    with pytest.raises(UsageError, match="^batches: they ended before"):
        gradinit(model, [next(some) for _ in range(5)], iterations=2)

    assert all(module.training for module in model.modules())
