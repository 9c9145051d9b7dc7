"""Saliencies from second derivatives against the published code, and against their definitions in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from foundations.errors import UsageError
from foundations.examples import Rows
from pruning.compute_mask import mask_from_hparams, scores_from_hparams
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.methods import hutchinson
from pruning.prune import prune
from pruning.scoring.inputs import ScoringInputs
from tests.pruning.golden import Case, assert_scores_agree, cases_where, difference
from tests.pruning.nets import TinyNet

pytestmark = pytest.mark.filterwarnings("ignore::pruning.prune.CollapseWarning")
Scores = dict[str, torch.Tensor]
CRITERIA = {
    "grad_norm": ("grad_norm1", {}),
    "fisher_diag": ("fisher1", {"saliency": "diagonal"}),
    "fisher_pruner": ("fisher1", {}),
    "fts": ("fisher1", {"saliency": "taylor_plus"}),
    "hutch_diag": ("hutchinson1", {"saliency": "diagonal"}),
    "hutch_pruning": ("hutchinson1", {}),
    "hts": ("hutchinson1", {"saliency": "taylor_plus"}),
}
"""The published criteria by our names and options."""


def published_hparams(case: Case) -> PruningHparams:
    options = case.options
    strategy, own = CRITERIA[options["criterion"]]
    also = case.description["pruned_tensors_that_are_not_conv_or_linear"]
    given: dict[str, Any] = {
        "strategy": strategy,
        "prune_fraction": options["sparsity"],
        "rounding": "second_order",
        "score_in_eval_mode": True,
        "score_batches_equally": True,
        "prunable_layers": ",".join(["all_but_classifier", *also]),
    }
    if strategy == "fisher1":
        given["fisher_per_batch"] = options["batch_size"] > 1
    if strategy == "hutchinson1":
        temperature = options["temperature"]
        given |= {
            "hessian_probes": options["num_samples"],
            "curvature_temperature": temperature,
            "gradient_temperature": temperature,
        }
    return PruningHparams.of({**given, **own})


def recorded_probes(case: Case) -> Any:
    """Return a function in the place of `hutchinson.probe` that gives the probes of a case."""
    probes = case.tensors("probes")

    def probe(_scoring: Any, like: Scores, number: int) -> Scores:
        if "probes" not in probes:
            return {name: probes[f"{number}.{name}"].to(tensor.dtype) for name, tensor in like.items()}
        names = sorted(like)
        signs = torch.from_numpy(np.unpackbits(probes["probes"][number].numpy())).float() * 2 - 1
        parts = signs[: sum(like[name].numel() for name in names)].split([like[name].numel() for name in names])
        return {name: part.view(like[name].shape) for name, part in zip(names, parts, strict=True)}

    return probe


@pytest.mark.parametrize("name", cases_where(lambda case: case.description["method"].startswith("second_order")))
def test_scores_and_masks_are_those_of_the_published_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, scores = Case(name), []
    if case.has("probes"):
        monkeypatch.setattr(hutchinson, "probe", recorded_probes(case))
    inputs = ScoringInputs(seed=0, examples=Rows.of(*case.examples), batch_size=case.options["batch_size"])

    mask = mask_from_hparams(
        case.model(), published_hparams(case), inputs, on_iteration=lambda _n, _m, found: scores.append(found)
    )

    theirs = {name: score for name, score in case.tensors("scores").items() if name in mask}
    assert_scores_agree({name: scores[0][name] for name in theirs}, theirs, 1.0, case.tolerance)
    assert mask.kept == case.description["mask_counts"]["kept"]
    if case.has("mask"):
        assert difference(mask, case.mask()) == (0, 0)


def problem() -> tuple[TinyNet, torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(1)
    return TinyNet(width=2).double(), torch.randn(9, 2, 6, 6, generator=source).double(), torch.tensor([0, 1, 2] * 3)


def scores_of(strategy: str, batch_size: int = 4, **options: Any) -> Scores:
    model, x, y = problem()
    hparams = PruningHparams.of({"strategy": strategy, "score_in_eval_mode": True, **options})
    inputs = ScoringInputs(seed=0, examples=Rows.of(x, y), batch_size=batch_size)
    return scores_from_hparams(model, hparams, inputs, Mask.ones(model))


def moments(temperature: float = 1.0, size: int = 1) -> tuple[Scores, Scores, Scores]:
    """Return weights, mean gradients and mean squared gradients of batches of a size, by a plain loop in eval mode."""
    model, x, y = problem()
    model.eval()
    weights = {name: parameter for name, parameter in model.named_parameters() if name in Mask.ones(model)}
    mean, square = ({name: torch.zeros_like(weight) for name, weight in weights.items()} for _ in range(2))
    for a, b in zip(x.split(size), y.split(size), strict=True):
        found = torch.autograd.grad(F.cross_entropy(model(a) / temperature, b), list(weights.values()))
        for name, gradient in zip(weights, found, strict=True):
            mean[name] += len(b) / 9 * gradient
            square[name] += len(b) / 9 * gradient**2
    return {name: weight.detach() for name, weight in weights.items()}, mean, square


def assert_equal(mine: Scores, theirs: Scores) -> None:
    assert_scores_agree(mine, theirs, 1.0, 1e-10)


def test_the_saliencies_of_fisher_are_as_defined() -> None:
    w, g, e = moments()
    half = {name: 0.5 * w[name] ** 2 * e[name] for name in w}
    assert_equal(scores_of("grad_norm3"), {name: g[name].abs() for name in w})
    assert_equal(scores_of("fisher3"), half)
    assert_equal(scores_of("fisher3", saliency="diagonal"), e)
    assert_equal(scores_of("fisher3", saliency="taylor"), {name: (half[name] - w[name] * g[name]).abs() for name in w})
    plus = {name: (half[name] + w[name] * g[name]).abs() for name in w}
    assert_equal(scores_of("fisher3", saliency="taylor_plus"), plus)


def test_squares_of_batches_and_temperatures_are_as_defined() -> None:
    assert_equal(scores_of("fisher3", saliency="diagonal", fisher_per_batch=True), moments(size=4)[2])
    (w, g, _), (_, _, e) = moments(5.0), moments(3.0)
    expected = {name: (0.5 * w[name] ** 2 * e[name] - w[name] * g[name]).abs() for name in w}
    options: dict[str, Any] = {"saliency": "taylor", "curvature_temperature": 3.0, "gradient_temperature": 5.0}
    assert_equal(scores_of("fisher3", **options), expected)
    assert_equal(scores_of("fisher3", batch_size=1, fisher_per_batch=True, **options), expected)


@pytest.mark.parametrize("temperature", [1.0, 7.0])
def test_hutchinson_is_the_mean_of_products_of_hessians_of_batches_with_their_probes(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[int, Scores] = {}
    original = hutchinson.probe

    def probe(scoring: Any, like: Scores, number: int) -> Scores:
        drawn[number] = original(scoring, like, number)
        return drawn[number]

    monkeypatch.setattr(hutchinson, "probe", probe)
    mine = scores_of("hutchinson3", saliency="diagonal", hessian_probes=2, curvature_temperature=temperature)

    model, x, y = problem()
    model.eval()
    parameters = dict(model.named_parameters())
    names = list(parameters)
    sizes = [parameters[name].numel() for name in names]
    expected = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for number, (a, b) in enumerate(zip(x.split(4), y.split(4), strict=True)):
        loss = F.cross_entropy(model(a) / temperature, b)
        flat = torch.cat(
            [part.flatten() for part in torch.autograd.grad(loss, list(parameters.values()), create_graph=True)]
        )
        for sample in range(2):
            signs = torch.cat([drawn[2 * number + sample][name].flatten() for name in names])
            product = torch.autograd.grad((flat * signs).sum(), list(parameters.values()), retain_graph=True)
            for name, part, sign in zip(names, product, signs.split(sizes), strict=True):
                expected[name] += len(b) / 9 / 2 * part * sign.view(part.shape)
    assert set(drawn) == set(range(6))
    assert all((sign.abs() == 1).all() for signs in drawn.values() for sign in signs.values())
    assert_equal(mine, {name: expected[name] for name in mine})


class Separable(nn.Module):
    """Σ_i cos(w_i x_i): its Hessian is diagonal."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cos(self.layer.weight * x).sum(1)


@pytest.mark.parametrize("saliency", ["obd", "diagonal", "taylor"])
def test_a_diagonal_hessian_is_estimated_without_error_whatever_the_probes(saliency: str) -> None:
    model, x = Separable().double(), torch.randn(8, 6, dtype=torch.float64)
    found: list[Scores] = []
    prune(
        model,
        "hutchinson4",
        density=0.5,
        examples=(x, torch.zeros(8, dtype=torch.float64)),
        loss=lambda outputs, _: outputs.mean(),
        hessian_probes=1,
        seed=5,
        saliency=saliency,
        on_iteration=lambda _n, _m, scores: found.append(scores),
    )
    w = model.layer.weight.detach()
    diagonal, gradient = (-(x**2) * torch.cos(w * x)).mean(0), (-x * torch.sin(w * x)).mean(0)
    half = 0.5 * w**2 * diagonal
    expected = {"obd": half, "diagonal": diagonal[None], "taylor": (half - w * gradient).abs()}[saliency]
    assert_equal(found[0], {"layer.weight": expected})


def test_probes_depend_on_the_seed_and_not_on_the_examples_in_memory_at_a_time() -> None:
    model, x, y = problem()

    def scores(seed: int, **options: Any) -> Scores:
        found: list[Scores] = []
        own = {"density": 0.5, "examples": (x, y), "seed": seed, "hessian_probes": 2, **options}
        prune(model, "hutchinson3", on_iteration=lambda _n, _m, part: found.append(part), **own)
        return found[0]

    assert_equal(scores(1), scores(1, micro_batch_size=2))
    assert any(not torch.allclose(scores(1)[name], score) for name, score in scores(2).items())


@pytest.mark.parametrize("as_loader", [False, True])
def test_a_warm_up_takes_batchnorms_statistics_from_all_training_examples(as_loader: bool) -> None:
    model, x, y = problem()
    training = (torch.cat((x, 3 * x + 1)), y.repeat(2))
    given: Any = DataLoader(TensorDataset(*training), batch_size=6) if as_loader else training
    found: list[Scores] = []
    prune(
        model,
        "grad_norm3",
        density=0.5,
        examples=given,
        batch_size=6,
        batchnorm_warmup=True,
        on_iteration=lambda _n, _m, scores: found.append(scores),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.train()
    with torch.no_grad():
        for batch in training[0].split(6):
            model(batch)
    stored: list[Scores] = []
    chosen = {"examples": given, "batch_size": 6, "score_in_eval_mode": True}
    prune(model, "grad_norm3", density=0.5, on_iteration=lambda _n, _m, part: stored.append(part), **chosen)
    assert_equal(found[0], stored[0])


def test_statistics_from_two_sources_are_refused() -> None:
    with pytest.raises(UsageError, match="batchnorm_warmup, score_in_eval_mode: one sets"):
        PruningHparams.of({"strategy": "fisher10", "batchnorm_warmup": True, "score_in_eval_mode": True})


def test_the_published_roundings_count_as_their_code() -> None:
    model = nn.Linear(26515, 1, bias=False)
    assert prune(model, "magnitude", fraction=0.8, rounding="second_order").kept == 5302  # int(26515 * 0.19999...)
    assert prune(model, "magnitude", density=0.2, rounding="second_order").kept == 5302
    assert prune(model, "magnitude", fraction=0.8, rounding="prospr").kept == 5303
    assert prune(model, "magnitude", fraction=0.95, rounding="prospr").kept == 1326
    assert prune(model, "magnitude", fraction=0.999999, rounding="second_order").kept == 1
    assert prune(model, "magnitude", fraction=0.8).kept == 5303
    for rounding in ("prospr", "second_order"):
        with pytest.raises(UsageError, match=f"prune_iterations: with the rounding {rounding}, it takes 1"):
            prune(model, "magnitude", fraction=0.8, iterations=2, rounding=rounding)
        with pytest.raises(UsageError, match=f"allocation: with the rounding {rounding}"):
            prune(model, "magnitude", fraction=0.8, allocation="erk", rounding=rounding)
