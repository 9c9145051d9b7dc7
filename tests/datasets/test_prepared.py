import json
import os
import pickle
import shutil
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from datasets.prepared import ensure_prepared, fingerprint, is_prepared, load_split
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from tests.datasets import published_files as made
from tests.training.small_runs import FORK

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "mnist"


def prepare(folder: Path, name: str = "digits") -> list[str]:
    lines: list[str] = []
    ensure_prepared(name, folder, allow_download=False, report=lines.append)
    return lines


def test_digits_are_prepared_without_a_download(tmp_path: Path) -> None:
    lines = prepare(tmp_path)

    images, labels = load_split("digits", "train", tmp_path)
    assert images.dtype == torch.uint8
    assert images.shape == (1437, 1, 8, 8)
    assert labels.dtype == torch.int64
    assert lines == [f"prepared digits in {tmp_path / 'digits'}"]
    with safe_open(tmp_path / "digits" / "test.safetensors", "np") as file:
        assert file.metadata() == {
            "name": "digits",
            "split": "test",
            "num_classes": "10",
            "class_names": "0,1,2,3,4,5,6,7,8,9",
            "source": "UCI, Optical Recognition of Handwritten Digits, test part (CC BY 4.0)",
        }


def test_prepared_files_are_not_made_again(tmp_path: Path) -> None:
    prepare(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}

    assert prepare(tmp_path) == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before


def test_a_split_that_is_missing_is_made_again(tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "digits" / "test.safetensors").unlink()

    prepare(tmp_path)

    assert load_split("digits", "test", tmp_path)[0].shape == (360, 1, 8, 8)


def test_nothing_but_whole_files_is_left_behind(tmp_path: Path) -> None:
    prepare(tmp_path)

    names = {path.name for path in (tmp_path / "digits").iterdir()}
    assert names - {".lock"} == {"train.safetensors", "test.safetensors"}


def prepare_in_another_process(folder: Path, barrier: Barrier) -> None:
    barrier.wait()
    ensure_prepared("digits", folder, allow_download=False, report=lambda _: None)
    images, _ = load_split("digits", "train", folder)
    os._exit(0 if images.shape == (1437, 1, 8, 8) else 1)


def test_two_processes_at_once_both_find_whole_files(tmp_path: Path) -> None:
    barrier = FORK.Barrier(2)
    processes = [FORK.Process(target=prepare_in_another_process, args=(tmp_path, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0]


def test_published_files_of_another_size_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    train = made.images(6, 1, 28), made.labels(6, 10)
    made.write_mnist(tmp_path, train, train)

    with pytest.raises(DamagedError, match=r"'mnist' hold train arrays of .*\(6, 1, 28, 28\)"):
        prepare(tmp_path, "mnist")
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the published MNIST files are not beside the repository")
def test_the_published_mnist_is_prepared_from_its_gzipped_idx_files(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in REAL.glob("*.gz"):
        shutil.copy(path, raw)

    prepare(tmp_path, "mnist")

    images, labels = load_split("mnist", "train", tmp_path)
    assert images.float().mean().item() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_an_unknown_dataset_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^dataset_name: 'digit' is not a valid value.* Did you mean 'digits'"):
        prepare(tmp_path, "digit")


def test_missing_files_and_no_download_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="downloading is forbidden"):
        prepare(tmp_path, "svhn")

    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(EnvironmentFailure, match=str(tmp_path)):
        prepare(tmp_path)


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("in the way")

    with pytest.raises(EnvironmentFailure, match=str(tmp_path / "digits")):
        prepare(tmp_path)


def test_an_unprepared_split_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"train\.safetensors is missing"):
        load_split("digits", "train", tmp_path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"images": [1], "labels": [2]}))


def foreign(path: Path) -> None:
    save_file({"weights": np.zeros(3)}, path)


def another_shape(path: Path) -> None:
    save_file({"images": np.zeros((10, 1, 8, 8), np.uint8), "labels": np.zeros(10, np.int64)}, path)


def another_type(path: Path) -> None:
    save_file({"images": np.zeros((1437, 1, 8, 8), np.float32), "labels": np.zeros(1437, np.int64)}, path)


def labels_out_of_range(path: Path) -> None:
    images, labels = np.zeros((1437, 1, 8, 8), np.uint8), np.full(1437, 10, np.int64)
    save_file({"images": images, "labels": labels}, path)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [truncated, pickled, foreign, another_shape, another_type, labels_out_of_range, emptied]
)
def test_a_damaged_prepared_file_is_named_with_the_command_that_mends_it(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    prepare(tmp_path)
    path = tmp_path / "digits" / "train.safetensors"
    damage(path)

    with pytest.raises(DamagedError) as caught:
        load_split("digits", "train", tmp_path)

    assert str(path) in str(caught.value)
    assert f"rm '{path}'" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_removing_a_damaged_file_mends_it(tmp_path: Path) -> None:
    prepare(tmp_path)
    path = tmp_path / "digits" / "train.safetensors"
    whole = fingerprint("digits", tmp_path)
    truncated(path)

    path.unlink()
    prepare(tmp_path)

    assert fingerprint("digits", tmp_path) == whole


def test_a_fingerprint_is_of_the_content_and_not_of_the_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    prepare(first)
    prepare(second)

    assert fingerprint("digits", first) == fingerprint("digits", second)
    assert len(fingerprint("digits", first) or "") == 64


def test_other_content_has_another_fingerprint_even_where_one_was_kept(tmp_path: Path) -> None:
    prepare(tmp_path)
    before = fingerprint("digits", tmp_path)
    path = tmp_path / "digits" / "test.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    assert fingerprint("digits", tmp_path) != before


def test_a_kept_fingerprint_is_used_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    prepare(tmp_path)
    right = fingerprint("digits", tmp_path)
    cache = tmp_path / "digits" / "fingerprint.json"
    kept = json.loads(cache.read_text())

    cache.write_text(json.dumps({**kept, "sha256": "from the cache"}))
    assert fingerprint("digits", tmp_path) == "from the cache"
    cache.write_text("{")
    assert fingerprint("digits", tmp_path) == right


@pytest.mark.parametrize("damage", [pickled, emptied])
def test_a_file_without_a_header_has_no_fingerprint(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    prepare(tmp_path)
    damage(tmp_path / "digits" / "train.safetensors")

    with pytest.raises(DamagedError, match=r"train\.safetensors"):
        fingerprint("digits", tmp_path)


def test_without_prepared_files_there_is_no_fingerprint(tmp_path: Path) -> None:
    assert fingerprint("digits", tmp_path) is None
    assert not is_prepared("digits", tmp_path)
    assert list(tmp_path.iterdir()) == []


def with_header(path: Path, entry: dict[str, object]) -> None:
    text = json.dumps({"labels": entry}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))


def test_a_header_without_a_type_has_no_fingerprint(tmp_path: Path) -> None:
    prepare(tmp_path)
    with_header(tmp_path / "digits" / "test.safetensors", {"shape": [2], "data_offsets": [0, 16]})

    with pytest.raises(DamagedError, match="test.safetensors"):
        fingerprint("digits", tmp_path)


def test_a_header_that_claims_more_than_the_file_has_is_not_waited_for(tmp_path: Path) -> None:
    prepare(tmp_path)
    whole = fingerprint("digits", tmp_path)
    with_header(
        tmp_path / "digits" / "test.safetensors", {"dtype": "I64", "shape": [2], "data_offsets": [0, (1 << 62) - 1]}
    )

    assert fingerprint("digits", tmp_path) != whole
