from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from foundations.description.address import Location
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from foundations.storage import tensor_files
from foundations.storage.run import MASK, Run
from pruning.masks.mask import Mask
from tests.conftest import REPOSITORY
from tests.pruning.nets import TinyNet


def mask_of(**rows: list[int]) -> Mask:
    return Mask({name: torch.tensor(row) for name, row in rows.items()})


@st.composite
def masks(draw: st.DrawFn, shapes: dict[str, tuple[int, ...]] | None = None) -> Mask:
    if shapes is None:
        sizes = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)
        shapes = draw(st.dictionaries(st.text(min_size=1, max_size=5), sizes, min_size=1, max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**30)))
    return Mask({name: torch.rand(shape, generator=generator) < 0.5 for name, shape in shapes.items()})


def test_counts_density_and_sparsity_add_up() -> None:
    mask = mask_of(b=[1, 0, 0, 1], a=[1, 1])
    assert (mask.total, mask.kept, mask.pruned) == (6, 4, 2)
    assert mask.density == 4 / 6
    assert mask.sparsity == 1 - 4 / 6
    assert mask.density_per_layer() == {"a": 1.0, "b": 0.5}


def test_names_stand_in_sorted_order() -> None:
    assert list(mask_of(b=[1], a=[1], c=[1])) == ["a", "b", "c"]


def test_a_mask_does_not_follow_the_tensors_it_was_made_of() -> None:
    tensor = torch.ones(3, dtype=torch.bool)
    mask = Mask({"a": tensor})
    tensor[0] = False
    assert mask.kept == 3


def test_a_mask_has_no_way_to_be_written_to() -> None:
    mask = mask_of(a=[1])
    with pytest.raises(TypeError):
        mask["a"] = torch.zeros(1)  # type: ignore[index]


def test_entries_other_than_0_and_1_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'a' has entries other than 0 and 1"):
        Mask({"a": torch.tensor([0.0, 0.5])})


def test_masks_of_equal_tensors_are_equal() -> None:
    assert mask_of(a=[1, 0]) == mask_of(a=[1, 0])
    assert mask_of(a=[1, 0]) != mask_of(a=[1, 1])
    assert mask_of(a=[1, 0]) != mask_of(b=[1, 0])
    assert mask_of(a=[1, 0]) != Mask({"a": torch.tensor([[1, 0]])})


def test_union_intersection_and_inverse() -> None:
    one, other = mask_of(a=[1, 1, 0, 0]), mask_of(a=[1, 0, 1, 0])
    assert one.union(other) == mask_of(a=[1, 1, 1, 0])
    assert one.intersection(other) == mask_of(a=[1, 0, 0, 0])
    assert one.invert() == mask_of(a=[0, 0, 1, 1])


def test_overlap_and_jaccard_in_total_and_by_layer() -> None:
    one, other = mask_of(a=[1, 1, 0, 0], b=[1, 0]), mask_of(a=[1, 0, 1, 1], b=[0, 1])
    assert one.overlap(other) == 1 / 3
    assert one.jaccard(other) == 1 / 6
    assert one.overlap_per_layer(other) == {"a": 0.5, "b": 0.0}
    assert one.jaccard_per_layer(other) == {"a": 0.25, "b": 0.0}


def test_empty_masks_overlap_fully() -> None:
    empty = mask_of(a=[0, 0])
    assert empty.overlap(empty) == empty.jaccard(empty) == 1


def test_masks_of_different_networks_do_not_combine() -> None:
    with pytest.raises(UsageError, match="only one has a tensor 'b'"):
        mask_of(a=[1]).union(mask_of(b=[1], a=[1]))
    with pytest.raises(UsageError, match=r"'a' is of shape \(1,\) in one and \(2,\)"):
        mask_of(a=[1]).jaccard(mask_of(a=[1, 1]))


@given(masks(), st.integers(0, 5))
def test_a_layerwise_shuffle_keeps_every_layers_count(mask: Mask, seed: int) -> None:
    shuffled = mask.shuffled_layerwise(seed)
    assert shuffled.kept_per_layer() == mask.kept_per_layer()
    assert shuffled == mask.shuffled_layerwise(seed)


def test_a_layerwise_shuffle_moves_weights_and_follows_its_seed() -> None:
    mask = Mask({"a": torch.arange(100) < 30})
    assert mask.shuffled_layerwise(1) != mask
    assert mask.shuffled_layerwise(1) != mask.shuffled_layerwise(2)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_a_shuffle_over_a_width_keeps_each_count_within_the_first_units(fraction: float) -> None:
    """Of 20 units, 6 keep a weight, so int(14 * fraction + 6) units get some."""
    weight = torch.zeros(20, 30, 3, 3)
    weight[3:9, :2] = 1
    mask = Mask({"layer": weight, "dense": torch.ones(4, 5)})

    shuffled = mask.shuffled_over_width(1, fraction)

    units = int(14 * fraction + 6)
    used = shuffled["layer"].flatten(1).any(1)
    assert shuffled.kept_per_layer() == mask.kept_per_layer()
    assert used[:units].all()
    assert not used[units:].any()
    assert shuffled["dense"].all()
    assert shuffled == mask.shuffled_over_width(1, fraction)
    assert shuffled != mask.shuffled_over_width(2, fraction)


@given(masks())
@settings(max_examples=50)
def test_bits_and_header_give_the_mask_back(mask: Mask) -> None:
    assert Mask.from_tensors(*mask.to_tensors()) == mask


def test_each_weight_takes_one_bit() -> None:
    bits, _ = Mask({"a": torch.ones(1001)}).to_tensors()
    assert bits["a"].numel() == 126


def test_the_bytes_are_the_same_in_every_process() -> None:
    code = (
        "import torch; from pruning.masks.mask import Mask; "
        "print(Mask({n: torch.ones(3, 3) for n in 'edcba'}).to_bytes().hex())"
    )
    other_seed = os.environ | {"PYTHONHASHSEED": "1"}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=REPOSITORY, env=other_seed, text=True)

    assert there.stdout.strip() == Mask({name: torch.ones(3, 3) for name in "edcba"}).to_bytes().hex()


@given(masks())
@settings(max_examples=20)
def test_a_file_gives_the_mask_back(mask: Mask) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mask.save(Path(folder) / "mask.safetensors")
        assert Mask.load(Path(folder) / "mask.safetensors") == mask


def test_the_mask_of_a_run_can_be_loaded(tmp_path: Path) -> None:
    mask = mask_of(a=[1, 0, 1], b=[0, 0])
    run = Run(tmp_path, Location("train_0", 1, "branch_oneshot_0"))
    run.folder.mkdir(parents=True)
    run.save_mask(*mask.to_tensors())
    assert Mask.load(run.folder / MASK) == mask


def test_a_run_and_save_write_the_same_tensors_and_header(tmp_path: Path) -> None:
    mask = mask_of(a=[1, 0, 1], b=[0, 0])
    run = Run(tmp_path, Location("train_0", 1, "branch_oneshot_0"))
    run.folder.mkdir(parents=True)
    run.save_mask(*mask.to_tensors())
    mask.save(tmp_path / "saved.safetensors")
    (saved, header), (kept, facts) = (
        tensor_files.read(path, "") for path in (tmp_path / "saved.safetensors", run.folder / MASK)
    )
    assert header == facts
    assert {name: bits.tolist() for name, bits in saved.items()} == {name: bits.tolist() for name, bits in kept.items()}


def test_a_mask_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"There is no file .*mask\.safetensors"):
        Mask.load(tmp_path / "mask.safetensors")


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("the pickle was executed",))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Bomb()),
        b"",
        b"abc",
        mask_of(a=[1, 0, 1]).to_bytes()[:-1],
        mask_of(a=[1, 0, 1]).to_bytes()[:30],
        mask_of(a=[1, 0, 1]).to_bytes()[:-1] + b"\xff",
        tensor_files.to_bytes({"a": torch.zeros(1, dtype=torch.uint8)}, {"mask_version": 2, "shapes": {"a": [3]}}),
        tensor_files.to_bytes({"a": torch.full((1,), 255).byte()}, {"mask_version": 1, "shapes": {"a": [3]}}),
        tensor_files.to_bytes({"weight": torch.ones(3)}),
    ],
    ids=[
        "pickle",
        "empty",
        "noise",
        "truncated",
        "cut in its header",
        "other bits than were written",
        "of the future",
        "bits beyond the shape",
        "a state",
    ],
)
def test_a_file_that_is_no_mask_is_damaged_and_not_executed(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mask.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"mask\.safetensors"):
        Mask.load(path)


def test_tensors_of_other_shapes_than_described_are_damaged() -> None:
    bits, header = mask_of(a=[1] * 20).to_tensors()
    with pytest.raises(DamagedError, match="'a' does not have the bits"):
        Mask.from_tensors({"a": bits["a"][:2]}, header)
    with pytest.raises(DamagedError, match="'b'"):
        Mask.from_tensors({**bits, "b": bits["a"]}, header)
    with pytest.raises(DamagedError, match="header is missing"):
        Mask.from_tensors(bits, {})


@pytest.mark.parametrize("shape", [[float("inf")], [-1, -15], [10**12, 10**12], "ab", None])
def test_a_shape_that_no_tensor_has_is_damage(shape: object) -> None:
    bits, header = Mask({"a": torch.ones(3, 5)}).to_tensors()

    with pytest.raises(DamagedError):
        Mask.from_tensors(bits, {**header, "shapes": {"a": shape}})


def test_applying_zeroes_what_is_pruned_and_nothing_else() -> None:
    model = nn.Linear(4, 1)
    before = model.weight.detach().clone()
    Mask({"weight": torch.tensor([[1, 0, 1, 0]])}).apply_(model)
    assert torch.equal(model.weight, before * torch.tensor([[1, 0, 1, 0]]))


def test_applying_zeroes_weights_that_are_not_finite() -> None:
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, float("nan"))
    Mask({"weight": torch.tensor([[0, 0]])}).apply_(model)
    assert torch.equal(model.weight, torch.zeros(1, 2))


def test_a_mask_of_another_network_is_refused_by_the_name_of_a_tensor() -> None:
    with pytest.raises(UsageError, match="'weight' is of shape"):
        Mask({"weight": torch.ones(1, 4)}).apply_(nn.Linear(3, 1))
    with pytest.raises(UsageError, match="has a tensor 'other'"):
        Mask({"other": torch.ones(1, 4)}).apply_(nn.Linear(4, 1))


def test_indices_of_kept_weights_are_ascending_and_cached() -> None:
    mask = mask_of(a=[0, 1, 0, 1], b=[1], c=[0], d=[1, 0])
    indices = mask.kept_indices
    assert {name: index.tolist() for name, index in indices.items()} == {"a": [1, 3], "b": [0], "c": [], "d": [0]}
    assert mask.kept_indices is indices
    assert mask.kept_per_layer() == {"a": 2, "b": 1, "c": 0, "d": 1}
    assert mask.kept == 4


@pytest.mark.parametrize("cached", [True, False])
def test_what_another_mask_prunes_anew_is_found_with_and_without_cached_indices(cached: bool) -> None:
    mask, other = mask_of(a=[0, 1, 0, 1], b=[1]), mask_of(a=[0, 1, 0, 0], b=[0])
    if cached:
        assert len(mask.kept_indices) == 2
    assert {name: index.tolist() for name, index in mask.newly_pruned_by(other).items()} == {"a": [3], "b": [0]}


def test_a_mask_can_be_copied_and_pickled() -> None:
    mask = Mask.ones(TinyNet())
    assert copy.deepcopy(mask) == mask
    assert pickle.loads(pickle.dumps(mask)) == mask
