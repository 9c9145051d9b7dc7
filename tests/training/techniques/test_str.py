"""STR: against trajectories of its published code, a plain loop in float64, and as jobs."""

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
from tests.training.techniques.toy_training import ToyTraining, batch, run, toy_training
from tests.training.techniques.trajectories import Trajectory
from training.jobs.compute import complete
from training.sparse import SparseTraining, sparse
from training.techniques.own_layers import outcome_of

STEPS = 20


@pytest.mark.parametrize("name", ["str_resnet", "str_mlp"])
def test_str_gives_the_trajectory_of_its_code(name: str) -> None:
    case = Trajectory(name)

    def own(training: SparseTraining) -> tuple[Mask, dict[str, Tensor]]:
        hooks: Any = training._hooks.by_name["str"]
        more = {f"{key.removesuffix('.weight')}.sparseThreshold": s for key, s in hooks.s.items()}
        return outcome_of(training.model, hooks._kept_weights()), more

    case.replay("str", before_step=True, own=own, str_s_init=case.options["sInit_value"])


def begun() -> ToyTraining:
    return toy_training(density=None, training_steps=f"{STEPS}it")


class Loop:
    """STR with SGD, written out, with gradients of the thresholds by their formula."""

    def __init__(self, start: ToyTraining, s_init: float) -> None:
        self.start = start
        self.weights = {name: p.detach().clone() for name, p in start.model.named_parameters()}
        self.s = {n: torch.tensor(s_init, dtype=torch.float64) for n, p in self.weights.items() if p.dim() > 1}
        self.momenta: dict[str, Tensor] = {}

    def beyond(self) -> dict[str, Tensor]:
        sizes = {n: (self.weights[n].abs() - torch.sigmoid(s)).clamp(min=0) for n, s in self.s.items()}
        return {n: self.weights[n].sign() * size for n, size in sizes.items()}

    def train(self, decay: float) -> Loop:
        for t in range(STEPS):
            x, y = batch(t)
            leaves = {n: w.clone().requires_grad_() for n, w in {**self.weights, **self.beyond()}.items()}
            loss = F.cross_entropy(torch.func.functional_call(self.start.model, leaves, (x,)), y)
            gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
            for name, s in self.s.items():
                share = torch.sigmoid(s)
                gradients[name] = gradients[name] * (self.weights[name].abs() > share)
                slope = -share * (1 - share) * (self.weights[name].sign() * gradients[name]).sum()
                self.s[name] = self._step(f"s.{name}", s, slope, decay)
            for name, weight in self.weights.items():
                self.weights[name] = self._step(name, weight, gradients[name], self.start.desc.training.weight_decay)
        return self

    def _step(self, name: str, value: Tensor, gradient: Tensor, decay: float) -> Tensor:
        own = self.start.desc.training
        self.momenta[name] = own.momentum * self.momenta.get(name, 0) + gradient + decay * value
        return value - own.lr * self.momenta[name]


@pytest.mark.parametrize("decay", [None, 0.05])
def test_str_is_that_of_a_plain_loop(decay: float | None) -> None:
    """Kusupati et al. 2020, equations 2 and 5: W = sign(w) relu(|w| - g(s)), g the sigmoid."""
    expected = Loop(begun(), -4.0).train(0.01 if decay is None else decay)
    training = begun()

    run(training, STEPS, technique="str", str_s_init=-4.0, str_weight_decay=decay)

    assert training.mask == Mask({name: weight != 0 for name, weight in expected.beyond().items()})
    assert 0 < training.mask.pruned < training.mask.total
    hooks: Any = training.hooks.by_name["str"]
    for name, s in hooks.s.items():
        torch.testing.assert_close(s.detach(), expected.s[name], rtol=0, atol=1e-10)
    for name, parameter in training.model.named_parameters():
        found = {**expected.weights, **expected.beyond()}[name]
        torch.testing.assert_close(parameter.detach(), found, rtol=0, atol=1e-10)


def test_a_threshold_that_float32_takes_for_zero_moves_by_weight_decay_alone() -> None:
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    training = sparse(optimizer, model, "str", end=4)
    hooks: Any = training._hooks.by_name["str"]
    for number in range(3):
        assert hooks.s["weight"].item() == pytest.approx(-3200 * 0.95**number)
        optimizer.zero_grad()
        torch.testing.assert_close(model(torch.eye(3)), model.weight.T + model.bias)
        model(torch.ones(2, 3)).sum().backward()
        assert hooks.s["weight"].grad.item() == 0
        optimizer.step()
    assert not torch.equal(model.weight, before)
    assert training.metrics() == {"str_density": 1.0, "str_threshold": 0.0}


def test_thresholds_decay_as_the_weights_of_their_layers() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    groups: list[dict[str, Any]] = [{"params": layer.parameters()} for layer in model]
    groups[0]["weight_decay"] = 0.5
    optimizer = torch.optim.SGD(groups, lr=0.1)
    training = sparse(optimizer, model, "str", end=4, str_s_init=-100.0)
    hooks: Any = training._hooks.by_name["str"]

    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()

    assert hooks.s["0.weight"].item() == pytest.approx(-95)
    assert hooks.s["1.weight"].item() == -100


def test_a_job_reports_the_density_that_training_leads_to(tmp_path: Path, digits: Path) -> None:
    desc, place = train_desc(technique="str", str_s_init=-4.0, str_weight_decay=0.05), context(tmp_path, digits)

    complete(desc, place)

    run = run_of(desc, place)
    mask, report, last = Mask.of_run(run), run.sparsity(), run.load_state(desc.end)
    assert report is not None
    assert report["is_outcome"]
    assert 0 < mask.pruned < mask.total
    for name, kept in mask.items():
        assert torch.equal(last[name] != 0, kept)
    assert run.metrics().values["str_density", 18] == mask.density


def test_a_density_or_unknown_layers_are_refused() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match="density"):
        sparse(optimizer, model, "str", density=0.1, end=4)
    with pytest.raises(UsageError, match="^str_layers: "):
        sparse(optimizer, model, "str", end=4, str_layers="nothing")


@pytest.mark.parametrize("kind", NETWORKS)
def test_any_network_has_a_threshold_for_each_matrix(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind().double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    training = sparse(optimizer, model, "str", end=6, str_s_init=-3.0)
    for number in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(batch(number)[0]), batch(number)[1]).backward()
        optimizer.step()

    assert training.mask is not None
    assert 0 < training.mask.pruned < training.mask.total
    for name, kept in training.mask.items():
        assert torch.equal(model.get_parameter(name) != 0, kept)
