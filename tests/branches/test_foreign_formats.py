"""Weights in other formats, of other numbers and of other shapes."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from branches.imported.state_dicts import find_state
from branches.imported.tickets import export_ticket, import_ticket
from branches.openlth.files import import_openlth
from foundations.errors import DamagedError, UsageError
from pruning.masks.mask import Mask
from tests.branches.importing import Importer, behind, is_state, pruned_by_torch
from tests.branches.small_branches import mask_of
from tests.training.small_runs import train_desc
from training.job import initialized_model


def test_any_format_under_any_name_gives_the_same_run(importer: Importer, weights: dict[str, Tensor]) -> None:
    plain = importer.saved(weights).location
    written: list[Callable[[Path], object]] = [
        lambda path: torch.save(weights, path),
        lambda path: torch.save(weights, path, _use_new_zipfile_serialization=False),
        lambda path: save_file(weights, path),
        lambda path: path.write_bytes(npz_of(weights)),
        lambda path: torch.save({name: tensor.double() for name, tensor in weights.items()}, path),
    ]

    for write in written:
        for name in ("a.pt", "a.bin", "a.ckpt", "a.safetensors", "a.pth.tar", "a.npz", "a"):
            write(importer.path(name))
            assert importer.read(name).location == plain


def npz_of(weights: Mapping[str, Tensor]) -> bytes:
    target = io.BytesIO()
    np.savez_compressed(target, **{name: tensor.numpy() for name, tensor in weights.items()})  # type: ignore[arg-type]
    return target.getvalue()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_read_as_float32(
    importer: Importer, weights: dict[str, Tensor], dtype: torch.dtype
) -> None:
    run = importer.saved({name: tensor.to(dtype) for name, tensor in weights.items()})

    assert is_state(run, {name: tensor.to(dtype).float() for name, tensor in weights.items()})


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_weights_that_are_no_floating_point_numbers_are_refused(
    importer: Importer, weights: dict[str, Tensor], dtype: torch.dtype
) -> None:
    with pytest.raises(DamagedError, match="'fc_layers.0.weight' is of torch"):
        importer.saved({name: tensor.to(dtype) for name, tensor in weights.items()})


def with_outputs(weights: Mapping[str, Tensor], outputs: int) -> dict[str, Tensor]:
    return {
        name: torch.ones(outputs, *tensor.shape[1:]) if name.startswith("fc.") else tensor
        for name, tensor in weights.items()
    }


def test_weights_of_another_number_of_outputs_are_refused_with_the_flag_that_takes_them(
    importer: Importer, weights: dict[str, Tensor]
) -> None:
    more = with_outputs(weights, 1000)

    with pytest.raises(DamagedError, match=r"'fc.weight' is \(1000, 16\), here \(10, 16\)(.|\n)*--outputs=1000"):
        importer.saved(more)
    assert is_state(importer.saved(more, train_desc(outputs=1000)), more)
    with pytest.raises(DamagedError, match="5 outputs, too few for the 10 classes of 'digits'"):
        importer.saved(with_outputs(weights, 5))


def test_weights_of_other_shapes_are_refused_with_both(importer: Importer, weights: dict[str, Tensor]) -> None:
    narrow = {name: tensor[..., :3] for name, tensor in weights.items()}

    with pytest.raises(DamagedError) as error:
        importer.saved(narrow)

    text = str(error.value)
    assert "'fc_layers.0.weight' is (16, 3), here (16, 64)" in text and "2 more differ" in text
    assert "--outputs" not in text and len(text.splitlines()) == 2


def test_a_sparse_tensor_is_refused_by_name(importer: Importer, weights: dict[str, Tensor]) -> None:
    with pytest.raises(DamagedError, match="'fc.weight' is sparse"):
        importer.saved({**weights, "fc.weight": weights["fc.weight"].to_sparse()})


def test_a_ticket_and_a_file_of_weights_are_not_taken_for_each_other(importer: Importer, network: nn.Module) -> None:
    run = importer.saved(pruned_by_torch(copy.deepcopy(network)).state_dict())
    export_ticket(run, None, importer.path("ticket.safetensors"))

    with pytest.raises(UsageError, match="weights: .*is a ticket"):
        importer.read("ticket.safetensors")
    save_file(dict(network.state_dict()), importer.path("state.safetensors"))
    with pytest.raises(DamagedError, match="import it with --weights"):
        import_ticket(importer.path("state.safetensors"), importer.context)


def test_a_whole_network_in_a_directory_of_openlth_is_refused_in_the_same_words(
    importer: Importer, network: nn.Module
) -> None:
    (importer.folder / "main").mkdir()
    torch.save(network, importer.folder / "main" / "model_ep0_it0.pth")

    with pytest.raises(DamagedError, match="model_ep0_it0.pth cannot be read .*Perceptron(.|\n)*model.state_dict"):
        import_openlth(importer.folder / "main", train_desc(), importer.context)


def test_a_network_that_has_names_like_parts_of_its_own_is_read_as_it_is() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    state = layer.state_dict()

    found = find_state({"state_dict": behind("module.", state)}, state, "file")

    assert found.tensors.keys() == state.keys() and not found.masks


def test_masks_cover_all_prunable_weights_of_the_network(importer: Importer, network: nn.Module) -> None:
    run = importer.saved(pruned_by_torch(network).state_dict())

    assert mask_of(run).keys() == Mask.ones(initialized_model(train_desc(), 1)).keys()
