import functools
import math
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from torch import Tensor

from datasets.hparams import DatasetHparams
from datasets.loading.batches import Batch, Loader, LoaderConfig
from datasets.loading.loader import open_loader
from datasets.prepared import ensure_prepared, load_split
from datasets.registry import DATASETS
from foundations.errors import UsageError
from foundations.random_streams import generator
from tests.datasets.loading import joined

DIGITS_TRAIN, DIGITS_TEST = 1437, 360


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepare the digits, and a `cifar10` of the right size that is black but for a few pixels."""
    root = tmp_path_factory.mktemp("datasets")
    ensure_prepared("digits", root, allow_download=False, report=lambda _: None)
    (root / "cifar10").mkdir()
    for split, count in (("train", 50_000), ("test", 10_000)):
        images = np.zeros((count, 3, 32, 32), np.uint8)
        images[:256] = np.random.RandomState(0).randint(1, 256, size=(256, 3, 32, 32))
        labels = np.arange(count, dtype=np.int64) % 10
        save_file({"images": images, "labels": labels}, root / "cifar10" / f"{split}.safetensors")
    return root


def loader(
    folder: Path,
    name: str = "digits",
    batch_size: int = 100,
    memory_format: torch.memory_format = torch.contiguous_format,
    **arguments: Any,
) -> Loader:
    keys = {
        key: arguments.pop(key) for key in ("order_key", "augmentation_key", "rank", "world_size") if key in arguments
    }
    hparams = DatasetHparams(dataset_name=name, batch_size=batch_size, **arguments)
    return open_loader(hparams, folder, LoaderConfig(memory_format=memory_format, **keys))


def raw(folder: Path, split: str = "train", name: str = "digits") -> Batch:
    return load_split(name, split, folder)


def plain(images: Tensor, name: str = "digits") -> Tensor:
    spec = DATASETS.find(name)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return (images.float() / 255 - mean) / std


def same(one: Iterable[Batch], other: Iterable[Batch]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(joined(one), joined(other), strict=True))


def multiset(images: Tensor) -> list[list[float]]:
    return sorted(image.flatten().tolist() for image in images)


def test_an_epoch_shows_each_example_once_in_a_new_order_with_the_last_batch_partial(folder: Path) -> None:
    batches = list(loader(folder).train_batches(0))
    x, y = joined(batches)
    images, labels = raw(folder)

    assert [len(labels) for _, labels in batches] == [100] * 14 + [37]
    assert len(batches) == DatasetHparams(dataset_name="digits", batch_size=100).iterations_per_epoch
    assert not torch.equal(y, labels)
    assert torch.equal(y.bincount(), labels.bincount())
    assert multiset((x * 0.3757 + 0.3054).mul(255).round()) == multiset(images.float())


def test_batches_are_normalized_floats_with_integer_labels(folder: Path) -> None:
    x, y = next(loader(folder).test_batches())

    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    torch.testing.assert_close(x, plain(raw(folder, "test")[0][:100]), atol=1e-6, rtol=1e-6)


def test_the_test_set_comes_whole_and_in_its_order(folder: Path) -> None:
    x, y = joined(loader(folder, blur_factor=2, subsample_fraction=0.1).test_batches())

    torch.testing.assert_close(x, plain(raw(folder, "test")[0]), atol=1e-6, rtol=1e-6)
    assert torch.equal(y, raw(folder, "test")[1])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_batches_have_the_wanted_memory_format_and_equal_values(
    folder: Path, memory_format: torch.memory_format
) -> None:
    one = loader(folder, "cifar10", memory_format=memory_format)
    x, _ = next(one.train_batches(0))
    z, _ = one.examples(2, 0).read()

    assert x.is_contiguous(memory_format=memory_format)
    assert z.is_contiguous(memory_format=memory_format)
    assert torch.equal(x, next(loader(folder, "cifar10").train_batches(0))[0])


def test_order_is_a_function_of_key_and_epoch(folder: Path) -> None:
    first = joined(loader(folder, order_key=1).train_batches(3))[1]

    assert torch.equal(joined(loader(folder, order_key=1).train_batches(3))[1], first)
    assert not torch.equal(joined(loader(folder, order_key=2).train_batches(3))[1], first)
    assert not torch.equal(joined(loader(folder, order_key=1).train_batches(4))[1], first)


def test_augmentation_is_a_function_of_its_own_key_and_the_epoch(folder: Path) -> None:
    def batch(augmentation_key: int, epoch: int, order_key: int = 1) -> Batch:
        keys: dict[str, Any] = {
            "order_key": order_key,
            "augmentation_key": augmentation_key,
            "subsample_fraction": 0.002,
        }
        one = loader(folder, "cifar10", transformation_seed=2, **keys)
        return next(one.train_batches(epoch))

    x, y = batch(1, 0)
    again, _ = batch(1, 0)
    other, other_labels = batch(2, 0)

    assert torch.equal(x, again)
    assert torch.equal(y, other_labels)
    assert not torch.equal(x, other)


@settings(max_examples=10, deadline=None)
@given(epoch=st.integers(0, 5), first=st.integers(0, 16))
def test_starting_at_a_batch_is_skipping_those_before(folder: Path, epoch: int, first: int) -> None:
    whole = list(loader(folder, blur_factor=2).train_batches(epoch))
    late = list(loader(folder, blur_factor=2).train_batches(epoch, first))

    assert len(late) == max(0, 15 - first)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(whole[first:], late, strict=True))


def test_augmented_batches_start_anywhere_too(folder: Path) -> None:
    one = loader(folder, "cifar10", batch_size=1000, subsample_fraction=0.2)
    whole = list(one.train_batches(1))

    assert same(one.train_batches(1, first=7), whole[7:])


@pytest.mark.parametrize("world_size", [2, 3, 64])
def test_the_slices_of_all_processes_make_the_global_batch(folder: Path, world_size: int) -> None:
    whole = list(loader(folder, batch_size=64).train_batches(0))
    slices = [
        list(loader(folder, batch_size=64, rank=r, world_size=world_size).train_batches(0)) for r in range(world_size)
    ]

    for step, (x, y) in enumerate(whole):
        parts = [batches[step] for batches in slices]
        assert torch.equal(torch.cat([part[0] for part in parts]), x)
        assert torch.equal(torch.cat([part[1] for part in parts]), y)
        sizes = [len(part[1]) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_each_test_and_validation_batch_is_in_one_process(folder: Path) -> None:
    alone = loader(folder, validation_examples=250)

    for rank in range(3):
        one_of_three = loader(folder, validation_examples=250, rank=rank, world_size=3)
        assert same(one_of_three.test_batches(), list(alone.test_batches())[rank::3])
        assert same(one_of_three.validation_batches(), list(alone.validation_batches())[rank::3])


def windows_of(image: Tensor) -> Iterator[tuple[tuple[int, int, bool], Tensor]]:
    padded = torch.nn.functional.pad(image, (4,) * 4)
    for top in range(9):
        for left in range(9):
            window = padded[:, top : top + 32, left : left + 32]
            yield (top, left, False), window
            yield (top, left, True), window.flip(2)


@functools.cache
def crops_and_flips(folder: Path, **hparams: Any) -> list[tuple[int, int, bool]]:
    """Return the crop of each of the 256 coloured images in epoch 0, and whether the image was flipped.

    The images are in the order in which the loader yields them. A flipped image counts as cropped first, then flipped.
    """
    images = raw(folder, name="cifar10")[0][:256]
    lookup = {window.numpy().tobytes(): place for image in images for place, window in windows_of(image)}
    spec = DATASETS.find("cifar10")
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    black = (-mean / std).min() + 0.1
    places = []
    for x, _ in loader(folder, "cifar10", batch_size=2000, **hparams).train_batches(0):
        coloured = x[x[:, 0].flatten(1).amax(1) > black]
        pixels = (coloured * std + mean).mul(255).round().to(torch.uint8)
        places += [lookup[image.numpy().tobytes()] for image in pixels]
    return places


def test_cifar_images_are_cropped_and_flipped_uniformly(folder: Path) -> None:
    found = crops_and_flips(folder)

    assert len(found) == 256
    assert 90 < sum(flipped for _, _, flipped in found) < 166
    for axis in (0, 1):
        counts = np.bincount([place[axis] for place in found], minlength=9)
        assert counts.min() > 8
        assert counts.max() < 60


def test_the_order_of_crop_and_flip_can_be_exchanged(folder: Path) -> None:
    flip_first, crop_first = crops_and_flips(folder), crops_and_flips(folder, augmentation_order="crop_flip")

    # The draws are the same; flipped first, an image is cropped as if from the other side.
    assert flip_first == [(top, 8 - left if flipped else left, flipped) for top, left, flipped in crop_first]
    assert flip_first != crop_first


def test_normalization_constants_can_be_those_of_another_code_base(folder: Path) -> None:
    x, _ = next(loader(folder, "cifar10", normalization="grasp").test_batches())
    images, _ = raw(folder, "test", "cifar10")
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))

    torch.testing.assert_close(x, (images[:100].float() / 255 - mean) / std, atol=1e-5, rtol=1e-5)


def test_do_not_augment_leaves_the_images_as_they_are(folder: Path) -> None:
    def corners(images: Tensor) -> Tensor:
        return images[:, :, ::31, ::31]

    batches = loader(folder, "cifar10", batch_size=2000, do_not_augment=True).train_batches(0)
    found = torch.cat([corners(x).flatten(1) for x, _ in batches])
    expected = plain(corners(raw(folder, name="cifar10")[0]), "cifar10").flatten(1)

    torch.testing.assert_close(found.sort(0).values, expected.sort(0).values, atol=1e-5, rtol=1e-5)


def random_labels(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Return the labels by the specification: new ones by RandomState(s), places by RandomState(s + 1)."""
    changed = labels.numpy().copy()
    count = math.ceil(fraction * len(changed))
    new = np.random.RandomState(seed).randint(10, size=count)
    changed[np.random.RandomState(seed + 1).permutation(len(changed))[:count]] = new
    return torch.from_numpy(changed)


def by_image(x: Tensor, y: Tensor) -> list[tuple[list[float], int]]:
    return sorted(
        (image.flatten().tolist(), label) for image, label in zip(x.mul(1000).round(), y.tolist(), strict=True)
    )


def test_random_labels_follow_the_specification_and_spare_the_test_set(folder: Path) -> None:
    _, labels = raw(folder)

    one = loader(folder, random_labels_fraction=0.3, transformation_seed=5)

    expected = random_labels(labels, 0.3, 5)
    assert (expected != labels).sum() > 300
    assert by_image(*joined(one.train_batches(0))) == by_image(
        joined(loader(folder).train_batches(0))[0], in_order_of_epoch_0(expected)
    )
    assert torch.equal(joined(one.test_batches())[1], raw(folder, "test")[1])


def in_order_of_epoch_0(labels: Tensor) -> Tensor:
    return labels[torch.randperm(len(labels), generator=generator("data order", 0, 0))]


def test_a_subsample_follows_the_specification(folder: Path) -> None:
    images, labels = raw(folder)
    kept = torch.from_numpy(np.random.RandomState(4).permutation(DIGITS_TRAIN)[: math.ceil(0.1 * DIGITS_TRAIN)])

    one = loader(folder, subsample_fraction=0.1, transformation_seed=3)
    x, y = joined(one.train_batches(0))

    assert one.num_train == len(y) == 144
    assert one.num_test == DIGITS_TEST
    assert by_image(x, y) == by_image(plain(images[kept]), labels[kept])


def test_a_subsample_of_random_labels_keeps_the_randomized_first(folder: Path) -> None:
    _, labels = raw(folder)
    changed = random_labels(labels, 0.2, 0)
    kept = torch.from_numpy(np.random.RandomState(1).permutation(DIGITS_TRAIN)[:288])

    one = loader(folder, subsample_fraction=0.2, random_labels_fraction=0.2)

    assert sorted(joined(one.train_batches(0))[1].tolist()) == sorted(changed[kept].tolist())
    assert (changed[kept] == labels[kept]).float().mean() < 0.2


def test_the_whole_set_is_no_subsample(folder: Path) -> None:
    assert same(loader(folder, subsample_fraction=1.0).train_batches(0), loader(folder).train_batches(0))


@pytest.mark.parametrize("split", ["train", "test"])
def test_rotation_turns_each_image_by_its_label(folder: Path, split: str) -> None:
    images, _ = raw(folder, split)
    turns = np.random.RandomState(6).randint(4, size=len(images))
    turned = torch.stack([torch.rot90(image, int(k), (1, 2)) for image, k in zip(images, turns, strict=True)])

    one = loader(folder, unsupervised_labels="rotation", transformation_seed=6)
    x, y = joined(one.train_batches(0) if split == "train" else one.test_batches())

    assert by_image(x, y) == by_image(plain(turned), torch.from_numpy(turns))


def test_blur_is_for_training_images(folder: Path) -> None:
    sharp, blurred = (joined(loader(folder, blur_factor=f).train_batches(0)) for f in (None, 2))

    assert torch.equal(sharp[1], blurred[1])
    assert blurred[0].diff(dim=3).abs().mean() < 0.8 * sharp[0].diff(dim=3).abs().mean()


def test_scoring_examples_are_exactly_so_many_of_each_class_and_not_augmented(folder: Path) -> None:
    x, y = loader(folder).examples(7, seed=0).read()
    images = multiset(plain(raw(folder)[0]).mul(1000).round())

    assert y.bincount(minlength=10).tolist() == [7] * 10
    assert len({tuple(image.flatten().tolist()) for image in x}) == 70
    assert all(image in images for image in multiset(x.mul(1000).round()))
    assert not torch.equal(y, y.sort().values)


def test_scoring_examples_are_a_function_of_the_seed_and_not_of_the_order(folder: Path) -> None:
    one = loader(folder, order_key=1, rank=1, world_size=2).examples(3, seed=5).read()
    again = loader(folder, order_key=2).examples(3, seed=5).read()
    other = loader(folder).examples(3, seed=6).read()

    assert same([one], [again])
    assert not torch.equal(one[0], other[0])


def test_more_examples_of_each_class_are_an_extension(folder: Path) -> None:
    few, many = loader(folder).examples(2, seed=1).read()[0], loader(folder).examples(3, seed=1).read()[0]

    assert all(image in multiset(many) for image in multiset(few))


def test_the_first_examples_can_be_held_out_and_are_measured_as_they_are(folder: Path) -> None:
    images, labels = raw(folder, name="cifar10")
    held = loader(folder, "cifar10", batch_size=64, validation_examples=100)

    x, y = joined(held.validation_batches())
    trained = joined(loader(folder, "cifar10", batch_size=5000, validation_examples=100).train_batches(0))[1]

    torch.testing.assert_close(x, plain(images[:100], "cifar10"))
    assert torch.equal(y, labels[:100])
    assert held.num_train == 49_900 == len(trained)
    assert torch.equal(trained.bincount(), labels[100:].bincount())
    assert same(held.test_batches(), loader(folder, "cifar10", batch_size=64).test_batches())


def test_what_is_held_out_is_not_scored_with_and_not_corrupted(folder: Path) -> None:
    _, labels = raw(folder)
    held = loader(folder, validation_examples=1000, random_labels_fraction=1.0, subsample_fraction=0.5)

    assert torch.equal(joined(held.validation_batches())[1], labels[:1000])
    assert held.num_train == 219
    with pytest.raises(UsageError, match="of the training set of 'digits' has"):
        loader(folder, validation_examples=1000).examples(60, seed=0).read()


def test_nothing_is_held_out_unasked(folder: Path) -> None:
    assert list(loader(folder).validation_batches()) == []


def test_too_few_examples_of_a_class_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="of the training set of 'digits' has 137"):
        loader(folder).examples(138, seed=0).read()


def test_loading_neither_reads_nor_moves_the_global_generators(folder: Path) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    torch_state, numpy_state = torch.get_rng_state(), str(np.random.get_state())

    one = loader(folder, "cifar10", subsample_fraction=0.01, random_labels_fraction=0.5)
    joined(one.train_batches(0))
    one.examples(1, 0).read()

    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state()) == numpy_state


def test_a_reordered_loader_has_whole_batches_of_the_same_examples_in_an_order_of_its_key(folder: Path) -> None:
    own = loader(folder, order_key=1, rank=1, world_size=2)
    before = joined(own.train_batches(0))

    found = [joined(own.reordered(key).train_batches(0)) for key in ("a", "a", "b")]

    whole = joined(loader(folder, order_key=1).train_batches(0))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][1], found[2][1])
    assert not torch.equal(found[0][1], whole[1])
    assert multiset(found[0][0]) == multiset(whole[0])
    assert torch.equal(joined(own.train_batches(0))[0], before[0])


def test_loaders_of_one_dataset_share_its_data_and_have_orders_of_their_own(folder: Path) -> None:
    opened: dict[Hashable, Loader] = {}
    cifar, other = DatasetHparams(dataset_name="cifar10"), DatasetHparams(dataset_name="digits")
    configs = [LoaderConfig(order_key=key, augmentation_key=key) for key in (1, 2)]

    shared = [open_loader(cifar, folder, config, opened=opened) for config in configs]
    alone = [open_loader(cifar, folder, config) for config in configs]
    streams = [each.train_batches(0) for each in (*shared, *alone)]

    for _ in range(2):  # in turns, as trainings in one process take them
        batches = [next(stream) for stream in streams]
        for (x, y), (expected_x, expected_y) in zip(batches[:2], batches[2:], strict=True):
            assert torch.equal(x, expected_x)
            assert torch.equal(y, expected_y)
    assert not torch.equal(batches[0][1], batches[1][1])
    (first, _), (second, _) = (next(iter(each.test_batches())) for each in shared)
    assert torch.equal(first, second)
    assert len(opened) == 1
    open_loader(other, folder, configs[0], opened=opened)
    assert len(opened) == 1, "only the last one is held"
