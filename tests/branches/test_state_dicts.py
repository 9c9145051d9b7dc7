"""Checkpoints as other programs write them: state dicts inside others, behind prefixes, with other tensors."""

from __future__ import annotations

import argparse
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import models as theirs

from foundations.errors import DamagedError
from tests.branches.importing import Importer, behind, is_state
from training.desc import TrainDesc
from training.job import initialized_model


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
    """A Namespace in a pickle may have anything: arguments that it does not take, any state."""

    def __reduce__(self) -> tuple[Any, ...]:
        return argparse.Namespace, ("x", 3), {"__class__": int, "__dict__": [self.__class__.__name__]}


def test_settings_are_not_made_whatever_a_file_says_of_them(importer: Importer, weights: dict[str, Tensor]) -> None:
    assert is_state(importer.saved({"state_dict": weights, "args": OddSettings()}), weights)


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


def test_a_network_whose_dropout_has_a_seed_keeps_its_own(tmp_path: Path, digits: Path) -> None:
    importer = Importer(tmp_path, digits)
    desc = TrainDesc.of({"dataset_name": "imagenet", "model_name": "torchvision_mobilenet_v2"})
    torch.manual_seed(0)
    published = theirs.mobilenet_v2().state_dict()
    inside = {name.replace("features.", "features.module.", 1): tensor for name, tensor in published.items()}

    run = importer.saved({"state_dict": {f"module.{name}": tensor for name, tensor in inside.items()}}, desc)

    state = run.load_state(desc.start)
    assert all(torch.equal(state[name], tensor) for name, tensor in published.items())
    assert sorted(set(state) - set(published)) == ["classifier.0.calls", "classifier.0.seed"]
    assert "kept the network's own classifier.0.calls, classifier.0.seed" in importer.said


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
