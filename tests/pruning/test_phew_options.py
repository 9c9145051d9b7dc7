"""The ablations of PHEW: the probabilities of walks by their definitions, and whole 1x1 convolutions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.paths.connectivity import effective
from pruning.paths.graph import trace
from pruning.paths.walks import Group, Walks
from pruning.prune import prune
from tests.pruning.nets import ResNet

SHAPE = (2, 3, 3)
WALKS = 60_000
CONV, FC = "0.weight", "3.weight"
# Chi-square's 0.999 quantile by degrees of freedom.
LIMIT = {23: 49.73, 5: 20.52}


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(2, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).double()


def within_kernel(bias: str, w: torch.Tensor) -> torch.Tensor:
    return {
        "magnitude": w.abs(),
        "uniform": torch.ones_like(w),
        "inverse": 1 / (w.abs() + 1e-5),
        "squared": w**2,
    }[bias]


def between_kernels(bias: str, w: torch.Tensor) -> torch.Tensor:
    size = w.abs().flatten(2).sum(2)
    return {"uniform": torch.ones_like(size), "inverse": 1 / size}.get(bias, within_kernel(bias, w).flatten(2).sum(2))


def expected(bias: str, model: nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """Return the probability that a walk passes each weight, forward and backward, by the definition of the walk."""
    conv, fc = (dict(model.named_parameters())[name].detach() for name in (CONV, FC))
    kernel = within_kernel(bias, conv).flatten(2)
    kernel = kernel / kernel.sum(2, keepdim=True)
    first, last = between_kernels(bias, conv), between_kernels(bias, fc[:, :, None])
    to = first / first.sum(0) / 2  # (hidden, inputs); each of two inputs in turn
    to_last = to.sum(1) * last / last.sum(0)
    back = last / last.sum(1, keepdim=True) / 2
    back_first = back.sum(0)[:, None] * first / first.sum(1, keepdim=True)
    return {
        "forward": {CONV: to[..., None] * kernel, FC: to_last},
        "backward": {CONV: back_first[..., None] * kernel, FC: back},
    }


def watch_walks(monkeypatch: pytest.MonkeyPatch) -> list[Group]:
    """Let each method's walks begin with 60,000 of each direction, which are put into the list that is returned."""
    drawn: list[Group] = []
    seen: list[Walks] = []

    def watched(walks: Walks, count: int, plain: Any = Walks.next) -> Group:
        if walks not in seen:
            seen.append(walks)
            drawn.append(plain(walks, 2 * WALKS))
        found: Group = plain(walks, count)
        return found

    monkeypatch.setattr(Walks, "next", watched)
    return drawn


@pytest.mark.parametrize("bias", ["magnitude", "uniform", "inverse", "squared"])
def test_walks_pass_weights_with_the_probabilities_of_their_definition(
    bias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, drawn = net(), watch_walks(monkeypatch)
    prune(model, "phew", density=0.5, input_shape=SHAPE, phew_bias=bias)

    walkers, places = drawn[0]
    sizes = [24, 6]
    for parity, direction in enumerate(("forward", "backward")):
        counts = torch.bincount(places[walkers % 2 == parity], minlength=sum(sizes)).double().split(sizes)
        for count, (name, chance) in zip(counts, expected(bias, model)[direction].items(), strict=True):
            wanted = chance.flatten() * WALKS
            statistic = ((count - wanted) ** 2 / wanted).sum().item()
            assert count.sum() == WALKS
            assert statistic < LIMIT[len(wanted) - 1], (direction, name)


@pytest.mark.parametrize("bias", ["magnitude", "uniform", "inverse", "squared"])
def test_walks_on_whole_kernels_pass_pairs_of_channels_with_the_probabilities_of_their_definition(
    bias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, drawn = net(), watch_walks(monkeypatch)
    prune(model, "phew", density=0.9, input_shape=SHAPE, phew_bias=bias, phew_kernels=True)

    walkers, places = drawn[0]
    for parity, direction in enumerate(("forward", "backward")):
        conv, fc = torch.bincount(places[walkers % 2 == parity], minlength=30).double().split([24, 6])
        of_kernels = conv.view(6, 4)
        assert torch.equal(of_kernels, of_kernels[:, :1].expand(6, 4))
        chances = expected(bias, model)[direction]
        for count, chance in ((of_kernels[:, 0], chances[CONV].sum(2)), (fc, chances[FC])):
            wanted = chance.flatten() * WALKS
            assert count.sum() == WALKS
            assert ((count - wanted) ** 2 / wanted).sum().item() < LIMIT[5], direction


def test_a_preference_for_light_weights_keeps_smaller_ones() -> None:
    model = ResNet(8, 8)
    size = {name: parameter.detach().abs() for name, parameter in model.named_parameters()}
    found = {
        bias: prune(model, "phew", density=0.05, input_shape=(3, 32, 32), phew_bias=bias)
        for bias in ("inverse", "uniform", "magnitude", "squared")
    }
    means = [sum(size[name][mask[name]].sum() for name in mask) / mask.kept for mask in found.values()]
    assert means == sorted(means)
    assert len({mask.kept for mask in found.values()}) == 1


def kernel_phew(model: nn.Module, density: float) -> Mask:
    return prune(model, "phew", density=density, input_shape=(3, 32, 32), phew_kernels=True, phew_fill_1x1=True, seed=2)


def test_filled_1x1_convolutions_are_kept_whole_and_counted() -> None:
    model = ResNet(8, 8)
    mask = kernel_phew(model, 0.2)
    projections = [name for name, tensor in mask.items() if tensor.dim() == 4 and tensor.shape[-1] == 1]
    assert projections
    assert all(mask[name].all() for name in projections)
    assert mask.kept == round(0.2 * mask.total)
    on_paths = effective(trace(model, (3, 32, 32)), mask)
    assert all(torch.equal(on_paths[name], mask[name]) for name in mask if name not in projections)


def test_no_walk_takes_a_shortcut_of_filled_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = watch_walks(monkeypatch)
    model = ResNet(8, 8)
    for fill in (False, True):
        prune(model, "phew", density=0.2, input_shape=(3, 32, 32), phew_fill_1x1=fill)

    ones = Mask.ones(model)
    layer = torch.cat([torch.full((tensor.numel(),), index) for index, tensor in enumerate(ones.values())])
    walked = [{list(ones)[index] for index in layer[places].unique().tolist()} for _, places in drawn]
    projections = {name for name, tensor in ones.items() if tensor.dim() == 4 and tensor.shape[-1] == 1}
    assert walked[0] == set(ones)
    assert walked[1] == set(ones) - projections
    assert torch.bincount(drawn[1][0]).unique().tolist() == [len(ones) - len(projections)]


def test_a_level_below_the_filled_convolutions_is_refused() -> None:
    with pytest.raises(UsageError, match="phew_fill_1x1.*1x1 convolutions, .* the level leaves"):
        kernel_phew(ResNet(8, 8), 0.001)


def test_levels_one_after_another_are_reached_by_walks_that_are_new() -> None:
    """Small steps from mask to mask keep many more weights than the largest: all of them are walked."""
    model = ResNet(8, 8)
    mask = prune(model, "phew", density=0.05, input_shape=(3, 32, 32))
    for density in torch.linspace(0.06, 0.5, 45).tolist():
        before, mask = mask, prune(model, "phew", density=density, mask=mask, input_shape=(3, 32, 32))
        assert before.intersection(mask) == before
    at_once = prune(model, "phew", density=0.5, input_shape=(3, 32, 32))
    size = {name: parameter.detach().abs() for name, parameter in model.named_parameters()}
    means = [sum(size[name][each[name]].sum().item() for name in each) / each.kept for each in (mask, at_once)]
    assert means[0] == pytest.approx(means[1], rel=0.02)
