from __future__ import annotations

import copy
import io
import itertools
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.wrapper.wrapper import PruningWrapper
from tests.pruning.nets import TinyNet
from tests.pruning.test_wrapper import moved, train, wrap


def after_rounds(rounds: int = 2, **given: Any) -> PruningWrapper:
    """Return a wrapper in the middle of a lottery, trained after its last round."""
    wrapper = wrap(TinyNet(), **{"prune_rate": 0.5, **given})
    for _ in range(rounds):
        train(wrapper)
        wrapper.prune_weights()
        wrapper.reinitialize()
    train(wrapper)
    return wrapper


def assert_same(mine: dict[str, Any], other: dict[str, Any]) -> None:
    assert list(mine) == list(other)
    assert all(torch.equal(tensor, other[name]) for name, tensor in mine.items())


def test_a_resumed_wrapper_goes_on_as_the_one_before() -> None:
    wrapper = after_rounds()
    resumed = wrap(TinyNet(seed=5), prune_rate=0.5)
    result = resumed.load_state_dict(wrapper.state_dict())
    assert not (result.missing_keys or result.unexpected_keys)
    for each in (wrapper, resumed):
        train(each)
        assert moved(each) == 0
        each.prune_weights()
        each.reinitialize()
    assert resumed.rounds == wrapper.rounds == 3
    assert resumed.mask == wrapper.mask
    assert_same(resumed.state_dict(), wrapper.state_dict())
    for each in (wrapper, resumed):
        each.reinitialize(randomly=True)
    assert_same(resumed.state_dict(), wrapper.state_dict())


def test_the_networks_tensors_keep_their_names() -> None:
    wrapper = after_rounds()
    names = [f"model.{name}" for name in wrapper.model.state_dict()]
    assert [name for name in wrapper.state_dict() if name.startswith("model.")] == names
    assert {name.partition(".")[0] for name in wrapper.state_dict()} == {"model", "mask", "initial", "rounds"}


def test_a_state_dict_is_what_safe_readers_read(tmp_path: Path) -> None:
    wrapper = after_rounds()
    torch.save(wrapper.state_dict(), tmp_path / "state.pt")
    save_file(wrapper.state_dict(), tmp_path / "state.safetensors")
    save_file(wrap(TinyNet()).state_dict(), tmp_path / "no_rounds.safetensors")
    for state in (
        torch.load(tmp_path / "state.pt", weights_only=True),
        load_file(tmp_path / "state.safetensors"),
    ):
        resumed = wrap(TinyNet(seed=5))
        resumed.load_state_dict(state)
        assert_same(resumed.state_dict(), wrapper.state_dict())
    fresh = after_rounds()
    fresh.load_state_dict(load_file(tmp_path / "no_rounds.safetensors"))
    assert (fresh.rounds, fresh.mask.pruned) == (0, 0)


def test_loading_copies() -> None:
    wrapper, resumed = after_rounds(), wrap(TinyNet())
    state = wrapper.state_dict()
    resumed.load_state_dict(state)
    mask = copy.deepcopy(wrapper.mask)
    for tensor in state.values():
        tensor.zero_()
    assert wrapper.mask == resumed.mask == mask
    resumed.reinitialize()
    assert resumed.model.get_parameter("fc.weight").any()


def test_the_log_of_a_resumed_wrapper_has_the_rounds_before(tmp_path: Path) -> None:
    wrapper = after_rounds(dir_name=tmp_path / "before")
    resumed = wrap(TinyNet(), prune_rate=0.5, dir_name=tmp_path / "after")
    resumed.load_state_dict(wrapper.state_dict())
    resumed.prune_weights()
    before = (tmp_path / "before" / "rounds.csv").read_text()
    after = (tmp_path / "after" / "rounds.csv").read_text()
    assert after.startswith(before)
    assert after.splitlines()[-1].startswith("3,")


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_state_dict_without_a_mask_is_refused_unless_it_need_not_be_complete(is_nested: bool) -> None:
    wrapper = after_rounds()
    state = {name: tensor for name, tensor in wrapper.state_dict().items() if name.startswith("model.")}
    state["model.fc.weight"] = torch.ones_like(state["model.fc.weight"])
    other = after_rounds()
    target: nn.Module = nn.ModuleDict({"inside": other}) if is_nested else other
    if is_nested:
        state = {f"inside.{name}": tensor for name, tensor in state.items()}
    before, mask = copy.deepcopy(other.state_dict()), other.mask

    with pytest.raises(RuntimeError if is_nested else UsageError, match=r"mask\."):
        target.load_state_dict(state)
    if not is_nested:
        assert_same(before, other.state_dict())
    with pytest.warns(UserWarning, match="no mask"):
        result = target.load_state_dict(state, strict=False)

    assert {name.removeprefix("inside.").partition(".")[0] for name in result.missing_keys} == {
        "mask",
        "initial",
        "rounds",
    }
    assert other.mask == mask
    assert torch.equal(other.model.get_parameter("fc.weight"), mask["fc.weight"].float())
    assert other.rounds == 2


@pytest.mark.parametrize("strict", [True, False])
def test_a_state_dict_of_the_network_alone_is_refused(strict: bool) -> None:
    wrapper = after_rounds()
    with pytest.raises(UsageError, match=r"wrapper\.model\.load_state_dict"):
        wrapper.load_state_dict(wrapper.model.state_dict(), strict=strict)
    inside = {f"module.{name}": tensor for name, tensor in wrapper.state_dict().items()}
    with pytest.raises(UsageError, match=r"'module\..*inside another module"):
        wrapper.load_state_dict(inside, strict=strict)


def test_a_mask_that_does_not_fit_is_refused_and_the_present_one_stays() -> None:
    wrapper = after_rounds()
    mask, state = wrapper.mask, wrapper.state_dict()
    with pytest.raises(RuntimeError, match=r"'fc\.weight' is of shape \(1, 2\)"):
        wrapper.load_state_dict({**state, "mask.fc.weight": torch.ones(1, 2)})
    with pytest.raises(RuntimeError, match="entries other than 0 and 1"):
        wrapper.load_state_dict({**state, "mask.fc.weight": torch.full_like(mask["fc.weight"], 2, dtype=torch.int64)})
    with pytest.raises(RuntimeError, match="none of that name"):
        wrapper.load_state_dict({**state, "mask.x": torch.ones(1)})
    with pytest.raises(RuntimeError, match=r"initial\.fc\.bias"):
        wrapper.load_state_dict({**state, "initial.fc.bias": torch.ones(1)})
    with pytest.raises(RuntimeError, match="rounds"):
        wrapper.load_state_dict({**state, "rounds": torch.ones(3)})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*initial\.y"):
        wrapper.load_state_dict({**state, "initial.y": torch.ones(1)})
    assert wrapper.mask == mask
    assert moved(wrapper) == 0


def test_a_wrapper_inside_a_module_is_saved_and_loaded_with_it() -> None:
    outer, other = nn.Sequential(after_rounds(), nn.ReLU()), nn.Sequential(wrap(TinyNet(seed=3)), nn.ReLU())
    other.load_state_dict(outer.state_dict())
    assert_same(other.state_dict(), outer.state_dict())
    wrapper = other[0]
    assert isinstance(wrapper, PruningWrapper)
    train(wrapper)
    assert moved(wrapper) == 0


def test_a_loaded_mask_replaces_a_sparser_one() -> None:
    dense, sparse = wrap(TinyNet()), after_rounds()
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1)
    sparse.attach(optimizer)
    sparse.load_state_dict(dense.state_dict())
    train(sparse, optimizer=optimizer)
    assert sparse.mask.pruned == 0
    assert all(
        parameter.count_nonzero() == parameter.numel() for parameter in (sparse.model.get_parameter("fc.weight"),)
    )


def test_copies_and_pickles_keep_mask_and_rounds() -> None:
    wrapper = after_rounds()
    wrapper.attach(torch.optim.SGD(wrapper.parameters(), lr=0.1))
    buffer = io.BytesIO()
    torch.save(wrapper, buffer)
    buffer.seek(0)
    for twin in (
        copy.deepcopy(wrapper),
        pickle.loads(pickle.dumps(wrapper)),
        torch.load(buffer, weights_only=False),
    ):
        assert_same(twin.state_dict(), wrapper.state_dict())
        train(twin)
        assert moved(twin) == 0
        twin.load_state_dict(wrapper.state_dict())
        assert_same(twin.state_dict(), wrapper.state_dict())


@settings(max_examples=25, deadline=None)
@given(data=st.data(), sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_any_mask_and_any_rounds_come_back_from_the_bytes_of_a_state_dict(
    data: st.DataObject, sizes: list[int]
) -> None:
    def network() -> nn.Sequential:
        return nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(sizes)))

    wrapper = wrap(network())
    for rate in data.draw(st.lists(st.floats(0, 1), max_size=3)):
        wrapper.prune_weights(rate)
        wrapper.reinitialize()
    bits = {
        name: torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n))).view(kept.shape)
        for name, kept in wrapper.mask.items()
        for n in (kept.numel(),)
    }
    wrapper.mask = Mask(bits)
    buffer = io.BytesIO()
    torch.save(wrapper.state_dict(), buffer)
    buffer.seek(0)

    other = wrap(network())
    other.load_state_dict(torch.load(buffer, weights_only=True))

    assert other.mask == Mask(bits)
    assert other.rounds == wrapper.rounds
    assert_same(other.state_dict(), wrapper.state_dict())
    assert moved(other) == 0


def test_a_state_dict_without_the_mask_of_one_layer_is_refused_and_never_lets_weights_grow_back() -> None:
    wrapper, other = (
        PruningWrapper(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4)), 0.5, "cpu", None) for _ in range(2)
    )
    wrapper.prune_weights()
    state = wrapper.state_dict()
    del state["mask.0.weight"]
    with pytest.raises(RuntimeError, match="mask.0.weight"):
        other.load_state_dict(state)
    other.load_state_dict(state, strict=False)
    assert other.mask.total == 80
    assert torch.equal(other.mask["1.weight"], wrapper.mask["1.weight"])
