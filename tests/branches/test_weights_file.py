from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models as theirs

from branches.imported.pickled_tensors import read_named_tensors
from branches.imported.state_dicts import tied_names
from branches.imported.weights_file import import_weights
from foundations.errors import DamagedError, EnvironmentFailure
from tests.branches.small_branches import branch, mask_of
from tests.training.small_runs import context, run_of, train_desc
from training.desc import TrainDesc
from training.job import initialized_model

RESNET = {"dataset_name": "imagenet", "model_name": "imagenet_resnet_18"}


def weights_of(**flags: Any) -> dict[str, Tensor]:
    return initialized_model(train_desc(**flags), 9).state_dict()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_branches_of_an_imported_file_prune_and_train_its_weights(tmp_path: Path, digits: Path, name: str) -> None:
    place, weights = context(tmp_path / "runs", digits), weights_of()
    torch.save(weights, tmp_path / name) if name.endswith("pth") else save_file(weights, tmp_path / name)

    run = import_weights(tmp_path / name, train_desc(), place)

    assert all(torch.equal(tensor, weights[name]) for name, tensor in run.load_state(train_desc().start).items())
    pruned = branch(place, "oneshot", run, density=0.2).run
    state, mask = pruned.load_state(train_desc().start), mask_of(pruned)
    assert all(torch.equal(state[name], weights[name] * mask[name]) for name in mask)
    assert not run_of(train_desc(), place).folder.exists()


def test_the_address_is_that_of_the_tensors(tmp_path: Path, digits: Path) -> None:
    place, weights = context(tmp_path / "runs", digits), weights_of()
    torch.save(weights, tmp_path / "one.pth")
    save_file(weights, tmp_path / "same.safetensors")
    torch.save({name: tensor + 1 for name, tensor in weights.items()}, tmp_path / "other.pth")

    one, same, other = (
        import_weights(tmp_path / name, train_desc(), place).location
        for name in ("one.pth", "same.safetensors", "other.pth")
    )

    assert one == same != other


def test_a_tied_tensor_may_have_one_of_its_names_in_a_file(tmp_path: Path, digits: Path) -> None:
    desc = TrainDesc.of({"dataset_name": "kjv", "model_name": "gpt_1_8_2"})
    place, weights = context(tmp_path / "runs", digits), dict(initialized_model(desc, 9).state_dict())
    ((first, *others),) = tied_names(weights)
    for name in others:
        del weights[name]
    torch.save(weights, tmp_path / "tied.pth")
    del weights[first]
    torch.save(weights, tmp_path / "untold.pth")

    state = import_weights(tmp_path / "tied.pth", desc, place).load_state(desc.start)

    assert torch.equal(state[first], initialized_model(desc, 9).state_dict()[first])
    assert all(torch.equal(state[name], state[first]) for name in others)
    with pytest.raises(DamagedError, match=f"Missing: {first} or {others[0]}"):
        import_weights(tmp_path / "untold.pth", desc, place)


def test_torchvisions_names_are_understood_and_old_files_without_counted_batches(tmp_path: Path, digits: Path) -> None:
    torch.manual_seed(0)
    published = {k: v for k, v in theirs.resnet18().state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(published, tmp_path / "resnet18.pth")
    desc = TrainDesc.of(RESNET)

    state = import_weights(tmp_path / "resnet18.pth", desc, context(tmp_path / "runs", digits)).load_state(desc.start)

    assert all(torch.equal(state[f"model.{name}"], tensor) for name, tensor in published.items())
    assert state["model.bn1.num_batches_tracked"] == 0


def test_names_of_published_densenets_are_understood(tmp_path: Path, digits: Path) -> None:
    desc = TrainDesc.of({"dataset_name": "imagenet", "model_name": "torchvision_densenet121"})
    weights = initialized_model(desc, 9).state_dict()
    spelled = {
        name.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1").replace("conv2", "conv.2")
        if "denselayer" in name
        else name: tensor
        for name, tensor in weights.items()
    }
    assert set(spelled) != set(weights)
    save_file(spelled, tmp_path / "densenet.safetensors")

    run = import_weights(tmp_path / "densenet.safetensors", desc, context(tmp_path / "runs", digits))

    assert all(torch.equal(tensor, weights[name]) for name, tensor in run.load_state(desc.start).items())


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "cannot be read as a state dict"), (pickle.dumps({"fc.weight": Path}), "cannot be read as a state dict")],
)
def test_what_is_not_a_state_dict_is_refused(tmp_path: Path, digits: Path, content: bytes, words: str) -> None:
    (tmp_path / "weights.pth").write_bytes(content)

    with pytest.raises(DamagedError, match=words):
        import_weights(tmp_path / "weights.pth", train_desc(), context(tmp_path / "runs", digits))


def test_weights_of_another_network_are_refused(tmp_path: Path, digits: Path) -> None:
    save_file(weights_of(model_name="digits_lenet_20"), tmp_path / "weights.safetensors")

    with pytest.raises(DamagedError, match="not one of this model"):
        import_weights(tmp_path / "weights.safetensors", train_desc(), context(tmp_path / "runs", digits))


def test_a_file_that_is_not_there_is_named(tmp_path: Path, digits: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="There is no file .*weights.pth"):
        import_weights(tmp_path / "weights.pth", train_desc(), context(tmp_path / "runs", digits))


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path, digits: Path) -> None:
    weights = weights_of()
    weights["fc.bias"][3] = float("nan")
    torch.save(weights, tmp_path / "weights.pth")

    with pytest.raises(DamagedError, match=r"weights\.pth: 'fc\.bias' at 0it has values that are not finite"):
        import_weights(tmp_path / "weights.pth", train_desc(), context(tmp_path / "runs", digits))


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_file_with_any_byte_changed_is_read_or_refused_by_name(tmp_path: Path, is_zip: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}, path, _use_new_zipfile_serialization=is_zip)
    whole = path.read_bytes()

    for byte in range(0, min(len(whole), 700), 5):
        for changed in (whole[:byte], whole[:byte] + bytes([whole[byte] ^ 0x15]) + whole[byte + 1 :]):
            path.write_bytes(changed)
            try:
                read_named_tensors(path, "a state dict")
            except DamagedError as error:
                assert "weights.pth" in str(error)
