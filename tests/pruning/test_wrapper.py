from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foundations.errors import UsageError
from pruning.level import kept_of
from pruning.masks.mask import Mask
from pruning.wrapper.wrapper import PruningWrapper
from tests.pruning.nets import TinyNet

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, MakeOptimizer] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, momentum=0.9),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.01),
    "nadam": lambda parameters: torch.optim.NAdam(parameters, lr=0.01),
}


def wrap(model: nn.Module, **given: Any) -> PruningWrapper:
    return PruningWrapper(model, **{"device": "cpu", "dir_name": None, **given})


def moved(wrapper: PruningWrapper) -> int:
    """Return the number of pruned weights that are not zero."""
    return sum(int(wrapper.model.get_parameter(name)[~kept].count_nonzero()) for name, kept in wrapper.mask.items())


def train(wrapper: PruningWrapper, steps: int = 3, optimizer: torch.optim.Optimizer | None = None) -> None:
    optimizer = optimizer or torch.optim.SGD(wrapper.parameters(), lr=0.1, momentum=0.9)
    source = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(wrapper(torch.randn(6, 2, 6, 6, generator=source)), torch.arange(6) % 3).backward()
        optimizer.step()


@pytest.mark.parametrize("method", ["magnitude", "random"])
def test_rounds_of_training_pruning_and_rewinding(method: Literal["magnitude", "random"]) -> None:
    model = TinyNet()
    initial = copy.deepcopy(model.state_dict())
    wrapper = wrap(model, prune_rate=0.5, method=method)
    left = wrapper.mask.total
    for _ in range(3):
        before = wrapper.mask
        train(wrapper)
        wrapper.prune_weights()
        wrapper.reinitialize()
        left = kept_of(left, 0.5)
        assert wrapper.mask.kept == left
        assert wrapper.mask.union(before) == before
        for name, kept in wrapper.mask.items():
            assert torch.equal(model.get_parameter(name), initial[name] * kept)
        assert torch.equal(model.get_buffer("bn.running_mean"), initial["bn.running_mean"])
    unpruned, total, fraction = wrapper.calculate_percent_pruned()
    assert (unpruned, total) == (left, wrapper.mask.total)
    assert fraction == pytest.approx(1 - left / total)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("of_network", [False, True])
def test_pruned_weights_stay_zero_through_any_optimizer(make: MakeOptimizer, of_network: bool) -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5)
    for _ in range(3):
        before = [parameter.clone() for parameter in wrapper.parameters()]
        train(wrapper, optimizer=make((wrapper.model if of_network else wrapper).parameters()))
        assert moved(wrapper) == 0
        assert any(not torch.equal(old, new) for old, new in zip(before, wrapper.parameters(), strict=True))
        wrapper.prune_weights()
        assert moved(wrapper) == 0
        wrapper.reinitialize()


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_that_lives_through_the_rounds_loses_its_momentum_of_pruned_weights(make: MakeOptimizer) -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5)
    optimizer = make(wrapper.parameters())
    for _ in range(3):
        train(wrapper, optimizer=optimizer)
        wrapper.prune_weights()
        train(wrapper, 1, optimizer)
        assert moved(wrapper) == 0
        for name, kept in wrapper.mask.items():
            for tensor in optimizer.state[wrapper.model.get_parameter(name)].values():
                if torch.is_tensor(tensor) and tensor.shape == kept.shape:
                    assert not tensor[~kept].any()


def test_weights_that_are_changed_by_hand_are_zero_in_the_next_forward_pass() -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5)
    wrapper.prune_weights()
    pruned = copy.deepcopy(wrapper.model)
    inputs = torch.randn(6, 2, 6, 6)
    with torch.no_grad():
        for name, kept in wrapper.mask.items():
            wrapper.model.get_parameter(name)[~kept] = 1.0

    assert torch.equal(wrapper(inputs), pruned(inputs))
    assert moved(wrapper) == 0


def test_two_forward_passes_may_come_before_their_backward_pass() -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5)
    wrapper.prune_weights()
    (wrapper(torch.randn(6, 2, 6, 6)) + wrapper(torch.randn(6, 2, 6, 6))).sum().backward()


def test_other_networks_and_other_wrappers_are_left_alone() -> None:
    wrapper, other = wrap(TinyNet(), prune_rate=0.5), wrap(TinyNet(), prune_rate=0.9)
    wrapper.prune_weights()
    other.prune_weights()
    with torch.no_grad():
        for parameter in wrapper.parameters():
            parameter.fill_(1.0)

    train(other)

    assert moved(other) == 0
    assert moved(wrapper) == wrapper.mask.pruned


def test_the_network_keeps_its_names_and_copies_are_independent() -> None:
    model = TinyNet()
    names, hooks = list(model.state_dict()), len(model._forward_pre_hooks) + len(model._forward_hooks)
    wrapper = wrap(model, prune_rate=0.5)
    wrapper.prune_weights()
    plain, twin = copy.deepcopy(wrapper.model), copy.deepcopy(wrapper)

    twin.prune_weights()
    train(twin)
    plain_optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    F.cross_entropy(plain(torch.randn(6, 2, 6, 6)), torch.arange(6) % 3).backward()
    plain_optimizer.step()

    assert list(wrapper.model.state_dict()) == list(plain.state_dict()) == names
    assert len(model._forward_pre_hooks) + len(model._forward_hooks) == hooks
    assert twin.mask.kept < wrapper.mask.kept
    assert moved(wrapper) == moved(twin) == 0
    assert any(plain.get_parameter(name)[~kept].any() for name, kept in wrapper.mask.items())


def test_a_wrapper_that_is_gone_watches_no_optimizer() -> None:
    from torch.optim import optimizer as torch_optimizer

    def watching() -> int:
        return len(torch_optimizer._global_optimizer_post_hooks)

    gc.collect()
    before = watching()
    wrapper = wrap(TinyNet())
    gone = weakref.ref(wrapper)
    assert watching() == before + 1

    del wrapper
    gc.collect()

    assert gone() is None
    assert watching() == before


def test_each_round_is_logged_with_its_mask(tmp_path: Path) -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5, dir_name=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for _ in range(2):
        wrapper.prune_weights()

    header, *rounds = (tmp_path / "run" / "rounds.csv").read_text().splitlines()
    unpruned, total, fraction = wrapper.calculate_percent_pruned()
    assert header == "round,pruned,total,percent_pruned"
    assert [line.split(",")[0] for line in rounds] == ["1", "2"]
    assert rounds[-1] == f"2,{total - unpruned},{total},{100 * fraction:.6f}"
    assert Mask.load(tmp_path / "run" / "mask_round_2.safetensors") == wrapper.mask


def test_the_network_is_moved_and_a_device_that_is_missing_is_named() -> None:
    wrapper = PruningWrapper(TinyNet(), 0.2, "meta", "run")
    assert {parameter.device.type for parameter in wrapper.parameters()} == {"meta"}
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UsageError, match=f"device: '{missing}' is not a device of this machine"):
        PruningWrapper(TinyNet(), device=missing)
    with pytest.raises(UsageError, match="'gpu' is not a device"):
        PruningWrapper(TinyNet(), device="gpu")


def test_the_way_to_reinitialize_can_be_set_once() -> None:
    model = TinyNet()
    initial = copy.deepcopy(model.state_dict())
    wrapper = wrap(model, prune_rate=0.5, init_method="random")
    wrapper.prune_weights()
    wrapper.reinitialize()
    assert not torch.equal(model.fc.weight, initial["fc.weight"] * wrapper.mask["fc.weight"])
    wrapper.reinitialize(randomly=False)
    assert torch.equal(model.fc.weight, initial["fc.weight"] * wrapper.mask["fc.weight"])


def test_initial_weights_can_be_set_later() -> None:
    wrapper = wrap(TinyNet())
    train(wrapper)
    wrapper.set_initial_weights()
    later = copy.deepcopy(wrapper.model.state_dict())
    train(wrapper)
    wrapper.reinitialize()
    assert all(torch.equal(wrapper.model.state_dict()[name], tensor) for name, tensor in later.items())


def test_random_reinitialization_draws_new_weights_under_the_mask_from_its_seed() -> None:
    wrappers = [wrap(TinyNet(), prune_rate=0.5, seed=seed) for seed in (1, 1, 2)]
    state = torch.get_rng_state()
    for wrapper in wrappers:
        wrapper.prune_weights()
        wrapper.reinitialize(randomly=True)
    first, same, other = (wrapper.model.get_parameter("fc.weight") for wrapper in wrappers)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not first[~wrappers[0].mask["fc.weight"]].any()


def test_only_the_chosen_layer_types_are_pruned() -> None:
    model = TinyNet()
    wrapper = wrap(model, prune_rate=0.5, layer_types=(nn.Conv2d,))
    before = model.fc.weight.detach().clone()
    wrapper.prune_weights()
    assert "fc.weight" not in wrapper.mask
    assert torch.equal(model.fc.weight, before)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_pruned_weights_are_zero_after_every_step_of_lbfgs_whose_state_is_one_vector(search: str | None) -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5)
    optimizer = torch.optim.LBFGS(wrapper.parameters(), lr=0.1, max_iter=4, line_search_fn=search)
    inputs = torch.randn(6, 2, 6, 6, generator=torch.Generator().manual_seed(0))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(wrapper(inputs), torch.arange(6) % 3)
        loss.backward()
        return loss

    wrapper.prune_weights()
    before = [parameter.clone() for parameter in wrapper.parameters()]
    for _ in range(3):
        optimizer.step(closure)
        assert moved(wrapper) == 0
    assert any(not torch.equal(old, new) for old, new in zip(before, wrapper.parameters(), strict=True))


def test_a_mask_that_is_set_is_applied_and_enforced() -> None:
    source, wrapper = wrap(TinyNet(), prune_rate=0.5), wrap(TinyNet())
    mask = source.prune_weights()
    for given in (mask, dict(mask), {name: kept.float() for name, kept in mask.items()}):
        wrapper.mask = given
        assert wrapper.mask == mask
        assert moved(wrapper) == 0
        train(wrapper)
        assert moved(wrapper) == 0


def test_a_mask_that_is_set_replaces_the_one_before_in_an_attached_optimizer() -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5)
    first = wrapper.prune_weights()
    optimizer = torch.optim.SGD(wrapper.parameters(), lr=0.1)
    wrapper.attach(optimizer)
    wrapper.mask = first.union(first.invert())
    train(wrapper, optimizer=optimizer)
    assert all(wrapper.model.get_parameter(name)[~kept].any() for name, kept in first.items())


def test_a_mask_of_other_names_or_shapes_is_refused_and_changes_nothing() -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5)
    mask = wrapper.prune_weights()
    before = copy.deepcopy(wrapper.model.state_dict())
    with pytest.raises(UsageError, match=r"'other\.weight'"):
        wrapper.mask = {"other.weight": torch.zeros(3, 5)}
    with pytest.raises(UsageError, match=r"'fc\.weight' is of shape \(2, 5\)"):
        wrapper.mask = {"fc.weight": torch.zeros(2, 5)}
    assert wrapper.mask == mask
    assert all(torch.equal(wrapper.model.state_dict()[name], tensor) for name, tensor in before.items())


def test_an_optimizer_of_another_network_cannot_be_attached() -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5)
    wrapper.prune_weights()
    optimizer = torch.optim.SGD(copy.deepcopy(wrapper.model).parameters(), lr=0.1)
    with pytest.raises(UsageError, match="none of the .* tensors of the mask.*a copy of the network"):
        wrapper.attach(optimizer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_wrapper_in_another_precision_keeps_its_mask_and_rewinds(dtype: torch.dtype) -> None:
    wrapper = wrap(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3)), prune_rate=0.5)
    wrapper.prune_weights()
    wrapper.to(dtype)
    optimizer = torch.optim.SGD(wrapper.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        wrapper(torch.ones(2, 8, dtype=dtype)).sum().backward()
        optimizer.step()
        assert moved(wrapper) == 0
    wrapper.prune_weights()
    wrapper.reinitialize()
    wrapper.reinitialize(randomly=True)
    assert moved(wrapper) == 0
    assert {parameter.dtype for parameter in wrapper.parameters()} == {dtype}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prune_rate": 1.2}, "prune_rate: 1.2"),
        ({"method": "snip"}, "'snip'"),
        ({"init_method": "x"}, "'x'"),
        ({"save_dir": 3}, "save_dir: 3 is not a valid value; it takes a path"),
        ({"dir_name": b"run"}, "save_dir: b'run' is not a valid value"),
        ({"save_dir": ""}, "save_dir: '' is not a valid value"),
        ({"random_prune": "yes"}, "random_prune: 'yes' is not a valid value; choose from True, False."),
        ({"random_initialization": 1}, "random_initialization: 1 is not"),
        ({"seed": "0"}, "seed: '0' is not a valid value; it takes a whole number"),
        ({"layer_types": "conv"}, "layer_types: 'conv' is not a valid value"),
        ({"layer_types": ()}, r"layer_types: \(\) is not a valid value"),
        ({"device": 3.5}, "device: '3.5' is not a device"),
    ],
)
def test_mistakes_name_the_argument(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PruningWrapper(TinyNet(), **{"device": "cpu", **given})
