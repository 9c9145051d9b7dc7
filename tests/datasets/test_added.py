"""Data sets that users add, in memory and streamed, up to their batches."""

import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from datasets.added import add_dataset
from datasets.batches import LoaderConfig
from datasets.decode import decode
from datasets.hparams import DatasetHparams
from datasets.loader import open_loader
from datasets.prepared import ensure_prepared, fingerprint
from datasets.registry import find_dataset, register_added
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from tests.datasets import published_files as made

REPOSITORY = Path(__file__).parents[2]


def add(root, path, name="mine", **options):
    lines = []
    add_dataset(name, path, root / "datasets", report=lines.append, **options)
    return lines


@pytest.fixture(autouse=True)
def no_added_data_sets_stay_known(tmp_path):
    yield
    register_added(tmp_path / "nothing here")


def arrays(count, classes=3, side=12, channels=3, seed=0):
    return made.images(count, channels, side, seed), np.arange(count) % classes


def batch_of_all(root, name="mine", split="test", **hparams):
    hparams = DatasetHparams(dataset_name=name, batch_size=10_000, **hparams)
    loader = open_loader(hparams, root / "datasets", workers=0)
    return next(loader.test_batches() if split == "test" else loader.train_batches(0))


def unnormalized(x, name="mine"):
    spec = find_dataset(name)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return (x * std + mean).mul(255).round().to(torch.uint8)


def test_arrays_with_a_test_set_become_a_data_set(tmp_path):
    train, test = arrays(30), arrays(9, seed=1)
    path = tmp_path / "arrays.npz"
    np.savez(path, train_images=train[0], train_labels=train[1], test_images=test[0], test_labels=test[1])

    lines = add(tmp_path, path, augmentation="pad4_crop_flip")

    spec = find_dataset("mine")
    assert (spec.num_train, spec.num_test, spec.num_classes, spec.input_shape) == (30, 9, 3, (3, 12, 12))
    assert spec.augmentation == "pad4_crop_flip"
    assert spec.mean == pytest.approx((train[0] / 255).mean(axis=(0, 2, 3)), abs=1e-4)
    assert spec.std == pytest.approx((train[0] / 255).std(axis=(0, 2, 3)), abs=1e-4)
    x, y = batch_of_all(tmp_path)
    np.testing.assert_array_equal(unnormalized(x).numpy(), test[0])
    assert y.tolist() == test[1].tolist()
    assert lines == ["added mine: 30 training and 9 test images, 3 classes"]


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW"])
def test_a_pair_of_arrays_is_split_in_ten(tmp_path, layout):
    images, labels = arrays(40, channels=1 if layout == "NHW" else 3)
    stored = {"NHW": images[:, 0], "NHWC": images.transpose(0, 2, 3, 1), "NCHW": images}[layout]
    np.save(tmp_path / "images.npy", stored)
    np.save(tmp_path / "labels.npy", labels.astype(np.int32))

    add(tmp_path, tmp_path)

    (x, y), (train_x, train_y) = batch_of_all(tmp_path), batch_of_all(tmp_path, split="train")
    assert (len(y), len(train_y)) == (4, 36)
    together = np.concatenate([unnormalized(x).numpy(), unnormalized(train_x).numpy()])
    assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in images)


def test_folders_of_images_become_a_data_set(tmp_path):
    train = made.write_image_folders(tmp_path / "pictures" / "train", ["cat", "dog"], 4, size=(20, 20), suffix="png")
    test = made.write_image_folders(tmp_path / "pictures" / "val", ["cat", "dog"], 2, (20, 20), seed=7, suffix="png")

    add(tmp_path, tmp_path / "pictures")

    x, y = batch_of_all(tmp_path)
    expected = np.stack([array.transpose(2, 0, 1) for array in test.values()])
    np.testing.assert_array_equal(unnormalized(x).numpy(), expected)
    assert y.tolist() == [0, 0, 1, 1]
    assert find_dataset("mine").num_train == len(train)


def test_folders_without_a_test_set_hold_a_tenth_out_always_the_same(tmp_path):
    made.write_image_folders(tmp_path / "pictures", ["a", "b", "c"], 10, size=(8, 8), suffix="png")

    add(tmp_path, tmp_path / "pictures", "one")
    add(tmp_path, tmp_path / "pictures", "two")

    assert (find_dataset("one").num_train, find_dataset("one").num_test) == (27, 3)
    assert torch.equal(batch_of_all(tmp_path, "one")[0], batch_of_all(tmp_path, "two")[0])
    assert fingerprint("one", tmp_path / "datasets") == fingerprint("two", tmp_path / "datasets")


def test_images_of_several_sizes_need_a_size_and_are_brought_to_it(tmp_path):
    made.write_image_folders(tmp_path / "pictures", ["a", "b"], 3, size=(20, 30), suffix="png")
    made.write_image_folders(tmp_path / "pictures", ["c"], 3, size=(40, 25), suffix="png")

    with pytest.raises(UsageError, match=r"^--image_size: needed"):
        add(tmp_path, tmp_path / "pictures")
    add(tmp_path, tmp_path / "pictures", image_size=16)

    assert find_dataset("mine").input_shape == (3, 16, 16)


def test_an_added_data_set_is_known_to_another_process_through_its_folder(tmp_path):
    np.savez(tmp_path / "a.npz", images=arrays(20)[0], labels=arrays(20)[1])
    add(tmp_path, tmp_path / "a.npz")
    known = find_dataset("mine")
    register_added(tmp_path / "another folder")
    with pytest.raises(UsageError, match="'mine' is not known"):
        find_dataset("mine")

    register_added(tmp_path / "datasets")

    assert find_dataset("mine") == known
    assert DatasetHparams(dataset_name="mine", batch_size=4).normalized(1).iterations_per_epoch == 5


def test_a_damaged_added_data_set_is_not_known_or_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", images=arrays(20)[0], labels=arrays(20)[1])
    add(tmp_path, tmp_path / "a.npz")
    path = tmp_path / "datasets" / "mine" / "test.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DamagedError, match=str(path)):
        batch_of_all(tmp_path)

    path.unlink()
    with pytest.raises(EnvironmentFailure, match="datasets add mine PATH"):
        ensure_prepared("mine", tmp_path / "datasets", allow_download=True, report=print)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10", "'cifar10' is a data set of open_prune"),
        ("../up", "cannot name a data set"),
        ("With Space", "cannot name a data set"),
        ("", "cannot name a data set"),
    ],
)
def test_names_that_are_taken_or_no_names_are_refused(tmp_path, name, message):
    np.savez(tmp_path / "a.npz", images=arrays(20)[0], labels=arrays(20)[1])

    with pytest.raises(UsageError, match=message):
        add(tmp_path, tmp_path / "a.npz", name)


def test_a_data_set_is_not_replaced(tmp_path):
    np.savez(tmp_path / "a.npz", images=arrays(20)[0], labels=arrays(20)[1])
    add(tmp_path, tmp_path / "a.npz")

    with pytest.raises(UsageError, match="there is a data set 'mine' already"):
        add(tmp_path, tmp_path / "a.npz")


BAD_ARRAYS = [
    ({"images": np.zeros((4, 8, 8), np.float32), "labels": np.zeros(4, int)}, "must be uint8"),
    ({"images": np.zeros((4, 8, 8, 5), np.uint8), "labels": np.zeros(4, int)}, "neither 1 nor 3 channels"),
    ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.zeros(3, int)}, "must be integers"),
    ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.zeros(4)}, "must be integers"),
    ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.full(4, -1)}, "must be 0 or more"),
    ({"images": np.zeros((1, 8, 8), np.uint8), "labels": np.zeros(1, int)}, "too few"),
    ({"pictures": np.zeros((4, 8, 8), np.uint8)}, "it takes images and labels"),
]


@pytest.mark.parametrize(("content", "message"), BAD_ARRAYS)
def test_arrays_that_are_no_images_are_refused(tmp_path, content, message):
    np.savez(tmp_path / "a.npz", **content)

    with pytest.raises(UsageError, match=message):
        add(tmp_path, tmp_path / "a.npz")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "images.npy", np.array([print], dtype=object), allow_pickle=True)

    with pytest.raises(UsageError, match="cannot be read"):
        add(tmp_path, tmp_path)


def test_a_path_that_holds_nothing_usable_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(UsageError, match="no images in folders of two classes or more"):
        add(tmp_path, tmp_path / "empty")
    with pytest.raises(EnvironmentFailure, match="does not exist"):
        add(tmp_path, tmp_path / "nowhere")


def test_a_damaged_picture_is_named(tmp_path):
    written = made.write_image_folders(tmp_path / "pictures", ["a", "b"], 3, size=(8, 8))
    broken = next(iter(written))
    broken.write_bytes(broken.read_bytes()[:30])

    with pytest.raises(UsageError, match=broken.name):
        add(tmp_path, tmp_path / "pictures")


@pytest.fixture
def streamed(tmp_path):
    """Add 24 + 6 JPEG pictures in landscape and portrait, left where they are."""
    made.write_image_folders(tmp_path / "p" / "train", ["a", "b", "c"], 4, size=(50, 70))
    made.write_image_folders(tmp_path / "p" / "train", ["d", "e", "f"], 4, size=(80, 45), seed=5000)
    made.write_image_folders(tmp_path / "p" / "test", ["a", "b", "c"], 2, size=(60, 60), seed=9000)
    add(tmp_path, tmp_path / "p", in_memory=False, image_size=32, augmentation="resized_crop_flip")
    return tmp_path


def stream(root, workers=0, batch_size=7, **arguments):
    flags = {flag: arguments.pop(flag) for flag in DatasetHparams.names() if flag in arguments}
    hparams = DatasetHparams(dataset_name="mine", batch_size=batch_size, **flags)
    return open_loader(hparams, root / "datasets", LoaderConfig(**arguments), workers=workers)


def joined(batches):
    batches = list(batches)
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def test_a_streamed_test_set_is_resized_and_cut_like_torchvision_does(streamed):
    transform = v2.Compose([v2.Resize(round(32 * 256 / 224), antialias=True), v2.CenterCrop(32)])
    paths = sorted((streamed / "p" / "test").rglob("*.JPEG"))

    x, y = joined(stream(streamed).test_batches())

    expected = torch.stack([transform(decode(path.read_bytes())) for path in paths])
    assert torch.equal(unnormalized(x), expected)
    assert y.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_first_streamed_images_can_be_held_out(streamed):
    transform = v2.Compose([v2.Resize(round(32 * 256 / 224), antialias=True), v2.CenterCrop(32)])
    paths = sorted((streamed / "p" / "train").rglob("*.JPEG"))
    expected = [transform(decode(path.read_bytes())) for path in paths]
    held = stream(streamed, validation_examples=3, do_not_augment=True)

    x, _ = joined(held.validation_batches())
    trained, _ = joined(held.train_batches(0))

    assert torch.equal(unnormalized(x), torch.stack(expected[:3]))
    assert sorted(image.numpy().tobytes() for image in unnormalized(trained)) == sorted(
        image.numpy().tobytes() for image in expected[3:]
    )


def test_streamed_images_without_augmentation_are_those_of_the_test_transform(streamed):
    transform = v2.Compose([v2.Resize(round(32 * 256 / 224), antialias=True), v2.CenterCrop(32)])
    paths = sorted((streamed / "p" / "train").rglob("*.JPEG"))
    expected = [transform(decode(path.read_bytes())).numpy().tobytes() for path in paths]

    x, _ = joined(stream(streamed, do_not_augment=True).train_batches(0))

    assert sorted(image.numpy().tobytes() for image in unnormalized(x)) == sorted(expected)


def test_streamed_batches_do_not_depend_on_the_number_of_workers(streamed):
    alone = [joined(stream(streamed).train_batches(epoch)) for epoch in (0, 1)]
    crew = stream(streamed, workers=2)

    for epoch in (0, 1):  # the same workers serve both epochs, and tests in between
        assert all(torch.equal(a, b) for a, b in zip(joined(crew.train_batches(epoch)), alone[epoch], strict=True))
        assert len(joined(crew.test_batches())[1]) == 6
    assert not torch.equal(alone[0][0], alone[1][0])


def test_a_streamed_epoch_shows_each_example_once_and_starts_anywhere(streamed):
    loader = stream(streamed, order_key=3, augmentation_key=4)
    whole = list(loader.train_batches(2))
    late = list(loader.train_batches(2, first=2))

    assert [len(y) for _, y in whole] == [7, 7, 7, 3]
    assert joined(whole)[1].bincount().tolist() == [4] * 6
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(whole[2:], late, strict=True))


def test_an_abandoned_streamed_epoch_does_not_disturb_the_next(streamed):
    loader = stream(streamed, workers=2)
    next(loader.train_batches(0))

    assert torch.equal(joined(loader.train_batches(1))[0], joined(stream(streamed).train_batches(1))[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_that_others_signal_still_deliver(streamed, number):
    loader = stream(streamed, workers=1, batch_size=1)
    batches = loader.train_batches(0)
    next(batches)

    for worker in multiprocessing.active_children():
        subprocess.run(["kill", f"-{number}", str(worker.pid)], check=True)

    assert len(list(batches)) == 23


@pytest.mark.slow
def test_a_process_with_workers_ends_soon(streamed):
    code = (
        "import sys, time; from pathlib import Path; from datasets.hparams import DatasetHparams\n"
        "from datasets.loader import open_loader; from datasets.registry import register_added\n"
        "folder = Path(sys.argv[1]); register_added(folder)\n"
        "loader = open_loader(DatasetHparams(dataset_name='mine', batch_size=2), folder, workers=2)\n"
        "for batch in loader.train_batches(0): print(time.time()); sys.exit(7)\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", code, str(streamed / "datasets")], cwd=REPOSITORY, check=False, capture_output=True
    )

    assert result.returncode == 7
    assert time.time() - float(result.stdout) < 9  # PyTorch gives its workers 5 s; a deaf one would take far longer


def test_streamed_slices_of_all_processes_make_the_batch(streamed):
    whole = joined(stream(streamed).train_batches(0))[0]
    first, second = (list(stream(streamed, rank=rank, world_size=2).train_batches(0)) for rank in (0, 1))

    together = [torch.cat([a[0], b[0]]) for a, b in zip(first, second, strict=True)]
    assert torch.equal(torch.cat(together), whole)


def test_streamed_examples_are_exact_and_not_augmented(streamed):
    x, y = stream(streamed).examples(2, seed=0)
    plain, _ = joined(stream(streamed, do_not_augment=True).train_batches(0))

    assert y.bincount().tolist() == [2] * 6
    known = {image.numpy().tobytes() for image in plain}
    assert all(image.numpy().tobytes() in known for image in x)
    with pytest.raises(UsageError, match="has 4"):
        stream(streamed).examples(5, seed=0)


def test_streamed_subsamples_and_random_labels_work_as_in_memory(streamed):
    _, y = joined(stream(streamed, subsample_fraction=0.5).train_batches(0))
    kept = np.random.RandomState(1).permutation(24)[:12]

    assert sorted(y.tolist()) == sorted((kept // 4).tolist())


def test_rotation_is_refused_for_streamed_images(streamed):
    with pytest.raises(UsageError, match=r"^--unsupervised_labels: not possible"):
        stream(streamed, unsupervised_labels="rotation")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_picture_that_is_damaged_is_named(streamed, workers):
    path = next((streamed / "p" / "test").rglob("*.JPEG"))
    path.write_bytes(path.read_bytes()[:50])

    with pytest.raises(DamagedError, match=path.name):
        joined(stream(streamed, workers=workers).test_batches())


def test_streaming_neither_reads_nor_moves_the_global_generator(streamed):
    torch.manual_seed(0)
    before = torch.get_rng_state()

    joined(stream(streamed, workers=1).train_batches(0))

    assert torch.equal(torch.get_rng_state(), before)


def test_streaming_needs_a_size_and_an_augmentation_that_suits(tmp_path):
    made.write_image_folders(tmp_path / "p", ["a", "b"], 2, size=(8, 8))

    with pytest.raises(UsageError, match=r"^--image_size: needed"):
        add(tmp_path, tmp_path / "p", in_memory=False)
    with pytest.raises(UsageError, match=r"^--augmentation: 'pad4_crop_flip' is not possible"):
        add(tmp_path, tmp_path / "p", in_memory=False, image_size=8, augmentation="pad4_crop_flip")
