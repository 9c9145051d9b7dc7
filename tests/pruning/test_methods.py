"""Each method against its definition, written out plainly in float64 on a small network with every kind of layer."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foundations.random_streams import generator
from pruning.masks.mask import Mask
from pruning.prune import prune
from tests.pruning.nets import LeNet, TinyNet

SIZES = (4, 4, 1)


def problem() -> tuple[TinyNet, torch.Tensor, torch.Tensor, Mask]:
    """Return the network in float64, 9 examples of 3 classes, and a mask to start from."""
    source = generator("test")
    model = TinyNet(width=3).double()
    x = torch.randn(9, 2, 6, 6, generator=source, dtype=torch.float64)
    y = torch.tensor([0, 1, 2] * 3)
    mask = prune(model, "random", density=0.8, seed=3)
    return model, x, y, mask


def scores_of(strategy: str, **options: Any) -> dict[str, torch.Tensor]:
    model, x, y, mask = problem()
    found: list[dict[str, torch.Tensor]] = []
    prune(
        model,
        strategy,
        density=0.3,
        mask=mask,
        examples=(x, y),
        batch_size=4,
        input_shape=(2, 6, 6),
        on_iteration=lambda _number, _mask, scores: found.append(scores),
        **options,
    )
    return found[0]


def batches() -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    _, x, y, _ = problem()
    return [(a, b, len(b) / 9) for a, b in zip(x.split(SIZES), y.split(SIZES), strict=True)]


def masked(mode: str = "train") -> TinyNet:
    model, _, _, mask = problem()
    mask.apply_(model)
    return model.train(mode == "train")


def gradient(model: nn.Module, value: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    value.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_equal(mine: dict[str, torch.Tensor], definition: dict[str, torch.Tensor], tolerance: float = 1e-10) -> None:
    largest = max(definition[name].abs().max().item() for name in mine)
    assert largest > 0
    for name, score in mine.items():
        assert (score - definition[name]).abs().max().item() <= tolerance * largest, name


def total(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(parts)).sum(0)


def weighted_gradients() -> list[tuple[dict[str, torch.Tensor], float]]:
    return [(gradient(model := masked(), F.cross_entropy(model(x), y)), share) for x, y, share in batches()]


def test_magnitude() -> None:
    model = masked()
    assert_equal(scores_of("magnitude"), {name: p.detach().abs() for name, p in model.named_parameters()})


def test_snip() -> None:
    weights, parts = dict(masked().named_parameters()), weighted_gradients()
    definition = {}
    for name in scores_of("snip3"):
        gradient = total(share * grad[name] for grad, share in parts)
        definition[name] = (weights[name].detach() * gradient).abs()
    assert_equal(scores_of("snip3"), definition)


def test_snip_per_batch() -> None:
    weights, parts = dict(masked().named_parameters()), weighted_gradients()
    definition = {
        name: total(share * (weights[name].detach() * grad[name]).abs() for grad, share in parts)
        for name in scores_of("snip3")
    }
    assert_equal(scores_of("snip3", score_per_batch=True), definition)


def test_snip_in_eval_mode() -> None:
    model = masked("eval")
    _, x, y, _ = problem()
    grad = gradient(model, F.cross_entropy(model(x), y))
    definition = {name: (p.detach() * grad[name]).abs() for name, p in model.named_parameters()}
    assert_equal(scores_of("snip3", score_in_eval_mode=True), definition)


def test_taylor() -> None:
    weights, parts = dict(masked().named_parameters()), weighted_gradients()
    definition = {
        name: (weights[name].detach() * total(grad[name] for grad, _ in parts)).abs() for name in scores_of("taylor3")
    }
    assert_equal(scores_of("taylor3"), definition)


def test_force_scores_dense_weights_with_the_gradient_of_the_masked_network() -> None:
    """A second iteration shows it: the first one has pruned weights, and they have scores again."""
    model, x, y, mask = problem()
    rounds: list[tuple[Mask, dict[str, torch.Tensor]]] = []
    prune(
        model,
        "force3",
        density=0.2,
        iterations=2,
        mask=mask,
        examples=(x, y),
        on_iteration=lambda _number, found, scores: rounds.append((found, scores)),
    )
    first_mask, second_scores = rounds[0][0], rounds[1][1]
    network = copy.deepcopy(model).train()
    first_mask.apply_(network)
    grad = gradient(network, F.cross_entropy(network(x), y))
    dense = dict(model.named_parameters())
    assert_equal(second_scores, {name: (dense[name].detach() * grad[name]).abs() for name in second_scores})


def hessian_and_gradient(
    x: torch.Tensor, y: torch.Tensor, names: list[str]
) -> tuple[torch.Tensor, torch.Tensor, TinyNet]:
    """Return the whole Hessian, row by row, and the gradient of the loss on logits / 200 over the weights `names`."""
    model = masked()
    weights = [dict(model.named_parameters())[name] for name in names]
    loss = F.cross_entropy(model(x) / 200, y)
    grad = torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights, create_graph=True)])
    rows = torch.autograd.grad(grad, weights, torch.eye(len(grad), dtype=grad.dtype), is_grads_batched=True)
    return torch.cat([part.flatten(1) for part in rows], 1), grad.detach(), model


@pytest.mark.parametrize("per_batch", [False, True])
def test_grasp_and_its_absolute_form(per_batch: bool) -> None:
    mine = scores_of("grasp3", score_per_batch=per_batch)
    names = list(mine)
    parts = [(*hessian_and_gradient(x, y, names)[:2], share) for x, y, share in batches()]
    if per_batch:
        product = total(share * (hessian @ grad) for hessian, grad, share in parts)
    else:
        product = total(s * h for h, _, s in parts) @ total(s * g for _, g, s in parts)
    weights = dict(masked().named_parameters())
    sizes = [weights[name].numel() for name in names]
    definition = {
        name: -weights[name].detach() * part.view(weights[name].shape)
        for name, part in zip(names, product.split(sizes), strict=True)
    }
    assert_equal(mine, definition)
    absolute = scores_of("graspabs3", score_per_batch=per_batch)
    assert_equal(absolute, {name: score.abs() for name, score in definition.items()})


def test_grasp_of_a_single_batch_takes_the_gradient_from_the_same_pass() -> None:
    model, x, y, mask = problem()
    found: list[dict[str, torch.Tensor]] = []
    prune(
        model,
        "grasp3",
        density=0.3,
        mask=mask,
        examples=(x, y),
        on_iteration=lambda _n, _m, scores: found.append(scores),
    )
    names = list(mask)
    hessian, grad, network = hessian_and_gradient(x, y, names)
    weights = dict(network.named_parameters())
    product = (hessian @ grad).split([weights[name].numel() for name in names])
    assert_equal(
        found[0],
        {n: -weights[n].detach() * p.view(weights[n].shape) for n, p in zip(names, product, strict=True)},
    )


def test_fisher_holds_the_statistics_of_the_scoring_examples_constant() -> None:
    model = masked()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        for x, _, _ in batches():
            model(x)
    model.eval()
    _, x, y, mask = problem()
    squares = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(9):
        for name, grad in gradient(model, F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])).items():
            squares[name] += grad**2 / 9
    definition = {name: 0.5 * p.detach() ** 2 * squares[name] for name, p in model.named_parameters()}
    assert_equal(scores_of("fisher3"), {name: definition[name] for name in mask})


@pytest.mark.parametrize("eval_mode", [False, True])
@pytest.mark.parametrize("size", [1, 2, 4, None])
def test_fisher_of_any_number_of_examples_at_a_time_is_fisher_of_one_after_the_other(
    size: int | None, eval_mode: bool
) -> None:
    one_by_one = scores_of("fisher3", micro_batch_size=1, score_in_eval_mode=eval_mode)
    assert_equal(scores_of("fisher3", micro_batch_size=size, score_in_eval_mode=eval_mode), one_by_one, tolerance=1e-12)


class Branching(nn.Module):
    """A network with data-dependent control flow, which torch.func.vmap cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(x)
        return y if y.sum() > 0 else -y


def test_fisher_of_a_network_that_cannot_be_vectorized_takes_one_example_at_a_time() -> None:
    model, examples = Branching(), (torch.randn(6, 4), torch.arange(6) % 3)
    mask = prune(model, "fisher2", density=0.5, examples=examples)
    assert mask.kept == 6
    assert mask == prune(model, "fisher2", density=0.5, examples=examples, micro_batch_size=1)


def forward_by_hand(p: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """TinyNet in eval mode, from a dictionary of its parameters and buffers."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        scale = p[f"{name}.weight"] / (p[f"{name}.running_var"] + 1e-5).sqrt()
        return (x - p[f"{name}.running_mean"][:, None, None]) * scale[:, None, None] + p[f"{name}.bias"][:, None, None]

    def block(x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        out = norm(F.conv2d(x, p[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1").relu()
        out = norm(F.conv2d(out, p[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
        if f"{name}.shortcut.0.weight" in p:
            x = norm(F.conv2d(x, p[f"{name}.shortcut.0.weight"], stride=stride), f"{name}.shortcut.1")
        return (out + x).relu()

    x = norm(F.conv2d(x, p["conv.weight"], p["conv.bias"], padding=1), "bn").relu()
    x = block(block(x, "block1", 1), "block2", 2)
    return x.mean((2, 3)) @ p["fc.weight"].T + p["fc.bias"]


@pytest.mark.parametrize("means", ["absolute", "stored", "added"])
@pytest.mark.parametrize(("strategy", "as_published"), [("synflow", False), ("synflowl2", False), ("synflowl2", True)])
def test_synflow_and_synflowl2(strategy: str, means: str, as_published: bool) -> None:
    squared = strategy == "synflowl2"
    state = {name: tensor.clone() for name, tensor in masked("eval").state_dict().items()}
    parameters = {name for name, _ in masked().named_parameters()}
    for name, tensor in state.items():
        if name in parameters:
            state[name] = (tensor**2 if squared else tensor.abs()).requires_grad_()
        elif name.endswith("running_mean"):
            state[name] = {"absolute": tensor.abs(), "stored": tensor, "added": -tensor.abs()}[means]
    flow = forward_by_hand(state, torch.ones(1, 2, 6, 6, dtype=torch.float64)).sum()
    flow.backward()
    options: dict[str, Any] = {"synflow_means": means} | ({"synflowl2_as_published": as_published} if squared else {})
    mine = scores_of(strategy, **options)
    definition = {}
    for name in mine:
        weight = state[name].detach()
        definition[name] = (weight.sqrt() if as_published else weight) * state[name].grad
    assert_equal(mine, definition)


def test_synflow_is_the_sum_over_paths_through_each_weight() -> None:
    model = LeNet([5, 4], 3, 6).double()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    found: list[dict[str, torch.Tensor]] = []
    prune(model, "synflow", density=0.5, input_shape=(6,), on_iteration=lambda _n, _m, scores: found.append(scores))
    first, second, third = (
        dict(model.named_parameters())[name].detach().abs().tolist()
        for name in ("fc_layers.0.weight", "fc_layers.1.weight", "fc.weight")
    )
    for j in range(4):
        for i in range(5):
            into = sum(first[i][h] for h in range(6))
            out_of = sum(third[k][j] for k in range(3))
            assert math.isclose(
                found[0]["fc_layers.1.weight"][j, i].item(), into * second[j][i] * out_of, rel_tol=1e-10
            )
    totals = {name: score.sum().item() for name, score in found[0].items()}
    assert all(math.isclose(total, totals["fc.weight"], rel_tol=1e-10) for total in totals.values())


def test_synflow_added_means_leave_no_unit_dead_at_any_step_of_training() -> None:
    model = TinyNet()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.fill_(100.0)
    found: list[dict[str, torch.Tensor]] = []
    prune(
        model,
        "synflow",
        density=0.5,
        input_shape=(2, 6, 6),
        synflow_means="added",
        on_iteration=lambda _n, _m, scores: found.append(scores),
    )
    assert all(bool((score > 0).all()) for score in found[0].values())


@pytest.mark.parametrize("strategy", ["synflow", "synflowl2"])
def test_synflow_stays_finite_where_float32_would_not(strategy: str) -> None:
    layers = [nn.Linear(64, 64) for _ in range(40)]
    for layer in layers:
        nn.init.constant_(layer.weight, 2.0)
    found: list[dict[str, torch.Tensor]] = []
    mask = prune(
        nn.Sequential(*layers),
        strategy,
        density=0.1,
        iterations=3,
        input_shape=(64,),
        on_iteration=lambda _n, _m, scores: found.append(scores),
    )
    assert mask.kept == round(0.1 * mask.total)
    assert all(bool(score.isfinite().all()) for scores in found for score in scores.values())


class Scaled(nn.Module):
    """A linear layer that multiplies its output by a buffer."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        nn.init.ones_(self.fc.weight)
        nn.init.ones_(self.fc.bias)
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.fc(x) * self.scale)


@pytest.mark.parametrize("strategy", ["synflow", "synflowl2"])
def test_synflow_makes_buffers_absolute_that_are_not_means(strategy: str) -> None:
    found: list[dict[str, torch.Tensor]] = []
    prune(Scaled(-2.0), strategy, keep=6, input_shape=(4,), on_iteration=lambda _n, _m, scores: found.append(scores))
    assert torch.equal(found[0]["fc.weight"], torch.full((3, 4), 2.0, dtype=torch.float64))
