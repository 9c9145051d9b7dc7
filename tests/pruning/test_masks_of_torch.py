"""Masks of weights that their layers compute: of weight_norm, and of torch.nn.utils.prune."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.prune import prune

FORMS: list[Callable[[nn.Module], nn.Module]] = [
    nn.utils.weight_norm,
    lambda layer: nn.utils.weight_norm(layer, dim=None),  # type: ignore[arg-type]
    lambda layer: nn.utils.weight_norm(layer, dim=1),
    parametrizations.weight_norm,
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore")
def test_a_mask_of_normalized_weights_can_be_applied_again_and_changes_nothing(
    form: Callable[[nn.Module], nn.Module],
) -> None:
    torch.manual_seed(0)
    model = form(nn.Linear(50, 40))
    mask = prune(model, "random", fraction=0.7)
    mask.apply_(model)
    once = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(3):
        mask.apply_(model)
    assert all(torch.equal(value, once[name]) for name, value in model.state_dict().items())


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = nn.Linear(5, 5), nn.Linear(5, 5)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.other(torch.tanh(self.one(x)))


@pytest.mark.parametrize("strategy", ["snip2", "grasp2", "synflow", "fisher2"])
def test_layers_stay_tied_that_torch_pruned_alike(strategy: str) -> None:
    examples = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3
    model = Tied()
    kept = torch.rand(5, 5, generator=torch.Generator().manual_seed(2)) < 0.7
    with torch.no_grad():
        model.one.weight.masked_fill_(~kept, 0)
    start = {"one.weight": kept}
    plain = prune(model, strategy, keep=8, examples=examples, mask=Mask(start, model))
    for layer in (model.one, model.other):
        torch_prune.custom_from_mask(layer, "weight", kept)
    assert prune(model, strategy, keep=8, examples=examples) == plain


def test_a_level_that_keeps_more_than_torch_left_is_refused_by_its_name() -> None:
    model = nn.Linear(4, 5)
    torch_prune.random_unstructured(model, "weight", 0.5)
    with pytest.raises(UsageError, match=r"16 of 20 weights .* with what torch\.nn\.utils\.prune masks keeps 10"):
        prune(model, "magnitude", density=0.8)
