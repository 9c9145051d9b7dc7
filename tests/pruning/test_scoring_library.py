"""`Scoring` for methods with further forward passes: losses and derivatives at given weights, and bounds on memory."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import pruning.scoring.scoring
from foundations.errors import UsageError
from foundations.plugins.plugins import load_plugins
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.scoring.inputs import ScoringInputs
from pruning.scoring.scoring import Scoring, open_scoring
from tests.conftest import REPOSITORY


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x.flatten(2).transpose(1, 2))[0].mean(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Linear(48, 48), nn.Linear(48, 48), nn.Linear(48, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.second(torch.tanh(self.first(x.flatten(1))))))


def normalized() -> nn.Module:
    def block(inputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Softplus())

    class Block(nn.Module):
        def __init__(self, inputs: int) -> None:
            super().__init__()
            self.inner = block(inputs)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)

    return nn.Sequential(Block(3), Block(3), nn.Flatten(), nn.Linear(48, 3))


def attention() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Flatten(2), layer, nn.Flatten(), nn.Linear(48, 3))


NETWORKS = {"normalized": normalized, "attention": attention, "recurrent": Recurrent, "tied": Tied}


def examples() -> tuple[Tensor, Tensor]:
    x = torch.randn(6, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(6) % 3


def built(name: str) -> nn.Module:
    torch.manual_seed(1)
    return NETWORKS[name]().double()


@contextlib.contextmanager
def scoring_of(model: nn.Module, strategy: str = "snip2", **inputs: Any) -> Iterator[Scoring]:
    layers = "all,LSTM" if isinstance(model, Recurrent) else "all"
    hparams = PruningHparams.of({"strategy": strategy, "prunable_layers": layers, "score_batch_size": 3})
    found = ScoringInputs(seed=0, examples=examples(), **inputs)
    with open_scoring(model, hparams, Mask.to_prune(model, hparams), found) as scoring:
        yield scoring


def moved(weights: Any) -> dict[str, Tensor]:
    return {name: (weight + 0.1 * torch.cos(weight)).detach() for name, weight in weights.items()}


def reference(scoring: Scoring, weights: Any, rows: slice) -> Tensor:
    x, y = examples()
    return F.cross_entropy(functional_call(scoring.network, dict(weights), (x[rows],)), y[rows])


def assert_close(found: Any, expected: Any) -> None:
    assert list(found) == list(expected)
    for name, part in expected.items():
        torch.testing.assert_close(found[name], part, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_losses_and_gradients_are_taken_at_the_given_weights(name: str) -> None:
    with scoring_of(built(name)) as scoring:
        others = {key: value for key, value in scoring.network.named_parameters() if value.dim() == 1}
        leaves = {key: value.requires_grad_() for key, value in moved({**scoring.weights, **others}).items()}
        losses = [reference(scoring, leaves, slice(0, 3)), reference(scoring, leaves, slice(3, 6))]
        expected = dict(
            zip(leaves, torch.autograd.grad((losses[0] + losses[1]) / 2, list(leaves.values())), strict=True)
        )

        assert_close(scoring.gradient(weights=leaves), expected)
        batches = scoring.next_pass()
        shares = scoring.parts(batches)
        assert sum(share for _, share in shares) == pytest.approx(1)
        total = sum(scoring.loss_of(part, leaves) * share for part, share in shares)
        assert isinstance(total, Tensor)
        torch.testing.assert_close(total, (losses[0] + losses[1]) / 2)
        assert float(total.detach()) != pytest.approx(float(scoring.loss_of(batches[0]).detach()), rel=1e-6)
        assert_close(scoring.gradient_of(total, leaves), expected)


@pytest.mark.parametrize("bound", [None, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_gradient_goes_through_a_step_whose_weights_are_no_parameters(
    name: str, bound: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning.scoring.scoring, "MOST_ACTIVATIONS", bound or 1 << 32)
    with scoring_of(built(name)) as scoring:
        masks = {key: torch.ones_like(weight, requires_grad=True) for key, weight in scoring.weights.items()}
        weights = {key: weight.detach() * masks[key] for key, weight in scoring.weights.items()}
        first, second = scoring.next_pass()
        loss = scoring.loss_of(first, weights, create_graph=True)
        step = scoring.gradient_of(loss, weights, create_graph=True)
        after = {key: weight - 0.5 * step[key] for key, weight in weights.items()}
        found = scoring.gradient_of(scoring.loss_of(second, after), masks)

    with scoring_of(built(name)) as plain:

        def loss_after(change: float) -> float:
            torch.manual_seed(2)
            start = {
                key: weight.detach() * (1 + change * torch.randn_like(weight)) for key, weight in plain.weights.items()
            }
            leaves = {key: weight.requires_grad_() for key, weight in start.items()}
            gradient = plain.gradient_of(plain.loss_of(plain.next_pass()[0], leaves), leaves)
            there = {key: leaves[key] - 0.5 * gradient[key] for key in leaves}
            return float(reference(plain, there, slice(3, 6)).detach())

        slope = (loss_after(1e-4) - loss_after(-1e-4)) / 2e-4
        torch.manual_seed(2)
        along = sum(float((found[key] * torch.randn_like(weight)).sum()) for key, weight in plain.weights.items())
    assert along == pytest.approx(slope, rel=1e-5)


def test_recomputed_blocks_have_the_weights_of_their_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    with scoring_of(built("normalized")) as scoring:
        expected = scoring.gradient(weights=moved(scoring.weights))
        product = scoring.hessian_product()
    monkeypatch.setattr(pruning.scoring.scoring, "MOST_ACTIVATIONS", 1)
    with scoring_of(built("normalized")) as scoring:
        found = scoring.gradient(weights=moved(scoring.weights))
        assert any("forward" in vars(module) for module in scoring.network.modules())
        assert_close(found, expected)
        assert_close(scoring.hessian_product(), product)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_product_with_the_hessian_is_that_of_the_mean_loss(name: str) -> None:
    with scoring_of(built(name)) as scoring:
        torch.manual_seed(3)
        vector = {key: torch.randn_like(weight) for key, weight in scoring.weights.items()}
        with sdpa_kernel(SDPBackend.MATH):
            loss = (reference(scoring, {}, slice(0, 3)) + reference(scoring, {}, slice(3, 6))) / 2
        gradient = scoring.gradient_of(loss, create_graph=True)
        expected = scoring.gradient_of(sum((gradient[key] * vector[key]).sum() for key in vector))  # type: ignore[arg-type]

        assert_close(scoring.hessian_product(vector), expected)
        assert_close(scoring.hessian_product(scoring.gradient()), scoring.hessian_product())


def test_the_memory_of_a_computation_bounds_the_examples_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with scoring_of(built("tied")) as scoring:
        assert scoring.examples_at_once() is None
        one = scoring._bytes_of_example
        monkeypatch.setattr(pruning.scoring.scoring, "MOST_ACTIVATIONS", 2 * one)
        assert (scoring.examples_at_once(), scoring.examples_at_once(memory=2)) == (2, 1)
        assert [len(part) for part, _ in scoring.parts(memory=1)] == [2, 1, 2, 1]
        assert [share for _, share in scoring.parts(memory=5)] == [pytest.approx(1 / 6)] * 6
    with scoring_of(built("tied"), micro_batch_size=2) as scoring:
        assert scoring.examples_at_once(memory=7) == 2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"frist.weight": torch.ones(48, 48)}, "Did you mean 'first.weight'"),
        ({"first.weight": torch.ones(2, 2)}, r"'first.weight' has the shape \(2, 2\); it must be \(48, 48\)"),
    ],
)
def test_weights_that_the_network_does_not_have_are_refused(weights: dict[str, Tensor], message: str) -> None:
    with scoring_of(built("tied")) as scoring, pytest.raises(UsageError, match=message):
        scoring.loss_of(scoring.next_pass()[0], weights)


def test_batchnorm_can_have_the_statistics_of_inputs_of_ones_own() -> None:
    with scoring_of(built("normalized")) as scoring:
        inputs, weights = torch.rand(5, 3, 4, 4, dtype=torch.float64), moved(scoring.weights)
        scoring.calibrate_batchnorm([inputs], weights)
        norm = scoring.network.get_submodule("0.inner.1")
        conv = F.conv2d(inputs, weights["0.inner.0.weight"], scoring.network.get_parameter("0.inner.0.bias"), padding=1)
        torch.testing.assert_close(norm.running_mean, conv.mean((0, 2, 3)))
        torch.testing.assert_close(norm.running_var, conv.var((0, 2, 3)))
        assert not norm.training


def test_a_method_with_a_second_forward_pass_is_one_file_of_public_names() -> None:
    path = REPOSITORY / "examples/my_sharp_snip.py"
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    assert {node.module for node in imports} == {"__future__", "dataclasses", "typing", "open_prune"}
    load_plugins([str(path)])
    model = built("tied")
    found: list[dict[str, Tensor]] = []

    mask = prune(
        model,
        "sharp_snip2",
        density=0.3,
        examples=examples(),
        batch_size=3,
        sharp_radius=0.7,
        on_iteration=lambda _n, _mask, scores: found.append(scores),
    )

    x, y = examples()
    weights = {name: model.get_parameter(name).detach() for name in mask}

    def gradient(at: dict[str, Tensor]) -> dict[str, Tensor]:
        leaves = {name: weight.clone().requires_grad_() for name, weight in at.items()}
        loss = F.cross_entropy(functional_call(model, leaves, (x,)), y)
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    here = gradient(weights)
    norm = sum(float((weights[name] * here[name]).square().sum()) for name in weights) ** 0.5
    there = gradient({name: weight + 0.7 * weight**2 * here[name] / norm for name, weight in weights.items()})
    assert_close(found[0], {name: (weight * there[name]).abs() for name, weight in weights.items()})
    assert mask.kept == round(0.3 * mask.total)
