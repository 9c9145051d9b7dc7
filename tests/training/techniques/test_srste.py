"""SR-STE against the trajectory of its code and a plain loop, and the N:M masks that it leaves."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.weights.left_out import UnprunedWarning
from tests.training.small_runs import Listener, context, run_of, train_desc
from tests.training.techniques.trajectories import Trajectory
from training.jobs.compute import complete
from training.sparse import SparseTraining, sparse


def places(shape: tuple[int, ...], m: int, *, flatten: bool = False) -> list[list[tuple[int, ...]]]:
    """Return the groups of m inputs of a weight (out, in, kernel...): lists of indices, in the order of the groups."""
    groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    kernel = list(itertools.product(*map(range, shape[2:])))
    count = itertools.count()
    for neuron, place, channel in itertools.product(range(shape[0]), kernel, range(shape[1])):
        key = (next(count) // m,) if flatten else (neuron, *place, channel // m)
        groups.setdefault(key, []).append((neuron, channel, *place))
    return list(groups.values())


def plain_mask(weight: Tensor, n: int, m: int, *, flatten: bool = False) -> Tensor:
    """Return the mask of the n largest of each group; of equal ones the first go."""
    kept = torch.zeros(weight.shape, dtype=torch.bool)
    for group in places(tuple(weight.shape), m, flatten=flatten):
        for index in sorted(group, key=lambda index: float(weight[index].abs()))[-n:]:
            kept[index] = True
    return kept


def replay(name: str) -> None:
    """Compare with the trajectory of a case, whose weights are those that train."""
    case = Trajectory(name)
    own = case.options
    options = {"srste_structure": f"{own['N']}:{own['M']}", "srste_lambda": own["decay"], "srste_uneven": "flatten"}

    case.replay("srste", lambda training: training._hooks.by_name["srste"].outcome(), **options)


def test_srste_gives_the_trajectory_of_its_code() -> None:
    replay("srste_mlp")


class Convolutions(nn.Module):
    """A first convolution, one of 8 inputs, one of 6, a depthwise one, a transposed one, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.even = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.uneven, self.depthwise = nn.Conv2d(6, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 4, 2)
        self.hidden, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.even, self.uneven, self.depthwise, self.up):
            x = torch.tanh(layer(x))
        return self.last(torch.tanh(self.hidden(x.mean((2, 3)))))


def batch(number: int) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(number)
    return torch.randn(4, 2, 4, 4, generator=drawn, dtype=torch.float64), torch.randint(3, (4,), generator=drawn)


def trained(steps: int = 4, *, model: nn.Module | None = None, **options: Any) -> tuple[nn.Module, SparseTraining]:
    torch.manual_seed(0)
    model = (Convolutions() if model is None else model).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, weight_decay=0.01)
    training = sparse(optimizer, model, "srste", end=steps, **options)
    for number in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(batch(number)[0]), batch(number)[1]).backward()
        optimizer.step()
    return model, training


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_weights_are_those_of_a_plain_loop(decay: float) -> None:
    """Zhou et al. 2021, equation 9: the gradient at w m, and lambda (1 - m) w, step the dense w."""
    torch.manual_seed(0)
    start = Convolutions().double()
    weights = {name: p.detach().clone() for name, p in start.named_parameters()}
    momenta = {name: torch.zeros_like(p) for name, p in weights.items()}
    covered = ("even.weight", "hidden.weight", "up.weight")

    def masks() -> dict[str, Tensor]:
        masks = {name: plain_mask(weights[name], 1, 4) for name in covered[:2]}
        return masks | {"up.weight": plain_mask(weights["up.weight"].transpose(0, 1), 1, 4).transpose(0, 1)}

    for number in range(20):
        now = masks()
        leaves = {name: (w * now.get(name, 1)).requires_grad_() for name, w in weights.items()}
        x, y = batch(number)
        loss = F.cross_entropy(torch.func.functional_call(start, leaves, (x,)), y)
        for name, gradient in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
            off = ~now[name] if name in now else torch.zeros(())
            change = gradient + decay * off * weights[name] + 0.01 * weights[name]
            momenta[name] = 0.9 * momenta[name] + change
            weights[name] = weights[name] - 0.2 * momenta[name]

    with pytest.warns(UnprunedWarning):
        model, training = trained(20, srste_structure="1:4", srste_lambda=decay)

    expected = masks()
    assert training.mask is not None
    for name, parameter in model.named_parameters():
        kept = expected.get(name, torch.ones_like(parameter, dtype=torch.bool))
        torch.testing.assert_close(parameter.detach(), weights[name] * kept, atol=1e-10, rtol=0)
        if name in training.mask:
            assert torch.equal(training.mask[name], kept)


@pytest.mark.parametrize("uneven", ["skip", "pad", "flatten"])
@pytest.mark.parametrize("structure", ["2:4", "3:16"])
def test_each_group_keeps_its_number_whatever_the_layer(uneven: str, structure: str) -> None:
    n, m = map(int, structure.split(":"))
    options: dict[str, Any] = {"srste_structure": structure, "srste_uneven": uneven, "srste_last_linear": True}
    if (uneven, structure) == ("skip", "3:16"):
        with pytest.raises(UsageError, match="^srste_structure: no layer of this network can have 3:16"):
            trained(**options)
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model, training = trained(**options)
    words = " ".join(str(warning.message) for warning in said)
    assert ("depthwise.weight (a depthwise convolution)" in words) == (uneven == "skip")
    assert ("without" in words) == (uneven != "flatten" or m == 16)
    dense = {
        "skip": {"first.weight", "uneven.weight", "depthwise.weight"},
        "pad": set[str](),
        "flatten": {"depthwise.weight", "last.weight"} if m == 16 else set[str](),
    }[uneven]

    assert training.mask is not None
    for name, kept in training.mask.items():
        rows = kept.transpose(0, 1) if name == "up.weight" else kept
        for group in places(tuple(rows.shape), m, flatten=uneven == "flatten"):
            number = sum(bool(rows[index]) for index in group)
            assert number == (len(group) if name in dense else min(n, len(group))), name
        assert not model.get_parameter(name)[~kept].any()


def test_every_group_of_every_saved_state_is_n_of_m(tmp_path: Path, digits: Path) -> None:
    desc, listener = train_desc(technique="srste", srste_structure="1:4", model_name="digits_lenet_16_8"), Listener()
    place = context(tmp_path, digits, reporter=listener)

    complete(desc, place, [desc.start.at(number) for number in range(18)])

    run, report = run_of(desc, place), run_of(desc, place).sparsity()
    for number in range(19):
        for name, weight in run.load_state(desc.start.at(number)).items():
            if name in ("fc_layers.0.weight", "fc_layers.1.weight"):
                assert Counter((weight.view(-1, 4) != 0).sum(1).tolist()) == {1: weight.numel() // 4}
            elif name == "fc.weight":
                assert weight.all()
    mask = Mask.of_run(run)
    assert report is not None
    assert report["is_outcome"]
    assert report["achieved"]["kept"] == mask.kept == 16 * 16 + 8 * 4 + 80
    assert run.metrics().values[("srste_density", 6)] == pytest.approx(mask.density)


def test_a_job_names_the_layers_that_stay_dense(tmp_path: Path, digits: Path) -> None:
    listener = Listener()

    complete(
        train_desc(technique="srste", model_name="digits_resnet_8_4", training_steps="1it"),
        context(tmp_path, digits, reporter=listener),
    )

    said = [line for line in listener.said if "without 2:4" in line]
    assert said == ["Warning: conv.weight (the first convolution): without 2:4; srste_uneven=pad changes that."]


class Tied(nn.Module):
    """A decoder that shares its weight with an embedding, and a complex layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Embedding(32, 8), nn.Linear(8, 8, dtype=torch.complex128)
        self.decode = nn.Linear(8, 32)
        self.decode.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.mix(self.embed((x[:, 0, 0, 0] > 0).long()) + 0j).abs())


class Encoder(nn.Module):
    """Attention, an LSTM, and a second input that is a part of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 1, 8, dropout=0.0, batch_first=True)
        self.lstm, self.other, self.last = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lstm(self.layer(x[:, 0]))[0][:, 0] + self.other(x[:, 1, 0]))


@pytest.mark.parametrize("kind", [Tied, Encoder])
def test_any_network_has_the_structure(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    layers = "all,LSTM" if kind is Encoder else "all"
    model, training = trained(model=kind(), srste_last_linear=True, srste_layers=layers)

    assert training.mask is not None
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, kept in training.mask.items():
        size = 4 if name.endswith("weight") or "_l0" in name or "in_proj" in name else 1
        assert (kept.view(-1, size).sum(1) == max(1, size // 2)).all(), name
        assert not parameters[name][~kept].any()


def test_mistakes_are_named() -> None:
    mistakes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"srste_structure": "4:4"}, "^srste_structure: 4:4 prunes nothing"),
        ({"srste_structure": "constant_fan_in"}, "^srste_structure: constant_fan_in does not say how many"),
        ({"srste_structure": "2to4"}, "^srste_structure"),
        ({"srste_layers": "nothing"}, "^srste_layers: 'nothing'"),
        ({"srste_uneven": "cut"}, "^srste_uneven"),
    )
    for flags, words in mistakes:
        with pytest.raises(UsageError, match=words):
            trained(**flags)
