"""Weights that layers compute from other parameters are pruned by their kind, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import prune as torch_prune

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.weights.named_weights import plain_copy
from pruning.wrapper.wrapper import PruningWrapper

NORMS: dict[str, Callable[[nn.Module, str, Any], object]] = {
    "parametrization": lambda layer, name, dim: parametrizations.weight_norm(layer, name, dim),
    "older hook": lambda layer, name, dim: nn.utils.weight_norm(layer, name, dim),
}
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")


def network() -> Any:
    return nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 10))


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("how", NORMS)
def test_a_mask_of_a_normed_weight_zeroes_it_and_changes_nothing_else(how: str, dim: int | None) -> None:
    model = network()
    NORMS[how](model[2], "weight", dim)
    before = model[2].weight.detach().clone()
    kept = torch.rand(20, 20) < 0.5
    kept[3], kept[:, 4] = False, False
    mask = Mask({"2.weight": kept}, model)

    mask.apply_(model)

    torch.testing.assert_close(model[2].weight.detach(), before * kept)
    assert not model[2].weight[~kept].any()


@pytest.mark.parametrize("how", NORMS)
@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01), torch.optim.Adam])
def test_a_normed_weight_stays_masked_while_it_trains(how: str, make: Callable[..., torch.optim.Optimizer]) -> None:
    model, x, y = network(), torch.randn(50, 8), torch.arange(50) % 10
    NORMS[how](model[2], "weight", 0)
    kept = torch.rand(20, 20) < 0.5
    kept[3] = False
    optimizer = make(model.parameters())
    Mask({"2.weight": kept}, model).attach(optimizer)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        model(x)  # the older hook computes the weight in the forward pass
        assert not model[2].weight[~kept].any()
    assert model[2].weight[kept].all()
    assert model[2].weight.isfinite().all()


@pytest.mark.parametrize("how", NORMS)
@pytest.mark.parametrize("strategy", ["magnitude", "snip2", "synflow", "grasp2", "fisher2"])
def test_a_normed_weight_scores_as_the_weight_itself(how: str, strategy: str) -> None:
    model, examples = network(), (torch.randn(50, 8), torch.arange(50) % 10)
    NORMS[how](model[2], "weight", 0)
    plain = network()
    weights = {"2.weight": model[2].weight.detach(), "2.bias": model[2].bias.detach()}
    plain.load_state_dict({**{k: v for k, v in model.state_dict().items() if k in plain.state_dict()}, **weights})

    mask = prune(model, strategy, density=0.3, examples=examples)

    assert mask == prune(plain, strategy, density=0.3, examples=examples)
    assert mask.total == 760


def test_the_mask_of_torchs_pruning_is_the_one_to_start_from() -> None:
    model = network()
    torch_prune.l1_unstructured(model[0], "weight", 0.5)
    pruned = model[0].weight_mask == 0

    mask = prune(model, "magnitude", density=0.4)

    assert (mask.total, mask.kept) == (760, 304)
    assert not mask["0.weight"][pruned].any()
    with pytest.raises(UsageError, match=r"with what torch\.nn\.utils\.prune masks keeps 680"):
        prune(model, "magnitude", density=0.95)
    mask.apply_(model)
    assert not model[0].weight[~mask["0.weight"]].any()


def test_a_layer_that_torch_pruned_trains_with_the_mask() -> None:
    model, x, y = network(), torch.randn(50, 8), torch.arange(50) % 10
    torch_prune.random_unstructured(model[0], "weight", 0.5)
    mask = prune(model, "snip2", density=0.2, examples=(x, y))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    mask.attach(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model(x)
    assert not model[0].weight[~mask["0.weight"]].any()
    assert model[0].weight.count_nonzero() == mask["0.weight"].sum()


def test_a_constructive_method_refuses_what_torch_pruned() -> None:
    model = network()
    torch_prune.l1_unstructured(model[0], "weight", 0.5)
    with pytest.raises(UsageError, match=r"'0\.weight' is masked by torch\.nn\.utils\.prune"):
        prune(model, "phew", density=0.5, input_shape=(8,))


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


REFUSED: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "spectral_norm": (parametrizations.spectral_norm, "remove_parametrizations(model.get_submodule('2'), 'weight')"),
    "older spectral_norm": (nn.utils.spectral_norm, "remove_spectral_norm(model.get_submodule('2'), 'weight')"),
    "orthogonal": (parametrizations.orthogonal, "remove_parametrizations(model.get_submodule('2'), 'weight')"),
    "one's own": (
        lambda layer: parametrize.register_parametrization(layer, "weight", Doubled()),
        "remove_parametrizations(model.get_submodule('2'), 'weight')",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_another_parametrization_is_refused_by_the_line_that_removes_it(kind: str) -> None:
    model = network()
    parametrizing, line = REFUSED[kind]
    parametrizing(model[2])
    for use in (lambda: prune(model, "magnitude", density=0.2), lambda: Mask.ones(model)):
        with pytest.raises(UsageError, match=r"'2\.weight' is computed by") as refused:
            use()
        assert line in str(refused.value)
    exec(str(refused.value).split("pruning: ")[1].split(";")[0], {"torch": torch, "model": model})
    assert prune(model, "magnitude", density=0.2).total == 760


def test_layers_beside_a_refused_one_can_be_chosen() -> None:
    model = network()
    parametrizations.orthogonal(model[2])
    mask = prune(model, "snip1", density=0.5, examples=(torch.randn(10, 8), torch.arange(10)), prunable_layers="0,4")
    assert list(mask) == ["0.weight", "4.weight"]


def test_a_plain_copy_computes_the_same_and_leaves_the_network_parametrized() -> None:
    model, x = network(), torch.randn(5, 8)
    parametrizations.orthogonal(model[0])
    parametrizations.weight_norm(model[2])
    nn.utils.spectral_norm(model[4])
    model.eval()
    outputs = model(x)
    plain = plain_copy(model)
    torch.testing.assert_close(plain(x), outputs)
    assert {name for name, _ in plain.named_parameters()} == {f"{i}.{n}" for i in (0, 2, 4) for n in ("weight", "bias")}
    assert torch.equal(model(x), outputs)
    assert parametrize.is_parametrized(model[0])


@pytest.mark.parametrize("how", [*NORMS, "torch.nn.utils.prune", "DataParallel inside"])
def test_a_wrapper_prunes_and_holds_weights_of_every_kind(how: str) -> None:
    model, x, y = network(), torch.randn(50, 8), torch.arange(50) % 10
    if how in NORMS:
        NORMS[how](model[2], "weight", 0)
    elif how == "torch.nn.utils.prune":
        torch_prune.l1_unstructured(model[2], "weight", 0.5)
    else:
        model = nn.Sequential(nn.DataParallel(model[:3]), *model[3:])
    wrapper = PruningWrapper(model, 0.5, "cpu", None)
    assert wrapper.mask.kept == (560 if how == "torch.nn.utils.prune" else 760)
    optimizer = torch.optim.SGD(wrapper.parameters(), 0.1, 0.9)
    for _ in range(2):
        mask = wrapper.prune_weights()
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(wrapper(x), y).backward()
            optimizer.step()
            wrapper(x)
            assert all(not weight[~mask[name]].any() for name, weight in mask.values_in(model).items())
    assert mask.total == 760
    assert mask.kept == (140 if how == "torch.nn.utils.prune" else 190)
