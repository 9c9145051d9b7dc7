"""SRigL against its definition in a plain loop, with neurons that go, and the masks that it leaves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from tests.training.small_runs import context, oneshot_desc, run_of, train_desc
from training.jobs.compute import complete
from training.sparse import SparseTraining, sparse

CLOCK: dict[str, Any] = {"mask_update_frequency": 2, "mask_update_begin": 2, "mask_update_end": 16}


class Small(nn.Module):
    """Two convolutions and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 8, 3, padding=1)
        self.hidden, self.last = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.second(torch.tanh(self.first(x)))).mean((2, 3))
        return self.last(torch.tanh(self.hidden(x)))


def batch(number: int) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(number)
    return torch.randn(6, 2, 5, 5, generator=drawn, dtype=torch.float64), torch.randint(3, (6,), generator=drawn)


def trained(
    steps: int = 20,
    *,
    model: nn.Module | None = None,
    seen: Callable[[SparseTraining], None] | None = None,
    **options: Any,
) -> tuple[nn.Module, SparseTraining]:
    torch.manual_seed(0)
    model = (Small() if model is None else model).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9, weight_decay=0.01)
    training = sparse(optimizer, model, "srigl", end=steps, **{**CLOCK, **options})
    for number in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(batch(number)[0]), batch(number)[1]).backward()
        optimizer.step()
        if seen is not None:
            seen(training)
    return model, training


def updated(
    weight: Tensor, gradient: Tensor, kept: Tensor, total: int, share: float, gamma: float | None, excess: str
) -> Tensor:
    """Return the mask of a layer after an update, by loops over single weights. gamma: None without ablation."""
    rows, size = weight.shape[0], weight[0].numel()
    w = weight.abs().flatten().tolist()
    g, m = gradient.abs().flatten().tolist(), kept.flatten().tolist()
    n = sum(m)
    p = int(n * share)
    q = n - p
    nonzero = sum(value != 0 for value in w)
    if nonzero < q:
        q, p = nonzero, n - nonzero
    everything = range(rows * size)
    largest = sorted(everything, key=lambda i: -w[i])[:q]
    salient = {*largest, *sorted(everything, key=lambda i: -g[i])[:p]}
    active = list(range(rows))
    if gamma is not None:
        counts = [sum(i // size == row for i in salient) for row in range(rows)]
        least = max(1, int(gamma * (total // rows)))
        least = min(least, sorted(counts, reverse=True)[total // size])
        active = [row for row in range(rows) if counts[row] >= least]
    k = total // len(active)
    stays = sorted(everything, key=lambda i: (i // size not in active, -w[i]))[:q]
    found = torch.zeros(rows * size, dtype=torch.bool)
    for row in active:
        own = [i for i in sorted(stays) if i // size == row]
        if excess == "magnitude":
            own = sorted(own, key=lambda i: -w[i])
        own = own[:k]
        rest = sorted((i for i in range(row * size, (row + 1) * size) if i not in own), key=lambda i: -g[i])
        found[own + rest[: k - len(own)]] = True
    return found.view(weight.shape)


@pytest.mark.parametrize(("gamma", "excess"), [(None, "index"), (0.5, "index"), (0.7, "magnitude")])
def test_srigl_is_that_of_a_plain_loop(gamma: float | None, excess: str) -> None:
    """Lasby et al. 2024, section 3, with the counts of the published code."""
    torch.manual_seed(0)
    model = Small().double()
    names = [name for name, p in model.named_parameters() if p.dim() > 1]
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    totals = {"first.weight": 40, "second.weight": 120, "hidden.weight": 40, "last.weight": 20}
    masks = {}
    for name in names:
        count = torch.arange(weights[name].numel()).view(weights[name].shape[0], -1)
        masks[name] = (count % count.shape[1] < totals[name] // len(count)).view(weights[name].shape)
        weights[name] = weights[name] * masks[name]
    start, fewest = Mask(masks), [math.inf]
    momenta = {name: torch.zeros_like(p) for name, p in weights.items()}
    for number in range(20):
        leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
        x, y = batch(number)
        loss = F.cross_entropy(torch.func.functional_call(model, leaves, (x,)), y)
        gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        if 2 <= number <= 16 and number % 2 == 0:
            share = 0.6 / 2 * (1 + math.cos(math.pi * min(1, number / 14)))
            for name in names:
                own = None if name == "last.weight" else gamma
                state = weights[name], gradients[name], masks[name]
                masks[name] = updated(*state, totals[name], share, own, excess)
                weights[name], momenta[name] = weights[name] * masks[name], momenta[name] * masks[name]
            active = [int(masks[name].flatten(1).any(1).sum()) for name in names]
            fewest.append(sum(active))
            continue
        for name, gradient in gradients.items():
            momenta[name] = 0.9 * momenta[name] + gradient + 0.01 * weights[name]
            weights[name] = (weights[name] - 0.3 * momenta[name]) * masks.get(name, torch.ones(()))
            momenta[name] = momenta[name] * masks.get(name, torch.ones(()))

    options: dict[str, Any] = {
        "srigl_no_ablation": "all" if gamma is None else "last_linear",
        "srigl_gamma": gamma or 0.0,
        "srigl_excess": excess,
    }
    sparsities = ",".join(f"{n}={1 - t / weights[n].numel() - 1e-9}" for n, t in totals.items())
    trained_model, training = trained(mask=start, drop_fraction=0.6, srigl_sparsities=sparsities, **options)

    assert training.mask == Mask(masks)
    assert training.mask != start
    assert (min(fewest) < 6 + 8 + 12 + 3) == (gamma is not None)
    for name, parameter in trained_model.named_parameters():
        torch.testing.assert_close(parameter.detach(), weights[name], atol=1e-10, rtol=0)


@pytest.mark.parametrize("ablation", [True, False])
@pytest.mark.parametrize("allocation", ["erk", "uniform"])
def test_every_neuron_that_stays_has_as_many_weights(ablation: bool, allocation: str) -> None:
    sizes = {"first.weight": 6, "second.weight": 8, "hidden.weight": 12, "last.weight": 3}
    totals: dict[str, int] = {}

    def seen(training: SparseTraining) -> None:
        assert training.mask is not None
        for name, kept in training.mask.items():
            rows = kept.flatten(1).sum(1)
            used = rows[rows > 0]
            total = int(training._hooks.by_name["srigl"].kept("totals")[name])
            assert set(used.tolist()) == {total // len(used)}
            assert len(used) == sizes[name] or (ablation and name != "last.weight")
            totals[name] = total

    options: dict[str, Any] = {"srigl_no_ablation": "last_linear" if ablation else "all", "srigl_gamma": 0.6}
    model, training = trained(density=0.3, start_allocation=allocation, seen=seen, **options)

    size = sum(kept.numel() for kept in (training.mask or {}).values())
    assert sum(totals.values()) == round(0.3 * size)
    went = training.metrics()["srigl_ablated_neurons"]
    assert (went > 0) == ablation
    for name, kept in (training.mask or {}).items():
        assert not model.get_parameter(name)[~kept].any()


class Others(nn.Module):
    """A depthwise and a transposed convolution, attention, and an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.depthwise = nn.ConvTranspose2d(2, 4, 2), nn.Conv2d(4, 4, 3, groups=4)
        self.layer = nn.TransformerEncoderLayer(4, 1, 8, dropout=0.0, batch_first=True)
        self.lstm, self.last = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(torch.tanh(self.up(x))).flatten(2).mT
        return self.last(self.lstm(self.layer(x))[0][:, 0])


def test_other_layers_have_neurons_too() -> None:
    torch.manual_seed(0)
    start = Mask.ones(Others(), ("all", "LSTM"))
    _, training = trained(
        model=Others(), mask=start.with_tensors({**start}), srigl_sparsities="lstm=0.5,up=0.5,layer.*=0.5"
    )

    assert training.mask is not None
    for name, kept in training.mask.items():
        rows = (kept.transpose(0, 1) if name == "up.weight" else kept).flatten(1).sum(1)
        assert len(Counter(rows[rows > 0].tolist())) == 1, name
        assert kept.all() == (name in ("depthwise.weight", "last.weight"))


def test_a_job_keeps_the_last_mask_and_says_what_was_asked_for(tmp_path: Path, digits: Path) -> None:
    desc = train_desc(
        technique="srigl",
        start_density=0.25,
        mask_update_frequency="3it",
        model_name="digits_lenet_16",
        srigl_gamma=0.9,
    )
    branch = oneshot_desc("snip1", density=0.4, technique="srigl", mask_update_frequency="3it")
    place = context(tmp_path, digits)

    complete(desc, place)
    complete(branch, place)

    report, mask = run_of(desc, place).sparsity(), Mask.of_run(run_of(desc, place))
    assert report is not None
    assert report["requested"]["density"] == pytest.approx(0.25, abs=1e-3)
    assert report["achieved"]["kept"] == mask.kept < 0.25 * mask.total
    for name, weight in run_of(desc, place).load_state(desc.end).items():
        if name in mask:
            assert not weight[~mask[name]].any()
            rows = mask[name].sum(1)
            assert len(Counter(rows[rows > 0].tolist())) == 1
    rows = Mask.of_run(run_of(branch, place))["fc_layers.0.weight"].sum(1)
    assert len(Counter(rows[rows > 0].tolist())) == 1


def test_mistakes_are_named() -> None:
    mistakes: tuple[tuple[dict[str, Any], str], ...] = (
        (
            {"density": 0.05, "start_allocation": "uniform"},
            "^start_density: first.weight has 5 weights for 6 neurons",
        ),
        ({"density": 0.3, "srigl_sparsities": "hidden"}, "^srigl_sparsities: 'hidden' is not"),
        ({"density": 0.3, "srigl_sparsities": "hidden=1"}, "^srigl_sparsities: 'hidden=1' is not"),
        ({"density": 0.3, "srigl_sparsities": "nothing=0.5"}, "^srigl_sparsities: 'nothing' is not one of first"),
        ({"density": 0.3, "srigl_no_ablation": "nothing"}, "^srigl_no_ablation: 'nothing' is not one of first"),
        ({}, "^density: srigl needs a mask"),
    )
    for flags, words in mistakes:
        with pytest.raises(UsageError, match=words):
            trained(**flags)
