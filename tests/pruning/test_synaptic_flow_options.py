"""Options of Synaptic-Flow: scores in train mode, inverted scores, and new random examples in every pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foundations.errors import UsageError
from foundations.examples import Rows, draw_examples
from pruning.compute_mask import mask_from_hparams
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.scoring.inputs import ScoringInputs
from tests.pruning.nets import LeNet, TinyNet

SHAPE = (2, 6, 6)


def scores_of(model: nn.Module, strategy: str, **options: Any) -> dict[str, torch.Tensor]:
    found: list[dict[str, torch.Tensor]] = []
    prune(model, strategy, density=0.3, on_iteration=lambda _number, _mask, scores: found.append(scores), **options)
    return found[0]


def flow(model: nn.Module, power: int) -> dict[str, torch.Tensor]:
    """Return s = w' ∂R/∂w' in train mode, where w' = |w|^power, for an example of ones."""
    network = copy.deepcopy(model).double().train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.abs() ** power)
    network(torch.ones(1, *SHAPE, dtype=torch.float64)).sum().backward()
    return {name: weight.detach() * torch.as_tensor(weight.grad) for name, weight in network.named_parameters()}


def test_synflow_in_train_mode_normalizes_by_the_example_of_ones() -> None:
    model = TinyNet()
    definition = flow(model, 1)
    for name, score in scores_of(model, "synflow", input_shape=SHAPE, score_in_train_mode=True).items():
        torch.testing.assert_close(score, definition[name].abs(), rtol=1e-9, atol=1e-12)


def test_synflowl2_in_train_mode() -> None:
    model = TinyNet()
    definition = flow(model, 2)
    for name, score in scores_of(model, "synflowl2", input_shape=SHAPE, score_in_train_mode=True).items():
        torch.testing.assert_close(score, definition[name], rtol=1e-9, atol=1e-12)


def test_a_batchnorm_of_a_single_value_cannot_be_scored_in_train_mode() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 6), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))

    with pytest.raises(UsageError, match="batchnorm cannot normalize") as refused:
        prune(model, "synflow", input_shape=SHAPE, score_in_train_mode=True)

    assert refused.value.hparams == ("score_in_train_mode",)


@pytest.mark.parametrize("strategy", ["magnitude", "synflow"])
def test_inverting_scores_that_are_positive_prunes_the_highest(strategy: str) -> None:
    model = TinyNet()

    inverted = prune(model, strategy, density=0.2, input_shape=SHAPE, invert_scores=True)

    assert inverted == prune(model, strategy, density=0.2, input_shape=SHAPE, highest=True)


def test_inverted_scores_are_ranked_with_their_signs_and_zeros_last() -> None:
    """Magnitudes have no sign, so GraSP's scores are inverted; a layer without inputs has scores of zero."""
    torch.manual_seed(0)  # with weights that leave more units dead, more than half of the scores would be zero
    model = LeNet([4], 3, 5)
    x, y = torch.randn(6, 5), torch.tensor([0, 1, 2] * 2)
    x[:, 0] = 0
    plain = scores_of(model, "grasp2", examples=(x, y))

    mask = prune(model, "grasp2", density=0.5, examples=(x, y), invert_scores=True, highest=False)

    ranked = torch.cat([torch.where(s == 0, torch.inf, 1 / s.double()).flatten() for _, s in sorted(plain.items())])
    kept = torch.cat([mask[name].flatten() for name in sorted(mask)])
    assert mask.kept == 16
    assert ranked[kept].min() > ranked[~kept].max()
    assert mask["fc_layers.0.weight"][:, 0].all()


def test_what_has_no_scores_cannot_invert_them() -> None:
    with pytest.raises(UsageError, match="builds its mask without scores") as refused:
        PruningHparams.of({"strategy": "phew", "invert_scores": True})

    assert refused.value.hparams == ("invert_scores",)


def test_examples_are_drawn_once_and_shuffled_in_each_pass() -> None:
    of_pass = draw_examples(50, 20, seed=3)
    first, second = of_pass(0), of_pass(1)

    assert len(set(first.tolist())) == 20
    assert sorted(first.tolist()) == sorted(second.tolist())
    assert not torch.equal(first, second)
    assert torch.equal(first, draw_examples(50, 20, seed=3)(0))
    assert set(draw_examples(50, 20, seed=4)(0).tolist()) != set(first.tolist())


def test_more_examples_than_there_are_cannot_be_drawn() -> None:
    with pytest.raises(UsageError, match="51 examples are asked for, but there are 50"):
        draw_examples(50, 51, seed=0)


def numbered_passes(x: torch.Tensor, y: torch.Tensor, seen: list[int]) -> Any:
    """Return passes with inputs that grow with the number of the pass."""

    def examples(number: int) -> Rows:
        seen.append(number)
        return Rows.of(x + number, y)

    return examples


def test_every_iteration_has_a_pass_of_its_own() -> None:
    model, x, y = LeNet([4], 3, 5).double(), torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2] * 2)
    hparams = PruningHparams.of(
        {"strategy": "snip2", "score_examples": "drawn", "density": 0.5, "prune_iterations": 3}
    ).normalized(10)
    seen: list[int] = []
    found: list[tuple[Mask, dict[str, torch.Tensor]]] = []

    mask_from_hparams(
        model,
        hparams,
        ScoringInputs(seed=0, examples=numbered_passes(x, y, seen), batch_size=4, input_shape=(5,)),
        on_iteration=lambda _number, mask, scores: found.append((mask, scores)),
    )

    assert seen == [0, 1, 2]
    masked = copy.deepcopy(model)
    found[1][0].apply_(masked)
    F.cross_entropy(masked(x + 2), y).backward()
    for name, score in found[2][1].items():
        weight = masked.get_parameter(name)
        torch.testing.assert_close(score, (weight.detach() * torch.as_tensor(weight.grad)).abs())


def test_grasp_takes_its_gradient_from_one_pass_and_its_hessian_from_the_next() -> None:
    model, x, y = LeNet([4], 3, 5).double(), torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2] * 2)
    hparams = PruningHparams.of({"strategy": "grasp2", "score_examples": "drawn", "density": 0.5}).normalized(10)
    seen: list[int] = []
    found: list[dict[str, torch.Tensor]] = []

    mask_from_hparams(
        model,
        hparams,
        ScoringInputs(seed=0, examples=numbered_passes(x, y, seen), input_shape=(5,)),
        on_iteration=lambda _number, _mask, scores: found.append(scores),
    )

    assert seen == [0, 1]
    weights = {name: model.get_parameter(name) for name in found[0]}
    first, second = (F.cross_entropy(model(x + number) / 200, y) for number in (0, 1))
    gradient = torch.autograd.grad(first, list(weights.values()))
    own = torch.autograd.grad(second, list(weights.values()), create_graph=True)
    product = sum((a * b).sum() for a, b in zip(gradient, own, strict=True))
    for (name, weight), part in zip(
        weights.items(), torch.autograd.grad(torch.as_tensor(product), list(weights.values())), strict=True
    ):
        torch.testing.assert_close(found[0][name], -(weight * part).detach())


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_batches_count_alike_whatever_their_size_if_asked_for(micro_batch_size: int | None) -> None:
    """The loss is the mean of the mean losses of batches of 5, 5 and 2 examples."""
    model, x, y = LeNet([4], 3, 5).double(), torch.randn(12, 5, dtype=torch.float64), torch.arange(12) % 3
    weights = {name: parameter for name, parameter in model.named_parameters() if parameter.dim() > 1}

    def scored(strategy: str, **options: Any) -> dict[str, torch.Tensor]:
        found: list[dict[str, torch.Tensor]] = []
        given = {
            "examples": (x, y),
            "batch_size": 5,
            "micro_batch_size": micro_batch_size,
            "loss": mean_of_all,
            **options,
        }
        prune(model, strategy, density=0.5, on_iteration=lambda _n, _m, scores: found.append(scores), **given)
        return found[0]

    def mean_of_all(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(outputs, F.one_hot(labels, 3).to(outputs.dtype))

    def loss(temperature: float) -> torch.Tensor:
        batches = zip(x.split(5), y.split(5), strict=True)
        return torch.stack([mean_of_all(model(part) / temperature, labels) for part, labels in batches]).mean()

    gradient = dict(zip(weights, torch.autograd.grad(loss(1.0), list(weights.values())), strict=True))
    cooled = torch.autograd.grad(loss(200.0), list(weights.values()), create_graph=True)
    product = torch.stack([(part * part.detach()).sum() for part in cooled]).sum()
    hessian = dict(zip(weights, torch.autograd.grad(product, list(weights.values())), strict=True))
    alike = {"score_batches_equally": True}
    snip, grasp = scored("snip4", **alike), scored("grasp4", **alike)
    for name, weight in weights.items():
        torch.testing.assert_close(snip[name], (weight * gradient[name]).abs().detach())
        torch.testing.assert_close(grasp[name], -(weight * hessian[name]).detach())
    by_size = scored("snip4")
    assert not any(torch.allclose(by_size[name], snip[name]) for name in weights)


def test_equal_weights_of_batches_are_in_addresses_only_where_they_are_asked_for() -> None:
    given = {"strategy": "snip10", "prune_fraction": 0.5}

    def address(**more: Any) -> dict[str, Any]:
        return PruningHparams.of({**given, **more}).normalized(10).canonical()

    assert address() == given
    assert address(score_batches_equally=True) == {**given, "score_batches_equally": True}


def test_drawn_examples_of_the_library_are_so_many_times_the_classes() -> None:
    model = LeNet([4], 3, 5)
    sizes: list[int] = []

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(outputs))
        return F.cross_entropy(outputs, labels)

    prune(model, "snip2", examples=(torch.randn(30, 5), torch.arange(30) % 3), score_examples="drawn", loss=loss)

    assert sizes == [6]


def test_without_class_labels_nothing_can_be_drawn() -> None:
    with pytest.raises(UsageError, match="without class labels"):
        prune(LeNet([4], 3, 5), "snip2", examples=(torch.randn(6, 5), torch.randn(6, 3)), score_examples="drawn")
