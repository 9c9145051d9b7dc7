"""Checkpoints as other programs write them: state dicts inside others, behind prefixes, in parts, in other formats."""

from __future__ import annotations

import argparse
import copy
import io
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from branches.openlth_files import import_openlth
from branches.state_dicts import find_state
from branches.tickets import export_ticket, import_ticket
from branches.weights_file import import_weights
from foundations.errors import DamagedError, UsageError
from foundations.run import Run
from pruning.mask import Mask
from tests.branches.small_branches import branch, mask_of
from tests.training.small_runs import Listener, context, train_desc
from training.desc import TrainDesc
from training.job import initialized_model


@pytest.fixture
def network() -> nn.Module:
    return initialized_model(train_desc(), 9)


@pytest.fixture
def weights(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.state_dict())


class Importer:
    """Imports what is saved under a root of its own, and keeps what was said."""

    def __init__(self, folder: Path, datasets: Path) -> None:
        self.folder, self.listener = folder, Listener()
        self.context = context(folder / "runs", datasets, reporter=self.listener)

    def path(self, name: str = "weights.pth") -> Path:
        return self.folder / name

    def read(self, name: str = "weights.pth", desc: TrainDesc | None = None) -> Run:
        self.listener.said.clear()
        return import_weights(self.path(name), desc or train_desc(), self.context)

    def saved(self, content: object, desc: TrainDesc | None = None, **options: Any) -> Run:
        torch.save(content, self.path(), **options)
        return self.read(desc=desc)

    @property
    def said(self) -> str:
        return " ".join(self.listener.said)


@pytest.fixture
def importer(tmp_path: Path, digits: Path) -> Importer:
    return Importer(tmp_path, digits)


def state_of(run: Run) -> dict[str, Tensor]:
    return run.load_state(train_desc().start)


def is_state(run: Run, weights: Mapping[str, Tensor]) -> bool:
    state = state_of(run)
    return state.keys() == weights.keys() and all(torch.equal(state[name], weights[name]) for name in state)


def behind(prefix: str, tensors: Mapping[str, Tensor], plus: float = 0.0) -> dict[str, Tensor]:
    return {prefix + name: tensor + plus for name, tensor in tensors.items()}


# Nested state dicts


@pytest.mark.parametrize(
    "keys",
    [("state_dict",), ("model",), ("net",), ("model_state_dict",), ("state_dict_ema",), ("some", "thing", "else")],
)
def test_a_state_dict_is_found_wherever_it_is_in_the_file(
    importer: Importer, weights: dict[str, Tensor], keys: tuple[str, ...]
) -> None:
    content: Any = weights
    for key in reversed(keys):
        content = {"epoch": 3, key: content, "best_acc1": 91.2, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}

    assert is_state(importer.saved(content), weights)

    assert f"took '{'.'.join(keys)}' of 4 entries" in importer.said


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        ("model", "model_ema"),
        ("state_dict", "state_dict_ema"),
        ("state_dict", "model"),
        ("student", "teacher"),
        ("anything", "swa_model"),
    ],
)
def test_of_several_state_dicts_the_usual_one_is_taken_and_the_others_are_named(
    importer: Importer, weights: dict[str, Tensor], usual: str, other: str
) -> None:
    for order in ((usual, other), (other, usual)):
        content = {key: weights if key == usual else behind("", weights, 1.0) for key in order}

        assert is_state(importer.saved(content), weights)

        assert f"took '{usual}' of 2 entries ('{other}' would fit as well)" in importer.said


def test_state_dicts_that_differ_are_refused_where_neither_has_a_usual_name(
    importer: Importer, weights: dict[str, Tensor]
) -> None:
    with pytest.raises(DamagedError, match="several state dicts that fit, 'one', 'two'"):
        importer.saved({"one": weights, "two": behind("", weights, 1.0)})

    assert is_state(importer.saved({"one": weights, "two": weights}), weights)


def test_tensors_of_an_optimizer_and_masks_are_no_state_although_they_have_the_names(
    importer: Importer, weights: dict[str, Tensor]
) -> None:
    others = {key: behind("", weights, 1.0) for key in ("optimizer", "optim_state", "lr_scheduler", "masks", "grads")}

    assert is_state(importer.saved({**others, "weights_of_mine": weights}), weights)


def test_settings_and_scalars_beside_the_weights_do_no_harm(importer: Importer, weights: dict[str, Tensor]) -> None:
    content = {
        "state_dict": OrderedDict(weights),
        "args": argparse.Namespace(lr=0.1, output=Path("out"), layers=[1, 2]),
        "best_acc": np.float64(91.5),
        "best_loss": np.float32(0.5),
        "history": np.arange(3.0),
        "seen": defaultdict(list, {"train": [1.0]}),
        "classes": {"cat", "dog"},
    }

    for is_zip in (True, False):
        assert is_state(importer.saved(content, _use_new_zipfile_serialization=is_zip), weights)


class OddSettings:
    """What a pickle says of a Namespace may be anything: arguments that it does not take, any state."""

    def __reduce__(self) -> tuple[Any, ...]:
        return argparse.Namespace, ("x", 3), {"__class__": int, "__dict__": [self.__class__.__name__]}


def test_settings_are_not_made_whatever_a_file_says_of_them(importer: Importer, weights: dict[str, Tensor]) -> None:
    assert is_state(importer.saved({"state_dict": weights, "args": OddSettings()}), weights)


# Prefixes and names


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "model.",
        "backbone.",
        "encoder.",
        "net.",
        "module._orig_mod.",
        "model.net.module.",
        "x.y.",
    ],
)
def test_a_common_prefix_is_removed_and_the_address_is_that_of_the_plain_state(
    importer: Importer, weights: dict[str, Tensor], prefix: str
) -> None:
    plain = importer.saved(weights)
    assert not importer.said

    assert importer.saved({"state_dict": behind(prefix, weights)}).location == plain.location

    assert f"removed the prefix '{prefix}' from 4 names" in importer.said


def test_wrappers_inside_a_network_are_removed(importer: Importer, weights: dict[str, Tensor]) -> None:
    inside = {name.replace("fc_layers.", "fc_layers.module."): tensor for name, tensor in weights.items()}

    assert is_state(importer.saved(behind("module.", inside)), weights)

    assert "wrapper" in importer.said


def test_a_prefix_is_exchanged_for_that_of_the_network(tmp_path: Path, digits: Path) -> None:
    importer, desc = (
        Importer(tmp_path, digits),
        TrainDesc.of({"dataset_name": "imagenet", "model_name": "imagenet_resnet_18"}),
    )
    weights = initialized_model(desc, 9).state_dict()

    run = importer.saved({f"module.{name.removeprefix('model.')}": tensor for name, tensor in weights.items()}, desc)

    assert all(torch.equal(tensor, weights[name]) for name, tensor in run.load_state(desc.start).items())
    assert "removed the prefix 'module.'" in importer.said and "put the prefix 'model.'" in importer.said


def test_what_is_beside_the_network_is_left_out_by_name(importer: Importer, weights: dict[str, Tensor]) -> None:
    assert is_state(importer.saved({**behind("model.", weights), "criterion.weight": torch.ones(3)}), weights)

    assert "left out 1 not under that prefix: criterion.weight" in importer.said


def test_of_two_networks_in_a_state_dict_the_one_that_is_no_mean_is_taken(
    importer: Importer, weights: dict[str, Tensor]
) -> None:
    one, other = behind("ema_model.", weights, 1.0), behind("model.", weights)
    assert is_state(importer.saved({**one, **other}), weights)
    assert "under 'ema_model.' as well" in importer.said

    with pytest.raises(DamagedError, match=r"under several prefixes, 'a\.', 'b\.'"):
        importer.saved({**behind("a.", weights), **behind("b.", weights, 1.0)})


def test_known_counters_are_dropped_by_name_and_other_names_are_not(
    importer: Importer, weights: dict[str, Tensor]
) -> None:
    counters = {"total_ops": torch.zeros(1), "fc.total_ops": torch.ones(1), "fc.total_params": torch.ones(1)}
    counters |= {"bn.num_batches_tracked": torch.tensor(3), "n_averaged": torch.tensor(2)}

    assert is_state(importer.saved({**weights, **counters}), weights)
    for words in ("2 'total_ops'", "fc.total_params", "bn.num_batches_tracked", "n_averaged"):
        assert words in importer.said
    with pytest.raises(DamagedError, match=r"Unexpected: 1 in the file \(fc2.weight\)"):
        importer.saved({**weights, "fc2.weight": torch.ones(2)})


def test_names_that_do_not_fit_are_counted_and_the_first_ones_named(
    importer: Importer, weights: dict[str, Tensor]
) -> None:
    wrong = {f"module.{name.replace('fc.', 'head.')}": tensor for name, tensor in weights.items()}

    with pytest.raises(DamagedError) as error:
        importer.saved({"state_dict": wrong, "epoch": 1})

    text = str(error.value)
    assert "in 'state_dict'" in text and "'module.'" in text and len(text.splitlines()) == 2
    assert "Missing: 2 of 4 tensors (fc.bias, fc.weight)" in text
    assert "Unexpected: 2 in the file (module.head.weight, module.head.bias)" in text


# Parts of weights


def pruned_by_torch(network: nn.Module, *, bias: bool = False) -> nn.Module:
    for layer in (layer for layer in network.modules() if isinstance(layer, nn.Linear)):
        prune.l1_unstructured(layer, "weight", amount=0.7)
        if bias:
            prune.random_unstructured(layer, "bias", amount=0.5)
    return network


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


# Formats, numbers and shapes


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
