"""Images that are decoded as they are needed, up to their batches."""

import multiprocessing
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

import datasets.loading.batches
from datasets.decode import decode
from datasets.hparams import DatasetHparams
from datasets.loading.batches import Loader, LoaderConfig
from datasets.loading.loader import open_loader
from datasets.loading.streaming import Task, _IndexedImages
from foundations.errors import DamagedError, UsageError
from tests import interpreter
from tests.conftest import REPOSITORY
from tests.datasets import published_files as made
from tests.datasets.loading import add, joined, unnormalized


@pytest.fixture
def streamed(tmp_path: Path) -> Path:
    """Add 24 + 6 JPEG pictures in landscape and portrait, left where they are."""
    made.write_image_folders(tmp_path / "p" / "train", ["a", "b", "c"], 4, size=(50, 70))
    made.write_image_folders(tmp_path / "p" / "train", ["d", "e", "f"], 4, size=(80, 45), seed=5000)
    made.write_image_folders(tmp_path / "p" / "test", ["a", "b", "c"], 2, size=(60, 60), seed=9000)
    add(tmp_path, tmp_path / "p", in_memory=False, image_size=32, augmentation="resized_crop_flip")
    return tmp_path


def stream(root: Path, workers: int = 0, batch_size: int = 7, **arguments: Any) -> Loader:
    flags = {flag: arguments.pop(flag) for flag in DatasetHparams.names() if flag in arguments}
    hparams = DatasetHparams(dataset_name="mine", batch_size=batch_size, **flags)
    return open_loader(hparams, root / "datasets", LoaderConfig(**arguments), workers=workers)


def test_a_streamed_test_set_is_resized_and_cut_like_torchvision_does(streamed: Path) -> None:
    transform = v2.Compose([v2.Resize(round(32 * 256 / 224), antialias=True), v2.CenterCrop(32)])
    paths = sorted((streamed / "p" / "test").rglob("*.JPEG"))

    x, y = joined(stream(streamed).test_batches())

    expected = torch.stack([transform(decode(path.read_bytes())) for path in paths])
    assert torch.equal(unnormalized(x), expected)
    assert y.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_first_streamed_images_can_be_held_out(streamed: Path) -> None:
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


def test_streamed_images_without_augmentation_are_those_of_the_test_transform(streamed: Path) -> None:
    transform = v2.Compose([v2.Resize(round(32 * 256 / 224), antialias=True), v2.CenterCrop(32)])
    paths = sorted((streamed / "p" / "train").rglob("*.JPEG"))
    expected = [transform(decode(path.read_bytes())).numpy().tobytes() for path in paths]

    x, _ = joined(stream(streamed, do_not_augment=True).train_batches(0))

    assert sorted(image.numpy().tobytes() for image in unnormalized(x)) == sorted(expected)


def test_streamed_batches_do_not_depend_on_the_number_of_workers(streamed: Path) -> None:
    alone = [joined(stream(streamed).train_batches(epoch)) for epoch in (0, 1)]
    decoders = stream(streamed, workers=2)

    for epoch in (0, 1):  # the same workers serve both epochs, and tests in between
        assert all(torch.equal(a, b) for a, b in zip(joined(decoders.train_batches(epoch)), alone[epoch], strict=True))
        assert len(joined(decoders.test_batches())[1]) == 6
    assert not torch.equal(alone[0][0], alone[1][0])


def test_a_streamed_epoch_shows_each_example_once_and_starts_anywhere(streamed: Path) -> None:
    loader = stream(streamed, order_key=3, augmentation_key=4)
    whole = list(loader.train_batches(2))
    late = list(loader.train_batches(2, first=2))

    assert [len(y) for _, y in whole] == [7, 7, 7, 3]
    assert joined(whole)[1].bincount().tolist() == [4] * 6
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(whole[2:], late, strict=True))


def test_an_abandoned_streamed_epoch_does_not_disturb_the_next(streamed: Path) -> None:
    loader = stream(streamed, workers=2)
    next(loader.train_batches(0))

    assert torch.equal(joined(loader.train_batches(1))[0], joined(stream(streamed).train_batches(1))[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_that_others_signal_still_deliver(streamed: Path, number: int) -> None:
    loader = stream(streamed, workers=1, batch_size=1)
    batches = loader.train_batches(0)
    next(batches)

    for worker in multiprocessing.active_children():
        subprocess.run(["kill", f"-{number}", str(worker.pid)], check=True)

    assert len(list(batches)) == 23


@pytest.mark.slow
def test_a_process_with_workers_ends_soon(streamed: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from datasets.hparams import DatasetHparams\n"
        "from datasets.loading.loader import open_loader; from datasets.added.added import register_added\n"
        "folder = Path(sys.argv[1]); register_added(folder)\n"
        "loader = open_loader(DatasetHparams(dataset_name='mine', batch_size=2), folder, workers=2)\n"
        "for batch in loader.train_batches(0): print(time.time()); sys.exit(7)\n"
    )

    result = interpreter.run(["-c", code, streamed / "datasets"], REPOSITORY)

    assert result.returncode == 7
    assert time.time() - float(result.stdout) < 9  # PyTorch gives its workers 5 s; a deaf one would take far longer


def test_streamed_slices_of_all_processes_make_the_batch(streamed: Path) -> None:
    whole = joined(stream(streamed).train_batches(0))[0]
    first, second = (list(stream(streamed, rank=rank, world_size=2).train_batches(0)) for rank in (0, 1))

    together = [torch.cat([a[0], b[0]]) for a, b in zip(first, second, strict=True)]
    assert torch.equal(torch.cat(together), whole)


def test_each_streamed_test_and_validation_batch_is_in_one_process(streamed: Path) -> None:
    alone, second = (
        stream(streamed, batch_size=2, validation_examples=5),
        stream(streamed, batch_size=2, validation_examples=5, rank=1, world_size=2),
    )

    for kind in ("test_batches", "validation_batches"):
        one, other = (list(getattr(loader, kind)()) for loader in (alone, second))
        assert [x for x, _ in other]
        assert all(torch.equal(a[0], b[0]) for a, b in zip(one[1::2], other, strict=True))


def test_streamed_examples_are_exact_and_not_augmented(streamed: Path) -> None:
    x, y = stream(streamed).examples(2, seed=0).read()
    plain, _ = joined(stream(streamed, do_not_augment=True).train_batches(0))

    assert y.bincount().tolist() == [2] * 6
    known = {image.numpy().tobytes() for image in plain}
    assert all(image.numpy().tobytes() in known for image in x)
    with pytest.raises(UsageError, match="has 4"):
        stream(streamed).examples(5, seed=0).read()


def test_examples_that_are_too_many_to_keep_are_decoded_part_by_part(
    streamed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = stream(streamed).examples(2, seed=0).read()
    monkeypatch.setattr(datasets.loading.examples, "_KEPT_BYTES", 0)
    decoded: list[int] = []

    def batch(images: _IndexedImages, tasks: list[Task]) -> torch.Tensor:
        decoded.append(len(tasks))
        return decode_batch(images, tasks)

    decode_batch = _IndexedImages.batch
    monkeypatch.setattr(_IndexedImages, "batch", batch)
    parts = stream(streamed).examples(2, seed=0).split(5)
    assert decoded == []
    found = [part.read() for part in parts]
    assert decoded == [5, 5, 2]
    assert torch.equal(torch.cat([x for x, _ in found]), kept[0])
    assert torch.equal(torch.cat([y for _, y in found]), kept[1])


def test_streamed_subsamples_and_random_labels_work_as_in_memory(streamed: Path) -> None:
    _, y = joined(stream(streamed, subsample_fraction=0.5).train_batches(0))
    kept = np.random.RandomState(1).permutation(24)[:12]

    assert sorted(y.tolist()) == sorted((kept // 4).tolist())


def test_rotation_is_refused_for_streamed_images(streamed: Path) -> None:
    with pytest.raises(UsageError, match=r"^unsupervised_labels: it does not work"):
        stream(streamed, unsupervised_labels="rotation")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_picture_that_is_damaged_is_named(streamed: Path, workers: int) -> None:
    path = next((streamed / "p" / "test").rglob("*.JPEG"))
    path.write_bytes(path.read_bytes()[:50])

    with pytest.raises(DamagedError, match=path.name):
        joined(stream(streamed, workers=workers).test_batches())


def test_streaming_neither_reads_nor_moves_the_global_generator(streamed: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()

    joined(stream(streamed, workers=1).train_batches(0))

    assert torch.equal(torch.get_rng_state(), before)
