from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.paths.connectivity import effective
from pruning.paths.graph import trace
from pruning.prune import prune
from tests.pruning.golden import Case, cases_of
from tests.pruning.nets import ResNet, TinyNet
from tests.pruning.published import kept_by_ours

SEEDS = range(12)
CASES = cases_of("phew_statistics")
WITH_SHORTCUTS = [name for name in CASES if "tensors_affected_by_the_residual_rule" in Case(name).description]
WITHOUT_SHORTCUTS = [name for name in CASES if name not in WITH_SHORTCUTS]


def masks(case: Case) -> list[Mask]:
    keep = case.description["target_kept"]
    return [prune(case.model(), "phew", keep=keep, seed=seed, input_shape=case.input_shape) for seed in SEEDS]


@pytest.mark.parametrize("name", CASES)
def test_the_published_walks_stop_at_the_floor_of_the_level_or_up_to_a_walk_beyond_it_where_ours_is_exact(
    name: str,
) -> None:
    case = Case(name)
    total, percent = case.description["total_weights"], case.options["prune_percent"]
    floor = int((1 - percent / 100) * total)
    length = len(case.description["order_of_tensors_along_a_walk"])
    assert case.description["target_kept"] == floor
    assert all(floor <= kept < floor + length for kept in case.description["kept_per_seed"])
    mask = prune(case.model(), "phew", fraction=case.options["prune_fraction"], input_shape=case.input_shape)
    assert mask.kept == kept_by_ours(total, case.options["prune_fraction"])
    assert mask.kept - floor in (0, 1)


@pytest.mark.parametrize("name", WITHOUT_SHORTCUTS)
def test_densities_of_layers_are_those_of_the_published_code_within_sampling_error(name: str) -> None:
    case = Case(name)
    found = masks(case)
    published = case.description["statistics"]["density_per_layer"]
    seeds = len(case.description["options"]["seeds"])
    for layer, theirs in published.items():
        mine = torch.tensor([mask.density_per_layer()[layer] for mask in found])
        allowed = 4 * theirs["std"] * (1 / seeds + 1 / len(found)) ** 0.5 + 0.005 * theirs["mean"]
        assert abs(mine.mean().item() - theirs["mean"]) <= allowed, layer


@pytest.mark.parametrize("name", WITH_SHORTCUTS)
def test_densities_on_a_resnet_are_those_of_a_walk_that_decides_about_a_shortcut_at_its_block(name: str) -> None:
    """The published forward walk decides one layer too early; the case has the result of the corrected walk."""
    case = Case(name)
    found = masks(case)
    mended = case.description["alternative_not_from_the_reference"]["density_per_layer_mean"]
    spread = case.description["statistics"]["density_per_layer"]
    seeds = len(case.options["seeds"])
    for layer, theirs in mended.items():
        mine = torch.tensor([mask.density_per_layer()[layer] for mask in found])
        allowed = 4 * spread[layer]["std"] * (1 / seeds + 1 / len(found)) ** 0.5 + 0.01 * theirs
        assert abs(mine.mean().item() - theirs) <= allowed, layer


@pytest.mark.parametrize("name", WITHOUT_SHORTCUTS)
def test_degrees_and_sizes_of_kept_weights_are_those_of_the_published_code_within_sampling_error(name: str) -> None:
    case = Case(name)
    found = masks(case)
    weights = dict(case.model().named_parameters())
    statistics = case.description["statistics"]
    for layer in found[0]:
        flat = [mask[layer].flatten(2) if mask[layer].dim() > 2 else mask[layer][:, :, None] for mask in found]
        size = weights[layer].detach().abs()
        mine = {
            "fraction_of_output_units_with_incoming_weight": [kept.any((1, 2)).double().mean() for kept in flat],
            "fraction_of_input_units_with_outgoing_weight": [kept.any((0, 2)).double().mean() for kept in flat],
            "mean_abs_of_kept_weights_over_mean_abs_of_all": [size[mask[layer]].mean() / size.mean() for mask in found],
        }
        for statistic, values in mine.items():
            theirs = statistics[statistic][layer]
            allowed = (
                4 * theirs["std"] * (1 / len(case.options["seeds"]) + 1 / len(found)) ** 0.5 + 0.005 * theirs["mean"]
            )
            assert abs(torch.stack(values).mean().item() - theirs["mean"]) <= allowed, (layer, statistic)


@pytest.mark.parametrize("kernels", [False, True])
def test_every_kept_weight_lies_on_a_path_from_input_to_output(kernels: bool) -> None:
    model = ResNet(20, 8)
    mask = prune(model, "phew", density=0.1, input_shape=(3, 32, 32), phew_kernels=kernels)
    assert effective(trace(model, (3, 32, 32)), mask) == mask


@pytest.mark.parametrize("density", [0.0, 0.0005, 0.01, 0.3, 0.9, 0.999, 1.0])
def test_the_count_is_exact_at_every_level(density: float) -> None:
    model = ResNet(8, 8)
    mask = prune(model, "phew", density=density, input_shape=(3, 32, 32))
    assert mask.kept == round(density * mask.total)


def test_walks_on_whole_kernels_keep_whole_kernels_but_for_the_last() -> None:
    mask = prune(ResNet(8, 8), "phew", density=0.2, input_shape=(3, 32, 32), phew_kernels=True)
    kernels = torch.cat([tensor.flatten(2).sum(2).flatten() for tensor in mask.values() if tensor.dim() == 4])
    whole = torch.cat([torch.full(t.shape[:2], t[0, 0].numel()).flatten() for t in mask.values() if t.dim() == 4])
    assert int(((kernels > 0) & (kernels < whole)).sum()) <= 20


def test_more_walks_extend_a_mask_and_reach_their_count() -> None:
    model = ResNet(8, 8)
    sparse = prune(model, "phew", density=0.02, input_shape=(3, 32, 32))
    denser = prune(model, "phew", density=0.06, mask=sparse, input_shape=(3, 32, 32), seed=1)
    assert denser.kept == round(0.06 * denser.total)
    assert denser.intersection(sparse) == sparse
    assert effective(trace(model, (3, 32, 32)), denser) == denser


def test_a_mask_with_more_weights_than_are_asked_for_cannot_be_extended() -> None:
    model = ResNet(8, 8)
    dense = prune(model, "phew", density=0.5, input_shape=(3, 32, 32))
    with pytest.raises(UsageError, match="cannot be kept"):
        prune(model, "phew", density=0.1, mask=dense, input_shape=(3, 32, 32))


def test_heavy_weights_are_walked_more_often() -> None:
    model = TinyNet(width=16)
    with torch.no_grad():
        model.conv.weight[0] *= 50
    kept = [prune(model, "phew", density=0.05, input_shape=(2, 8, 8), seed=seed)["conv.weight"] for seed in range(8)]
    share = torch.stack([mask[0].sum() / mask.sum() for mask in kept]).mean()
    assert share > 2 / 16


def test_the_seed_alone_decides() -> None:
    model = ResNet(8, 4)
    first = prune(model, "phew", density=0.1, input_shape=(3, 32, 32), seed=5)
    torch.manual_seed(99)
    again = prune(model, "phew", density=0.1, input_shape=(3, 32, 32), seed=5)
    other = prune(model, "phew", density=0.1, input_shape=(3, 32, 32), seed=6)
    assert first == again != other


@pytest.mark.parametrize(
    "build",
    [
        lambda: torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 2, 1, 1], num_classes=10),
        lambda: torchvision.models.DenseNet(8, (2, 3), 16, num_classes=10),
        lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
    ],
    ids=["bottlenecks", "concatenations", "grouped convolutions and gates"],
)
def test_walks_run_on_networks_of_any_wiring(build: Callable[[], nn.Module]) -> None:
    with torch.random.fork_rng():
        model = build()
    mask = prune(model, "phew", density=0.02, input_shape=(3, 32, 32))
    assert mask.kept == round(0.02 * mask.total)
    assert effective(trace(model, (3, 32, 32)), mask) == mask


class TakingTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.fc(x + y)


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (TakingTwo(), (torch.ones(6, 4), torch.ones(6, 4)), "strategy: .* takes several"),
        (TakingTwo(), {"x": torch.ones(6, 4), "y": torch.ones(6, 4)}, "strategy: .* takes several"),
        (nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3)), torch.ones(6, 2, dtype=torch.int64), "takes tokens"),
    ],
)
def test_networks_of_other_inputs_than_one_tensor_of_numbers_are_refused(
    model: nn.Module, inputs: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        prune(model, "phew", density=0.5, examples=(inputs, torch.arange(6) % 3))
