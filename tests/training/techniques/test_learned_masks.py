"""edge-popup and Gem-Miner: against vectors of their published code, plain loops in float64, and as jobs."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from tests.conftest import golden_case
from tests.pruning.nets import build
from tests.training.small_runs import context, oneshot_desc, run_of, train_desc
from training.job import initialized_model
from training.jobs.compute import complete
from training.sparse import SparseTraining, sparse

CASES = ("edge_popup_d030_lenet", "edge_popup_d050_resnet8", "gem_miner_d020_lenet", "gem_miner_d010_resnet8")


def network_of(case: Path, spec: dict[str, Any]) -> nn.Module:
    """Return the network of a case: without biases, and with batch normalization without scales."""
    model = build(spec)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float(name.endswith("weight")))
    model.load_state_dict(safetensors.torch.load_file(case / "weights.safetensors"), strict=False)
    return model


def arguments(description: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `sparse` for the options of a case."""
    options = description["options"]
    if description["method"] == "edge_popup":
        return {"end": options["steps"], "edge_popup_weight_decay": options["weight_decay"]}
    return {
        "end": options["epochs"] * options["batches_per_epoch"],
        "steps_per_epoch": options["batches_per_epoch"],
        "gem_miner_period": f"{options['iter_period']}ep",
        "gem_miner_lambda": options["lmbda"],
        "gem_miner_threshold": options["quantize_threshold"],
    }


@pytest.mark.parametrize("name", CASES)
def test_scores_and_masks_are_those_of_the_published_code(name: str) -> None:
    case = golden_case(name)
    description = json.loads((case / "case.json").read_text())
    options, method = description["options"], description["method"]
    model = network_of(case, description["model"]["spec"])
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=options["lr"], momentum=0.0)
    training = sparse(
        optimizer, model, method, density=options["density"],
        learned_mask_momentum=options["momentum"], **arguments(description),
    )  # fmt: skip
    scores = training._hooks.by_name[method].kept("scores")
    with torch.no_grad():
        for key, start in safetensors.torch.load_file(case / "scores_start.safetensors").items():
            scores[key].copy_(start)
    training._hooks.before_step(training._now)
    inputs, size = safetensors.torch.load_file(case / "inputs.safetensors"), options["batch_size"]
    losses = []
    for x, y in zip(inputs["x"].split(size), inputs["y"].split(size), strict=True):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert training.mask == Mask(safetensors.torch.load_file(case / "mask.safetensors"))
    expected = safetensors.torch.load_file(case / "scores.safetensors")
    largest = max(float(score.abs().max()) for score in expected.values())
    for key, score in expected.items():
        torch.testing.assert_close(scores[key].detach(), score, atol=1e-5 * largest, rtol=0)
    if method == "gem_miner":
        flags = safetensors.torch.load_file(case / "flags.safetensors")
        assert Mask(training._hooks.by_name[method].kept("flags")) == Mask(flags)
    if "loss_per_step" in description:
        assert losses == pytest.approx(description["loss_per_step"], abs=1e-5)
    for key, parameter in model.named_parameters():
        kept = training.mask[key] if key in training.mask else torch.ones_like(parameter, dtype=torch.bool)
        assert torch.equal(parameter[kept], before[key][kept])
        assert not parameter[~kept].any()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def trained(technique: str, steps: int = 8, **options: Any) -> tuple[nn.Module, SparseTraining, dict[str, Tensor]]:
    """Train in a loop; return the network, the training, and copies of the first scores."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1)
    training = sparse(optimizer, model, technique, end=steps, **options)
    first = {key: s.detach().clone() for key, s in training._hooks.by_name[technique].kept("scores").items()}
    for number in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(batch(number)[0]), batch(number)[1]).backward()
        optimizer.step()
    return model, training, first


def batch(number: int) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(number)
    return torch.randn(6, 5, generator=drawn, dtype=torch.float64), torch.randint(3, (6,), generator=drawn)


def test_edge_popup_in_all_layers_together_is_that_of_a_plain_loop() -> None:
    _, training, scores = trained("edge_popup", density=0.3, edge_popup_scope="global")
    model = network()
    weights = {name: p.detach() for name, p in model.named_parameters()}
    momenta = {name: torch.zeros_like(s) for name, s in scores.items()}

    def masks() -> dict[str, Tensor]:
        flat = torch.cat([scores["0.weight"].abs().flatten(), scores["2.weight"].abs().flatten()])
        order = sorted(range(len(flat)), key=lambda index: float(flat[index]))
        kept = torch.ones(len(flat))
        kept[order[: int(0.7 * len(flat))]] = 0
        return {"0.weight": kept[:40].view(8, 5).double(), "2.weight": kept[40:].view(3, 8).double()}

    for number in range(8):
        used = {name: (weights[name] * mask).requires_grad_() for name, mask in masks().items()}
        h = torch.tanh(F.linear(batch(number)[0], used["0.weight"], weights["0.bias"]))
        loss = F.cross_entropy(F.linear(h, used["2.weight"], weights["2.bias"]), batch(number)[1])
        for name, gradient in zip(used, torch.autograd.grad(loss, list(used.values())), strict=True):
            change = scores[name].sign() * weights[name] * gradient + 1e-4 * scores[name]
            momenta[name] = 0.9 * momenta[name] + change
            scores[name] = scores[name] - 0.5 * momenta[name]

    assert training.mask == Mask({name: mask.bool() for name, mask in masks().items()})
    for name, score in training._hooks.by_name["edge_popup"].kept("scores").items():
        torch.testing.assert_close(score.detach(), scores[name], atol=1e-10, rtol=0)


@pytest.mark.parametrize(("fan", "factor"), [("dense", 1.0), ("kept", 0.3), ("pruned", 0.7)])
def test_weights_may_be_signed_constants(fan: str, factor: float) -> None:
    before = dict(network().named_parameters())
    options: dict[str, Any] = {"learned_mask_weights": "signed_constant", "learned_mask_fan": fan}
    model, training, _ = trained("edge_popup", density=0.3, **options)

    assert training.mask is not None
    for name, kept in training.mask.items():
        fan_in = before[name].shape[1]
        expected = before[name].detach().sign() * math.sqrt(2 / (fan_in * factor))
        torch.testing.assert_close(model.get_parameter(name).detach(), expected * kept)


def test_equal_scores_are_left_out_in_the_order_of_their_index() -> None:
    model = network()
    training = sparse(torch.optim.SGD(model.parameters(), lr=0.1), model, "edge_popup", density=0.5, end=2)
    hooks: Any = training._hooks.by_name["edge_popup"]
    for score in hooks.scores.values():
        score.detach().fill_(-1)

    found = hooks.masks()

    assert found["0.weight"].flatten().tolist() == [False] * 20 + [True] * 20


def test_the_rest_may_train() -> None:
    for technique in ("edge_popup", "gem_miner"):
        before = dict(network().named_parameters())
        options: dict[str, Any] = {"gem_miner_period": "1it", "steps_per_epoch": 2} if technique == "gem_miner" else {}
        model, _, _ = trained(technique, density=0.5, learned_mask_train_rest=True, **options)
        for name, parameter in model.named_parameters():
            assert (parameter == before[name]).all() == False or name.endswith("weight")  # noqa: E712


@pytest.mark.parametrize("penalty", ["l2", "l1"])
@pytest.mark.parametrize("outcome", ["rounded", "flags"])
def test_gem_miner_is_that_of_a_plain_loop(penalty: str, outcome: str) -> None:
    options: dict[str, Any] = {"gem_miner_penalty": penalty, "gem_miner_outcome": outcome, "gem_miner_lambda": 0.02}
    model, training, scores = trained("gem_miner", density=0.4, gem_miner_period="2it", steps_per_epoch=2, **options)
    weights = {name: p.detach() for name, p in network().named_parameters()}
    momenta = {name: torch.zeros_like(p) for name, p in scores.items()}
    flags = {name: torch.ones_like(p) for name, p in scores.items()}
    rate = 1 - 0.4 ** (1 / 3)
    for number in range(9):
        scores = {name: p.clamp(0, 1) for name, p in scores.items()}
        if number in (4, 6, 8):
            live = sorted(p for name in scores for p in scores[name][flags[name] > 0].tolist())
            last = live[math.ceil(rate * len(live)) - 1]
            flags = {name: flag * (scores[name] > last) for name, flag in flags.items()}
        if number == 8:
            break
        used = {name: (weights[name] * flags[name] * (scores[name] > 0.5)).requires_grad_() for name in scores}
        h = torch.tanh(F.linear(batch(number)[0], used["0.weight"], weights["0.bias"]))
        loss = F.cross_entropy(F.linear(h, used["2.weight"], weights["2.bias"]), batch(number)[1])
        for name, gradient in zip(used, torch.autograd.grad(loss, list(used.values())), strict=True):
            change = flags[name] * weights[name] * gradient
            change = change + 0.02 * (2 * scores[name] if penalty == "l2" else scores[name].sign())
            momenta[name] = 0.9 * momenta[name] + change
            scores[name] = scores[name] - 0.5 * momenta[name]

    expected = {name: (flags[name] > 0) & ((scores[name] > 0.5) | (outcome == "flags")) for name in scores}
    assert training.mask == Mask(expected)
    for name, kept in expected.items():
        assert torch.equal(model.get_parameter(name).detach(), weights[name] * kept)


def test_trainings_that_cannot_be_are_refused() -> None:
    for flags, words in (
        ({"technique": "gem_miner", "gem_miner_period": "3ep"}, "before weights first lose"),
        ({"technique": "gem_miner", "gem_miner_period": "0it"}, "above 0it"),
        ({"technique": "gmp,edge_popup", "gmp_density": 0.5}, "gmp and edge_popup would each decide"),
        ({"technique": "edge_popup,rigl"}, "edge_popup and rigl would each decide"),
        ({"technique": "gem_miner,edge_popup", "gem_miner_period": "1it"}, "gem_miner and edge_popup would"),
        ({"technique": "edge_popup", "learned_mask_fan": "kept"}, "signed_constant"),
        ({"technique": "edge_popup", "optimizer_name": "adam", "momentum": 0.0, "learned_mask_momentum": 0.5}, "none"),
    ):
        with pytest.raises(UsageError, match=words):
            assert train_desc(**flags).digest
    with pytest.raises(UsageError, match="start without one"):
        assert oneshot_desc(density=0.5, technique="edge_popup").digest


def test_layers_with_scores_are_chosen_and_mistakes_about_them_name_their_flag() -> None:
    _, training, _ = trained("edge_popup", density=0.5, learned_mask_layers="2")
    assert training.mask is not None
    assert list(training.mask) == ["2.weight"]
    with pytest.raises(UsageError, match="nothing") as raised:
        trained("edge_popup", density=0.5, learned_mask_layers="nothing")
    assert raised.value.hparams == ("learned_mask_layers",)


@pytest.mark.parametrize("technique", ["edge_popup", "gem_miner"])
def test_a_job_keeps_weights_and_a_mask_that_branches_take(technique: str, tmp_path: Path, digits: Path) -> None:
    options = {"edge_popup_density": 0.4} if technique == "edge_popup" else {"gem_miner_period": "1ep"}
    desc, place = train_desc(technique=technique, **options), context(tmp_path, digits)
    complete(desc, place)
    run = run_of(desc, place)
    drawn = dict(initialized_model(desc, 1).named_parameters())
    mask, last, report = Mask.of_run(run), run.load_state(desc.end), run.sparsity()

    for name, weight in last.items():
        assert torch.equal(weight, drawn[name] * mask[name] if name in mask else drawn[name])
    assert report is not None
    assert report["is_outcome"]
    assert report["achieved"]["kept"] == mask.kept
    requested = 0.4 if technique == "edge_popup" else 0.05
    assert report["requested"]["density"] == pytest.approx(requested, abs=1e-3)
    if technique == "gem_miner":
        assert run.metrics().values[("gem_miner_density", 18)] == pytest.approx(mask.density)
        assert mask.density <= run.metrics().values[("gem_miner_flags", 18)]


class TwoInputs(nn.Module):
    """A network of two parts of its input, one of them through complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 6), nn.Linear(3, 6, dtype=torch.complex128)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x[:, :2])) + self.second(x[:, 2:] + 0j).abs())


class Recurrent(nn.Module):
    """Both directions of an LSTM, and a depthwise convolution with batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, batch_first=True, bidirectional=True)
        self.conv, self.norm = nn.Conv1d(8, 8, 3, padding=1, groups=8), nn.BatchNorm1d(8)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.conv(self.lstm(x[:, None])[0].mT))[:, :, 0])


class Encoder(nn.Module):
    """A layer of a transformer encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(5, 1, 8, dropout=0.0, batch_first=True)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x[:, None])[:, 0])


@pytest.mark.parametrize("kind", [TwoInputs, Recurrent, Encoder])
@pytest.mark.parametrize("technique", ["edge_popup", "gem_miner"])
def test_any_network_gets_an_exact_mask_and_keeps_its_weights(kind: type[nn.Module], technique: str) -> None:
    torch.manual_seed(0)
    model = kind().double()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    options: dict[str, Any] = {"gem_miner_period": 1, "steps_per_epoch": 2} if technique == "gem_miner" else {}
    training = sparse(optimizer, model, technique, density=0.4, end=6, **options)
    first = copy.deepcopy(training._hooks.by_name[technique].state_dict())
    for number in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(batch(number)[0]), batch(number)[1]).backward()
        optimizer.step()
        schedule.step()

    assert training.mask is not None
    last = training._hooks.by_name[technique].state_dict()
    assert all((last[name] != first[name]).any() for name in first if name.startswith("scores"))
    for name, parameter in model.named_parameters():
        kept = training.mask[name] if name in training.mask else torch.ones_like(parameter, dtype=torch.bool)
        assert torch.equal(parameter, before[name] * kept)
        if technique == "edge_popup" and name in training.mask:
            assert int(kept.sum()) == kept.numel() - int(0.6 * kept.numel())


class Shared(nn.Module):
    """Two layers with one weight, `b.weight` and `a.weight`; masks call it `a.weight`, whichever comes first."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        weight = nn.Parameter(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
        for name in names:
            self.add_module(name, nn.Linear(5, 5, bias=False))
            self.get_submodule(name).weight = weight
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.get_submodule("b")(torch.relu(self.get_submodule("a")(x)))))


@pytest.mark.parametrize("technique", ["edge_popup", "gem_miner"])
def test_a_tied_weight_has_one_score_whichever_of_its_names_comes_first(technique: str) -> None:
    found = []
    for names in (("a", "b"), ("b", "a")):
        torch.manual_seed(0)
        model = Shared(*names).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        options: dict[str, Any] = {"gem_miner_period": 1, "steps_per_epoch": 2} if technique == "gem_miner" else {}
        training = sparse(optimizer, model, technique, density=0.4, end=6, **options)
        for number in range(6):
            optimizer.zero_grad()
            F.cross_entropy(model(batch(number)[0]), batch(number)[1]).backward()
            optimizer.step()
        assert training.mask is not None
        found.append((training.mask, {name: p.detach() for name, p in model.state_dict().items()}))

    (mask, state), (other, same) = found
    assert set(mask) == {"a.weight", "last.weight"}
    assert mask == other
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert torch.equal(state["b.weight"] != 0, mask["a.weight"])
