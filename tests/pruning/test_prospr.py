"""ProsPr against the published code, and against its definition in float64; its memory, its counts, its refusals."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from foundations.errors import UsageError
from foundations.examples import Rows
from pruning.compute_mask import mask_from_hparams
from pruning.hparams import PruningHparams
from pruning.prune import prune
from pruning.scoring import scoring as scoring_module
from pruning.scoring.inputs import ScoringInputs
from tests.pruning.golden import Case, assert_scores_agree, cases_where, difference
from tests.pruning.nets import TinyNet

pytestmark = pytest.mark.filterwarnings("ignore::pruning.prune.CollapseWarning")
Scores = dict[str, torch.Tensor]


@pytest.mark.parametrize("name", cases_where(lambda case: case.description["method"] == "prospr"))
def test_scores_and_masks_are_those_of_the_published_code(name: str) -> None:
    case, found = Case(name), []
    options = case.options
    x, y = case.examples
    used = len(y) if options["new_data_in_inner"] else options["batch_size"]
    hparams = PruningHparams.of(
        {
            "strategy": "prospr1",
            "prune_fraction": options["prune_ratio"],
            "rounding": "prospr",
            "inner_steps": options["inner_steps"],
            "inner_lr": options["inner_lr"],
            "inner_momentum": options["inner_momentum"],
            "inner_momentum_detached": True,
            "meta_gradient": options["meta_grads"],
            "inner_new_batches": options["new_data_in_inner"],
        }
    )
    inputs = ScoringInputs(seed=0, examples=Rows.of(x[:used], y[:used]), batch_size=options["batch_size"])

    mask = mask_from_hparams(case.model(), hparams, inputs, on_iteration=lambda _n, _m, scores: found.append(scores))

    assert_scores_agree(found[0], case.tensors("scores"), 1.0, case.tolerance)
    assert mask.kept == case.description["kept_expected"]
    assert difference(mask, case.mask()) == (0, 0)


def problem() -> tuple[TinyNet, torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(1)
    return TinyNet(width=3).double(), torch.randn(9, 2, 6, 6, generator=source).double(), torch.tensor([0, 1, 2] * 3)


def scores_of(strategy: str = "prospr3", **options: Any) -> Scores:
    model, x, y = problem()
    found: list[Scores] = []
    mask = prune(model, "random", density=0.8, seed=3)
    prune(
        model,
        strategy,
        density=0.3,
        mask=mask,
        examples=(x, y),
        batch_size=4,
        on_iteration=lambda _number, _mask, scores: found.append(scores),
        **options,
    )
    return found[0]


def by_autograd(
    *, lr: float, momentum: float, full: bool, detached: bool, new: bool, steps: int = 3, train: bool = True
) -> Scores:
    """Differentiate through the steps as they are written, in one graph."""
    model, x, y = problem()
    kept = prune(model, "random", density=0.8, seed=3)
    model.train(train)
    batches = list(zip(x.split((4, 4, 1)), y.split((4, 4, 1)), strict=True))
    own = {name: parameter.detach() for name, parameter in model.named_parameters()}
    mask = {name: kept[name].double().requires_grad_() for name in kept}
    theta = {
        name: value * mask[name] if name in mask else value.clone().requires_grad_() for name, value in own.items()
    }

    def loss(at: Scores, number: int) -> torch.Tensor:
        chosen = [batches[number % 3]] if new else batches
        count = sum(len(b) for _, b in chosen)
        values = [len(b) / count * F.cross_entropy(functional_call(model, at, (a,)), b) for a, b in chosen]
        return torch.stack(values).sum()

    velocity: Scores = {}
    for step in range(steps):
        gradients = torch.autograd.grad(loss(theta, step), list(theta.values()), create_graph=True)
        for name, gradient in zip(list(theta), gradients, strict=True):
            part = gradient * kept[name].double() if name in kept else gradient
            part = part.detach() if not full or (detached and momentum and step == 0) else part
            velocity[name] = momentum * velocity[name] + part if name in velocity else part
        theta = {name: value - lr * velocity[name] for name, value in theta.items()}
    found = torch.autograd.grad(loss(theta, steps), [mask[name] for name in mask])
    return {name: score.abs() * kept[name] for name, score in zip(mask, found, strict=True)}


def assert_equal(mine: Scores, theirs: Scores, tolerance: float = 1e-10) -> None:
    assert_scores_agree(mine, theirs, 1.0, tolerance)


@pytest.mark.parametrize(("full", "new", "detached"), list(itertools.product((True, False), repeat=3)))
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_scores_are_the_derivative_through_the_steps(momentum: float, full: bool, new: bool, detached: bool) -> None:
    mine = scores_of(
        inner_lr=0.3,
        inner_momentum=momentum,
        meta_gradient="full" if full else "first_order",
        inner_new_batches=new,
        inner_momentum_detached=detached,
        score_in_eval_mode=new,
    )
    assert_equal(mine, by_autograd(lr=0.3, momentum=momentum, full=full, detached=detached, new=new, train=not new))


def test_without_steps_it_is_snip_and_with_them_not() -> None:
    snip = scores_of("snip3")
    assert_equal(scores_of(inner_steps=0), snip)
    with pytest.raises(AssertionError):
        assert_equal(scores_of(inner_steps=1), snip, 1e-3)


@pytest.mark.parametrize("options", [{}, {"score_in_eval_mode": True}, {"inner_momentum": 0.5}])
def test_with_less_memory_the_steps_are_computed_again(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scores_of(**options)
    assert_equal(scores_of(micro_batch_size=2, **options), whole)
    monkeypatch.setattr(scoring_module, "MOST_ACTIVATIONS", 1)
    assert_equal(scores_of(**options), whole)


def test_steps_that_diverge_are_refused() -> None:
    model, x, y = problem()
    with pytest.raises(UsageError, match=r"inner_lr: the inner steps diverge at 1e\+38; choose a smaller one"):
        prune(model.float(), "prospr3", density=0.3, examples=(x.float(), y), batch_size=4, inner_lr=1e38)


def test_what_changes_nothing_is_not_in_an_address() -> None:
    plain = PruningHparams.of({"strategy": "prospr10"}).canonical()
    for idle in ({}, {"inner_momentum": 0.5, "meta_gradient": "first_order"}):
        with_it = PruningHparams.of({"strategy": "prospr10", "inner_momentum_detached": True, **idle})
        without = PruningHparams.of({"strategy": "prospr10", **idle})
        assert with_it.simplified().canonical() == without.simplified().canonical()
    assert plain == PruningHparams.of({"strategy": "prospr10", "inner_steps": 3, "inner_lr": 0.1}).canonical()


@pytest.mark.parametrize("strategy", ["prospr2", "fisher2", "hutchinson2", "grad_norm2"])
@pytest.mark.parametrize("kind", ["encoder", "depthwise", "two inputs", "lstm"])
def test_counts_are_exact_on_networks_of_other_kinds(kind: str, strategy: str) -> None:
    torch.manual_seed(0)
    x: Any = torch.randn(6, 5, 8)
    if kind == "encoder":
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        model: nn.Module = nn.Sequential(nn.TransformerEncoder(layer, 1), nn.Flatten(), nn.Linear(40, 3))
    elif kind == "depthwise":
        parts = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1), nn.Flatten()
        model, x = nn.Sequential(*parts, nn.Linear(24, 3)), torch.randn(6, 2, 6, 6)
    elif kind == "two inputs":
        model, x = TwoInputs(), (torch.randn(6, 4), torch.randn(6, 5))
    else:
        model = LastOutput()
    layers = "all,LSTM" if kind == "lstm" else "all"
    mask = prune(model, strategy, density=0.3, examples=(x, torch.arange(6) % 3), prunable_layers=layers)
    assert mask.kept == round(0.3 * mask.total)


class LastOutput(nn.Module):
    """An LSTM and a classifier of its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(8, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(self.lstm(x)[0][:, -1])
        return out


class TwoInputs(nn.Module):
    """Two branches that meet in a product."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.fc = nn.Linear(4, 6), nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(torch.tanh(self.left(left)) * self.right(right))
        return out
