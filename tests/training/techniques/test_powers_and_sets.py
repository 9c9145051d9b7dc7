"""Powerpropagation and Top-KAST: against plain loops in float64, and as jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from tests.training.small_runs import context, run_of, train_desc
from tests.training.techniques.networks import NETWORKS
from tests.training.techniques.toy_training import ToyTraining, batch, run, step, toy_training
from training.hparams import TechniquesHparams
from training.job import initialized_model
from training.jobs.compute import complete
from training.sparse import sparse

STEPS = 20
D, M, N = 0.25, 0.3, 4


def begun(**flags: Any) -> ToyTraining:
    return toy_training(density=None, training_steps=f"{STEPS}it", **flags)


class Loop:
    """SGD with momentum on a network, written out; subclasses say how weights are used and how gradients change."""

    def __init__(self) -> None:
        self.start = begun()
        self.own = self.start.desc.training
        self.weights = {name: p.detach().clone() for name, p in self.start.model.named_parameters()}
        self.matrices = [name for name, p in self.weights.items() if p.dim() > 1]
        self.momenta = {name: torch.zeros_like(p) for name, p in self.weights.items()}

    def gradients(self, t: int, used: dict[str, Tensor]) -> dict[str, Tensor]:
        x, y = batch(t)
        leaves = {name: w.clone().requires_grad_() for name, w in used.items()}
        loss = F.cross_entropy(torch.func.functional_call(self.start.model, leaves, (x,)), y)
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    def move(self, name: str, gradient: Tensor) -> Tensor:
        self.momenta[name] = self.own.momentum * self.momenta[name] + gradient
        return self.weights[name] - self.own.lr * self.momenta[name]


@pytest.mark.parametrize("alpha", [1.0, 1.5, 3.0])
def test_powerpropagation_is_that_of_a_plain_loop(alpha: float) -> None:
    """Schwarz et al. 2021, equation 1: w = v |v|^(alpha - 1), so dL/dv = alpha |v|^(alpha - 1) dL/dw."""
    loop = Loop()
    for name in loop.matrices:
        loop.weights[name] = loop.weights[name].sign() * loop.weights[name].abs() ** (1 / alpha)

    def used() -> dict[str, Tensor]:
        return {n: v * v.abs() ** (alpha - 1) if n in loop.matrices else v for n, v in loop.weights.items()}

    for t in range(STEPS):
        for name, gradient in loop.gradients(t, used()).items():
            v = loop.weights[name]
            slope = alpha * v.abs() ** (alpha - 1) if name in loop.matrices else 1
            loop.weights[name] = loop.move(name, slope * gradient + loop.own.weight_decay * v)

    training = begun()
    run(training, STEPS, technique="powerpropagation", powerprop_alpha=alpha)

    for name, parameter in training.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), used()[name], rtol=0, atol=1e-10)


def test_powers_keep_the_initial_network_and_weights_of_zero() -> None:
    layer = nn.Linear(3, 4)
    model = nn.Sequential(layer, nn.Linear(4, 2)).double()
    with torch.no_grad():
        layer.weight[0] = 0
    x = torch.randn(5, 3, dtype=torch.float64)
    before: Tensor = model(x).detach()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparse(optimizer, model, "powerpropagation", end=2, powerprop_alpha=1.25)

    torch.testing.assert_close(model(x), before)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    assert torch.isfinite(layer.weight).all()
    assert not layer.weight[0].any()


def test_gradual_pruning_of_powers_prunes_the_smallest_of_them(tmp_path: Path, digits: Path) -> None:
    flags = {"gmp_density": 0.2, "gmp_end": "2ep", "gmp_frequency": "3it"}
    powers, plain = train_desc(technique="gmp,powerpropagation", **flags), train_desc(technique="gmp", **flags)
    place = context(tmp_path, digits)
    for desc in (powers, plain):
        complete(desc, place)

    mask, last = Mask.of_run(run_of(powers, place)), run_of(powers, place).load_state(powers.end)
    assert mask.kept == round(0.2 * mask.total)
    assert mask != Mask.of_run(run_of(plain, place))
    for name, kept in mask.items():
        assert not last[name][~kept].any()
    first = run_of(powers, place).load_state(powers.start)
    for name, weight in initialized_model(powers, 1).state_dict().items():
        torch.testing.assert_close(first[name], weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("l2", [None, 0.05])
def test_top_kast_is_that_of_a_plain_loop(l2: float | None) -> None:
    """Jayakumar et al. 2020, section 2: forward on A, gradients on B, L2 on A and L2 / D on the rest of B."""
    loop = Loop()
    sets: dict[str, tuple[Tensor, Tensor]] = {}
    factor = loop.own.weight_decay if l2 is None else l2
    for t in range(STEPS):
        if t % N == 0:
            for name in loop.matrices:
                w = loop.weights[name].flatten()
                order = sorted(range(len(w)), key=lambda i: (-abs(float(w[i])), i))
                both = [torch.zeros(len(w), dtype=torch.bool) for _ in range(2)]
                for chosen, share in zip(both, (D, D + M), strict=True):
                    chosen[order[: len(w) - int((1 - share) * len(w) + 0.5)]] = True
                sets[name] = (both[0].view_as(loop.weights[name]), both[1].view_as(loop.weights[name]))
        used = {n: w * sets[n][0] if n in sets else w for n, w in loop.weights.items()}
        for name, gradient in loop.gradients(t, used).items():
            w = loop.weights[name]
            if name not in sets:
                loop.weights[name] = loop.move(name, gradient + loop.own.weight_decay * w)
                continue
            a, b = sets[name]
            explored = b & ~a
            moved = loop.move(name, gradient * b + factor * w * a + factor / D * w * explored)
            loop.weights[name] = torch.where(b, moved, w)

    training = begun()
    run(
        training, STEPS, technique="topkast", topkast_density=D, topkast_exploration=M, topkast_refresh=f"{N}it",
        topkast_l2=l2,
    )  # fmt: skip

    assert training.mask == Mask({name: a for name, (a, _) in sets.items()})
    for name, parameter in training.model.named_parameters():
        expected = loop.weights[name] * sets[name][0] if name in sets else loop.weights[name]
        torch.testing.assert_close(parameter.detach(), expected, rtol=0, atol=1e-10)


def test_weights_that_get_no_gradient_keep_their_values() -> None:
    model = nn.Linear(6, 5)
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    training = sparse(optimizer, model, "topkast", density=0.2, end=5, topkast_exploration=0.2)
    hooks: Any = training._hooks.by_name["topkast"]
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.ones(3, 6)).square().sum().backward()
        optimizer.step()
    trained = hooks.backward["weight"]

    assert int(trained.sum()) == 12
    assert torch.equal(model.weight[~trained], before[~trained])
    assert (model.weight[trained] != before[trained]).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"topkast_density": 0.8, "topkast_exploration": 0.3}, "^topkast_density, topkast_exploration: together"),
        ({"topkast_refresh": "0it"}, "^topkast_refresh: it must be above"),
    ],
)
def test_sets_that_cannot_be_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TechniquesHparams.of({"technique": "topkast", **flags}).for_training(step(STEPS), has_mask=False)


def test_decoupled_weight_decay_is_refused_with_top_kast() -> None:
    with pytest.raises(UsageError, match="part of the gradient"):
        assert train_desc(technique="topkast", optimizer_name="adamw", momentum=0.0, weight_decay=0.1).digest
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    with pytest.raises(UsageError, match="part of the gradient"):
        sparse(optimizer, model, "topkast", density=0.5, end=3)


def test_a_job_with_top_kast_ends_with_the_stated_density(tmp_path: Path, digits: Path) -> None:
    desc = train_desc(technique="topkast", topkast_density=0.2, topkast_refresh="3it")
    place = context(tmp_path, digits)

    complete(desc, place)

    run = run_of(desc, place)
    mask, report, last = Mask.of_run(run), run.sparsity(), run.load_state(desc.end)
    assert report is not None
    assert report["is_outcome"]
    assert report["requested"]["density"] == pytest.approx(0.2, abs=1e-3)
    assert mask.kept_per_layer() == {name: round(0.2 * kept.numel()) for name, kept in mask.items()}
    for name, kept in mask.items():
        assert torch.equal(last[name] != 0, kept)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("technique", ["powerpropagation", "topkast"])
def test_any_network_trains_in_a_loop_of_a_users_own(kind: type[nn.Module], technique: str) -> None:
    torch.manual_seed(0)
    model = kind().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1)
    density = 0.3 if technique == "topkast" else None
    training = sparse(optimizer, model, technique, density=density, end=6)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        losses.append(F.cross_entropy(model(batch(0)[0]), batch(0)[1]))
        losses[-1].backward()
        optimizer.step()

    assert losses[-1] < losses[0]
    if technique == "topkast":
        assert training.mask is not None
        for name, kept in training.mask.items():
            assert int(kept.sum()) == round(0.3 * kept.numel() + 1e-9)
            assert torch.equal(model.get_parameter(name) != 0, kept)
