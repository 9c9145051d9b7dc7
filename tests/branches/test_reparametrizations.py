"""Weights in parts: masks of torch.nn.utils.prune, weight_norm, and refused reparametrizations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from foundations.errors import DamagedError
from tests.branches.importing import Importer, behind, pruned_by_torch, state_of
from tests.branches.small_branches import branch, mask_of


@pytest.mark.parametrize("prefix", ["", "module."])
def test_masks_of_torch_prune_become_the_mask_of_the_run(importer: Importer, network: nn.Module, prefix: str) -> None:
    pruned = pruned_by_torch(network)
    effective = {name: layer.weight for name, layer in pruned.named_modules() if isinstance(layer, nn.Linear)}

    run = importer.saved(behind(prefix, pruned.state_dict()))

    mask, state = mask_of(run), state_of(run)
    assert {name.removesuffix(".weight") for name in mask} == effective.keys()
    assert all(torch.equal(state[f"{name}.weight"], weight) for name, weight in effective.items())
    assert all(torch.equal(mask[f"{name}.weight"], weight != 0) for name, weight in effective.items())
    assert f"2 masks of torch.nn.utils.prune: {mask.sparsity:.1%} pruned" in importer.said
    assert run.manifest().results["sparsity"] == mask.sparsity  # type: ignore[union-attr]


def test_masks_beside_their_weights_become_the_mask_of_the_run(importer: Importer, weights: dict[str, Tensor]) -> None:
    masks = {f"{name}_mask": (tensor > 0.01).float() for name, tensor in weights.items() if name.endswith("weight")}
    masks |= {f"{name}_mask": torch.ones_like(tensor) for name, tensor in weights.items() if name.endswith("bias")}

    run = importer.saved(behind("module.", {**weights, **masks}))

    mask, state = mask_of(run), state_of(run)
    assert list(mask) == ["fc.weight", "fc_layers.0.weight"]
    assert all(torch.equal(mask[name], masks[f"{name}_mask"].bool()) for name in mask)
    assert all(torch.equal(state[name], weights[name] * mask[name]) for name in mask)
    assert f"4 masks beside their weights: {mask.sparsity:.1%} pruned" in importer.said


def test_names_like_parts_without_the_other_part_stay_as_they_are(
    importer: Importer, weights: dict[str, Tensor]
) -> None:
    for name in ("attention_mask", "fc.scale_g", "fc.scale_v", "fc.weight_g", "fc.bias_orig"):
        with pytest.raises(DamagedError, match=rf"Unexpected: 1 in the file \({name}\)"):
            importer.saved({**weights, name: torch.ones(3)})


def test_a_branch_of_a_pruned_import_prunes_within_its_mask(importer: Importer, network: nn.Module) -> None:
    run = importer.saved(pruned_by_torch(network).state_dict())

    found = branch(importer.context, "oneshot", run, density=0.1).run

    mask = mask_of(found)
    assert mask.intersection(mask_of(run)) == mask
    assert mask.density == pytest.approx(0.1, abs=0.001)


def test_weights_without_a_mask_count_as_kept_and_masks_of_biases_are_obeyed(
    importer: Importer, network: nn.Module
) -> None:
    prune.l1_unstructured(network.get_submodule("fc"), "weight", amount=0.5)
    prune.identity(network.get_submodule("fc"), "bias")
    mask = mask_of(importer.saved(network.state_dict()))
    assert list(mask) == ["fc.weight", "fc_layers.0.weight"]
    assert (mask.kept, mask.total) == (16 * 64 + 80, 16 * 64 + 160)
    assert "left out 1 mask where nothing is pruned: fc.bias" in importer.said

    prune.random_unstructured(network.get_submodule("fc"), "bias", amount=0.5)
    run = importer.saved(network.state_dict())
    mask = mask_of(run)
    assert int(mask["fc.bias"].sum()) == 5
    found = branch(importer.context, "oneshot", run, density=0.5).run
    last = found.load_state(found.kept_states(6)[-1])
    assert torch.equal(mask_of(found)["fc.bias"], mask["fc.bias"])
    assert not last["fc.bias"][~mask["fc.bias"]].any() and last["fc.bias"].any()


def test_a_run_with_a_mask_has_another_address_than_one_of_the_same_zeros(
    importer: Importer, network: nn.Module
) -> None:
    pruned = pruned_by_torch(network)
    masked = importer.saved(pruned.state_dict())
    zeros = importer.saved(state_of(masked))

    assert masked.location != zeros.location and masked.has_mask() and not zeros.has_mask()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda mask: mask * 2, "entries other than 0 and 1"),
        (lambda mask: mask[:1], "the mask of 'fc.weight' is of shape"),
    ],
)
def test_a_mask_that_is_none_is_refused(
    importer: Importer, network: nn.Module, change: Callable[[Tensor], Tensor], words: str
) -> None:
    state = pruned_by_torch(network).state_dict()
    state["fc.weight_mask"] = change(state["fc.weight_mask"])

    with pytest.raises(DamagedError, match=words):
        importer.saved(state)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weights_of_weight_norm_are_computed(
    importer: Importer, network: nn.Module, norm: Callable[..., nn.Module], dim: int | None
) -> None:
    layer = network.get_submodule("fc")
    norm(layer, dim=dim)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.endswith(("_g", "original0")):
                parameter.mul_(3)
    layer(torch.zeros(1, 16))  # the former weight_norm computes its weight in each pass
    weight = layer.weight

    run = importer.saved(behind("module.", network.state_dict()))

    assert isinstance(weight, Tensor) and torch.allclose(state_of(run)["fc.weight"], weight, rtol=1e-6)
    assert "computed 1 weight from the two parts of weight_norm" in importer.said and not run.has_mask()


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_a_mask_of_the_direction_of_weight_norm_is_that_of_the_weight(importer: Importer, network: nn.Module) -> None:
    layer = network.get_submodule("fc")
    nn.utils.weight_norm(layer)
    prune.l1_unstructured(layer, "weight_v", amount=0.5)

    run = importer.saved(network.state_dict())

    assert torch.equal(mask_of(run)["fc.weight"], state_of(run)["fc.weight"] != 0)
    assert int(mask_of(run)["fc.weight"].sum()) == 80


@pytest.mark.filterwarnings("ignore:.*spectral_norm.* is deprecated")
@pytest.mark.parametrize(
    "change",
    [nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.orthogonal, nn.utils.spectral_norm],
)
def test_other_parametrizations_are_refused_with_what_to_do(
    importer: Importer, network: nn.Module, change: Callable[[nn.Module], nn.Module]
) -> None:
    change(network.get_submodule("fc"))

    with pytest.raises(
        DamagedError, match=r"'fc.weight' has a (parametrization|spectral_norm)(.|\n)*Before saving, call"
    ):
        importer.saved(network.state_dict())
