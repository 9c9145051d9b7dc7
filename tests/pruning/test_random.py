"""Random pruning as a distribution. Seeds are fixed, so each test passes or fails for good.

Bounds are 5.5 standard deviations or more from the expectation: with other seeds, a correct implementation would fail a
test with a probability below 1e-5.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pruning.prune import prune

SIZES = {"tiny": (10, 30), "small": (30, 100), "medium": (100, 300), "large": (300, 1000)}


def layers(shapes: dict[str, tuple[int, int]]) -> nn.Module:
    """Return linear layers that are never run: random scores need neither examples nor values."""
    return nn.ModuleDict({name: nn.Linear(inputs, outputs, bias=False) for name, (outputs, inputs) in shapes.items()})


def scores_of(model: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    found: list[dict[str, torch.Tensor]] = []
    prune(model, "random", density=0.5, seed=seed, on_iteration=lambda _number, _mask, scores: found.append(scores))
    return found[0]


@pytest.mark.parametrize("density", [0.02, 0.2, 0.7])
def test_layers_of_any_size_keep_their_share(density: float) -> None:
    """The number that a layer keeps of a fixed total is hypergeometric."""
    model, seeds = layers(SIZES), range(12)
    masks = [prune(model, "random", density=density, seed=seed) for seed in seeds]
    total, kept = masks[0].total, masks[0].kept
    for name, tensor in masks[0].items():
        share = tensor.numel() / total
        variance = kept * share * (1 - share) * (total - kept) / (total - 1)
        found = sum(mask.kept_per_layer()[name] for mask in masks)
        assert abs(found - len(seeds) * kept * share) <= 5.5 * math.sqrt(len(seeds) * variance), name


def test_scores_are_uniform_in_every_layer() -> None:
    """Counts in 20 bins are compared with their expectation by a chi-square statistic: mean 19, variance 38."""
    model, seeds = layers(SIZES), range(12)
    drawn = [scores_of(model, seed) for seed in seeds]
    for name in drawn[0]:
        values = torch.cat([scores[name].flatten() for scores in drawn])
        assert 0 <= values.min() < values.max() < 1
        expected = len(values) / 20
        statistic = ((values.histc(20, 0, 1) - expected) ** 2 / expected).sum().item()
        assert statistic <= 19 + 8 * math.sqrt(38), name


def test_layers_and_seeds_have_streams_of_their_own() -> None:
    """No two layers, of one seed or of two, agree in more or fewer weights than independent draws would."""
    model = layers(dict.fromkeys("abcd", (40, 50)))
    masks = [prune(model, "random", density=0.5, seed=seed) for seed in range(10)]
    rows = torch.stack([tensor.flatten().double() * 2 - 1 for mask in masks for tensor in mask.values()])
    agreement = rows @ rows.T / math.sqrt(rows.shape[1])
    assert agreement.fill_diagonal_(0).abs().max() <= 6


def test_layers_of_different_shapes_do_not_begin_with_the_same_scores() -> None:
    scores = scores_of(layers(SIZES), seed=0)
    first = {tuple(score.flatten()[:5].tolist()) for score in scores.values()}
    assert len(first) == len(SIZES)


def test_every_weight_of_a_layer_is_equally_likely_to_be_kept() -> None:
    model, seeds = layers({"a": (8, 8), "b": (4, 8)}), range(400)
    masks = [prune(model, "random", density=0.25, seed=seed) for seed in seeds]
    kept = torch.stack([torch.cat([tensor.flatten() for tensor in mask.values()]) for mask in masks]).double().sum(0)
    assert (kept - 100).abs().max() <= 5.5 * math.sqrt(400 * 0.25 * 0.75)
    assert ((kept - 100) ** 2 / 75).sum() <= 96 + 6 * math.sqrt(2 * 96)


def test_no_two_of_a_million_scores_are_equal() -> None:
    """With 53 bits a tie has a probability of 6e-5; with the 24 bits of float32 there would be thirty thousand."""
    scores = scores_of(layers({"a": (1000, 1000)}), seed=0)["a.weight"]
    assert len(scores.unique()) == scores.numel()


def test_iterations_and_other_layers_do_not_change_the_scores_of_a_layer() -> None:
    model = layers(SIZES)
    assert prune(model, "random", density=0.1, iterations=4) == prune(model, "random", density=0.1)
    alone = layers({"small": SIZES["small"]})
    assert torch.equal(scores_of(model, 3)["small.weight"], scores_of(alone, 3)["small.weight"])


def test_scores_do_not_depend_on_the_weights() -> None:
    assert prune(layers(SIZES), "random", density=0.1) == prune(layers(SIZES), "random", density=0.1)
