"""Effective weights, own parameters and outcomes of techniques: in jobs, and in loops of a user's own."""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from tests.training.small_runs import context, run_of, tensor_digests, train_desc
from tests.training.techniques import warp
from tests.training.test_resuming import run_with_stops
from training.forward_weights import ForwardWeights
from training.loop.trainer import Trainer
from training.sparse import SparseTraining, sparse

END = 9
SGD: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}


@pytest.fixture(autouse=True)
def with_warp() -> Iterator[None]:
    with warp.registered():
        yield


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def batch(number: int) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(number)
    return torch.randn(6, 5, generator=drawn, dtype=torch.float64), torch.randint(3, (6,), generator=drawn)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, start: int = 0, end: int = END, parts: int = 1) -> None:
    for number in range(start, end):
        optimizer.zero_grad()
        x, y = batch(number)
        for own, targets in zip(x.chunk(parts), y.chunk(parts), strict=True):
            (F.cross_entropy(model(own), targets) / parts).backward()
        optimizer.step()


def begun(model: nn.Module, **options: Any) -> tuple[torch.optim.Optimizer, SparseTraining]:
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    return optimizer, sparse(optimizer, model, "warp", end=END, **options)


def by_hand(model: nn.Module, gates: dict[str, Tensor]) -> dict[str, Tensor]:
    """Train by plain loops; return the weights after the mask that is learnt, and the gates."""
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters() if p.dim() > 1}
    biases = {name: p.detach() for name, p in model.named_parameters() if p.dim() == 1}
    gates = {name: gate.detach().clone().requires_grad_() for name, gate in gates.items()}
    momenta: dict[str, Tensor] = {}
    for number in range(END):
        x, y = batch(number)
        h = torch.tanh(F.linear(x, weights["0.weight"] * gates["0.weight"], biases["0.bias"]))
        loss = F.cross_entropy(F.linear(h, weights["2.weight"] * gates["2.weight"], biases["2.bias"]), y)
        tensors = {**{f"w{n}": w for n, w in weights.items()}, **{f"g{n}": g for n, g in gates.items()}}
        gradients = torch.autograd.grad(loss, list(tensors.values()))
        rate = SGD["lr"] / (2 if number >= warp.HALVED else 1)
        if number == warp.RESTARTED:
            momenta = {}
        with torch.no_grad():
            for (name, tensor), gradient in zip(tensors.items(), gradients, strict=True):
                is_gate = name.startswith("g")
                change = gradient + (0.01 if is_gate else SGD["weight_decay"]) * tensor
                momenta[name] = SGD["momentum"] * momenta[name] + change if name in momenta else change
                tensor -= rate * (0.5 if is_gate else 1) * momenta[name]
    kept = {name: w.abs() > warp.SMALL for name, w in weights.items()}
    return {name: (w * gates[name] * kept[name]).detach() for name, w in weights.items()} | biases


@pytest.mark.parametrize("parts", [1, 3])
def test_a_training_is_that_of_plain_loops_in_float64(parts: int) -> None:
    model = network()
    optimizer, training = begun(model)
    gates = dict(zip(["0.weight", "2.weight"], training._hooks.own_parameters, strict=True))
    expected = by_hand(model, gates)

    train(model, optimizer, parts=parts)

    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, expected[name], atol=1e-12, rtol=0)
    assert training.mask is not None
    assert all(torch.equal(kept, expected[name] != 0) for name, kept in training.mask.items())
    assert all(p.requires_grad for p in model.parameters())


def test_a_stopped_run_ends_with_the_same_bytes(tmp_path: Path, digits: Path) -> None:
    desc = train_desc(technique="warp", clip_grad_norm=1.0, accumulate=2)
    run_with_stops(desc, tmp_path / "whole", digits, ())
    whole = tensor_digests(run_of(desc, context(tmp_path / "whole", digits)))
    drawn = random.Random(0)

    for number in range(4):
        root = tmp_path / f"stopped{number}"
        stops = [18] if number == 0 else sorted(drawn.sample(range(19), 4))
        run_with_stops(desc, root, digits, stops)
        assert tensor_digests(run_of(desc, context(root, digits))) == whole, stops


def test_states_have_effective_weights_and_checkpoints_have_parameters(tmp_path: Path, digits: Path) -> None:
    desc, place = train_desc(technique="warp"), context(tmp_path, digits)
    run_with_stops(desc, tmp_path, digits, ())
    run = run_of(desc, place)
    first, mask = run.load_state(desc.start), Mask.of_run(run)
    trainer = Trainer(network_of(desc), desc, place, place.platform, 1, techniques=desc.techniques)
    drawn = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.prepare(None, desc.start)
    gates = dict(zip(sorted(n for n in drawn if n.endswith("weight")), trainer.hooks.own_parameters, strict=True))

    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(weight, drawn[name])
        torch.testing.assert_close(first[name], drawn[name] * gates[name] if name in gates else drawn[name])
    last = run.load_state(desc.end)
    assert all(bool((last[name][~kept] == 0).all()) for name, kept in mask.items())
    manifest = run.read_manifest()
    assert manifest is not None
    assert manifest.results["density"] == mask.density
    assert ("warp_gate", 0) in run.metrics().values


def network_of(desc: Any) -> nn.Module:
    from training.job import initialized_model

    return initialized_model(desc, 1)


def test_a_loop_that_is_saved_and_loaded_goes_on_as_it_was() -> None:
    whole = network()
    train(whole, begun(whole)[0])

    for stop in range(END + 1):
        model = network()
        optimizer, training = begun(model)
        train(model, optimizer, end=stop)
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), training.state_dict()))
        fresh = network()
        other = torch.optim.SGD(fresh.parameters(), **SGD)
        fresh.load_state_dict(saved[0])
        other.load_state_dict(saved[1])
        sparse(other, fresh, "warp", end=END, resume_from=saved[2])
        train(fresh, other, start=stop)
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), fresh.parameters(), strict=True)), stop


def test_a_state_may_be_loaded_into_a_training_under_way() -> None:
    model = network()
    optimizer, training = begun(model)
    train(model, optimizer, end=4)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), training.state_dict()))
    train(model, optimizer, start=4)
    expected = copy.deepcopy(model.state_dict())

    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    training.load_state_dict(saved[2])
    train(model, optimizer, start=4)

    assert all(torch.equal(expected[name], weight) for name, weight in model.state_dict().items())


def test_schedules_scalers_and_clipping_find_the_own_parameters() -> None:
    model = network().float()
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    training = sparse(optimizer, model, "warp", end=END)
    scaler = torch.amp.GradScaler("cpu")
    gates = training._hooks.own_parameters
    before = [gate.item() for gate in gates]
    for number in range(END - 1):
        optimizer.zero_grad()
        x, y = batch(number)
        scaler.scale(F.cross_entropy(model(x.float()), y)).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()

    assert [gate.item() for gate in gates] != before
    assert len(optimizer.param_groups) == len(optimizer.state_dict()["param_groups"]) == 1
    assert training.metrics() == {"warp_gate": pytest.approx(sum(gate.item() for gate in gates))}
    training.detach()
    assert len(optimizer.param_groups[0]["params"]) == 4


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x[:, None])[0][:, 0]


class Recomputed(nn.Module):
    """A network that computes its activations again in the backward pass."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh())
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = checkpoint(self.body, x, use_reentrant=self.reentrant)
        return x


def doubled(weights: Any) -> dict[str, Tensor]:
    return {name: 2 * weight for name, weight in weights.items()}


KINDS: dict[str, Callable[[], nn.Module]] = {
    "tied": Tied,
    "recurrent": Recurrent,
    "attention": lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
    "recomputed": lambda: Recomputed(reentrant=False),
    "recomputed by the old form": lambda: Recomputed(reentrant=True),
}


def doubled_network(kind: str) -> tuple[nn.Module, nn.Module, ForwardWeights]:
    """Return a network with twice its weights in the forward pass, and one that has these weights."""
    torch.manual_seed(0)
    model = KINDS[kind]().double()
    plain = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.mul_(2)
    forward = ForwardWeights(model, doubled)
    forward.install()
    return model, plain, forward


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_those_of_the_effective_weights(kind: str) -> None:
    model, plain, _ = doubled_network(kind)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    outputs, expected = model(x), plain(x)
    outputs.square().sum().backward()
    expected.square().sum().backward()

    assert torch.equal(outputs, expected)
    for own, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert own.grad is not None and other.grad is not None
        torch.testing.assert_close(own.grad, 2 * other.grad, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_stay_and_copies_are_plain(kind: str) -> None:
    model, plain, forward = doubled_network(kind)
    x = torch.randn(3, 4, dtype=torch.float64)
    names, expected = list(model.state_dict()), copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model(x)
        inside = torch.func.functional_call(model, dict(plain.named_parameters()), (x,))
    with forward.baked(), torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
        assert torch.equal(model(x), plain(x))

    assert list(model.state_dict()) == names
    assert all(torch.equal(expected[name], tensor) for name, tensor in model.state_dict().items())
    assert all(isinstance(parameter, nn.Parameter) for parameter in model.parameters())
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    forward.remove()
    raw = model(x)
    copies = [copy.deepcopy(model), torch.load(saved, weights_only=False)]
    assert all(torch.equal(each(x), raw) for each in copies)
    assert not torch.equal(inside, raw)


def test_an_error_or_a_key_in_the_forward_pass_leaves_the_parameters() -> None:
    for error in (ValueError, KeyboardInterrupt):
        model = nn.Sequential(nn.Linear(2, 2), nn.Identity())
        before = copy.deepcopy(model.state_dict())
        ForwardWeights(model, doubled).install()

        def fail(*_: Any, error: type[BaseException] = error) -> None:
            raise error

        handle = model[1].register_forward_hook(fail)
        with pytest.raises(error):
            model(torch.zeros(1, 2))
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        handle.remove()
        assert torch.equal(model(torch.ones(1, 2)), 2 * F.linear(torch.ones(1, 2), *before.values()))


def test_effective_weights_must_fit_the_network() -> None:
    for found in ({"0.other": torch.zeros(2)}, {"0.weight": torch.zeros(3)}):
        model = nn.Sequential(nn.Linear(2, 2))
        ForwardWeights(model, lambda _, found=found: found).install()  # type: ignore[misc]
        with pytest.raises(UsageError, match=r"0\."):
            model(torch.zeros(1, 2))


def test_a_compiled_network_uses_the_effective_weights() -> None:
    model = network()
    compiled: Any = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    plain = network()
    other = begun(plain)[0]
    sparse(optimizer, compiled, "warp", end=END)

    train(compiled, optimizer)
    train(plain, other)

    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("keeps_state", [False, True])
@pytest.mark.parametrize("masks_gradients", [False, True])
def test_a_mask_may_leave_state_alone_and_mask_gradients(keeps_state: bool, masks_gradients: bool) -> None:
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.5)
    weight.grad = torch.ones(2)
    optimizer.step()
    model = nn.Module()
    model.weight = weight
    mask = Mask({"weight": torch.tensor([True, False])})
    attached = mask.attach(optimizer, model, keeps_state=keeps_state, masks_gradients=masks_gradients)
    weight.grad = torch.ones(2)

    optimizer.step()

    momentum = optimizer.state[weight]["momentum_buffer"]
    assert weight[1] == 0
    assert momentum[0] == 1.5
    assert momentum[1] == ((0.5 if masks_gradients else 1.5) if keeps_state else 0)
    attached.detach()
    optimizer.step()
    assert weight[1] != 0 or (momentum[1] == 0)
