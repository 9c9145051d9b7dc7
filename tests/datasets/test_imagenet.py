import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.decode import decode
from datasets.formats.source_files import Arrays, Index, Split
from datasets.sources.imagenet import IMAGENET
from foundations.errors import DamagedError, EnvironmentFailure
from tests.datasets import published_files as made
from tests.datasets.published_files import source_files

WNIDS = ["n01440764", "n02084071", "n15075141"]
IDS = {"n15075141": 1, "n01440764": 2, "n02084071": 1000}  # the kit numbers classes in an order of its own
VALIDATION = ["n02084071", "n01440764", "n02084071", "n15075141", "n01440764"]


def validation_name(n: int) -> str:
    return f"ILSVRC2012_val_{n + 1:08d}.JPEG"


def tar_of(contents: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, blob in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(blob)
            archive.addfile(info, io.BytesIO(blob))
    return stream.getvalue()


def validation_pictures() -> dict[str, NDArray[Any]]:
    return {validation_name(n): made.picture(40, 60, seed=500 + n) for n in range(len(VALIDATION))}


def kit_files() -> dict[str, bytes]:
    synsets = [{"ILSVRC2012_ID": IDS[wnid], "WNID": wnid, "words": "a, b"} for wnid in WNIDS]
    truth = "".join(f"{IDS[wnid]}\n" for wnid in VALIDATION)
    return {
        "data/meta.mat": made.mat_bytes({"synsets": synsets}),
        "data/ILSVRC2012_validation_ground_truth.txt": truth.encode(),
    }


def write_kit(root: Path, packed: bool = False) -> None:
    if packed:
        root.mkdir(parents=True, exist_ok=True)
        with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
            for name, blob in kit_files().items():
                info = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/{name}")
                info.size = len(blob)
                archive.addfile(info, io.BytesIO(blob))
        return
    for name, blob in kit_files().items():
        path = root / "ILSVRC2012_devkit_t12" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)


def write_class_folders(root: Path, inside: str = "") -> dict[str, NDArray[Any]]:
    train = made.write_image_folders(root / "train", WNIDS, 2, size=(40, 60), inside=inside)
    for (name, array), wnid in zip(validation_pictures().items(), VALIDATION, strict=True):
        path = root / "val" / wnid / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.jpeg(array))
    return {path.name: array for path, array in train.items()}


def write_archives(root: Path) -> dict[str, NDArray[Any]]:
    train = made.write_image_folders(root / "unpacked", WNIDS, 2, size=(40, 60))
    inner = {
        f"{wnid}.tar": tar_of({path.name: path.read_bytes() for path in train if path.parent.name == wnid})
        for wnid in reversed(WNIDS)
    }
    (root / "ILSVRC2012_img_train.tar").write_bytes(tar_of(inner))
    blobs = {name: made.jpeg(array) for name, array in reversed(validation_pictures().items())}
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar_of(blobs))
    return {path.name: array for path, array in train.items()}


def images_of(index: Index, root: Path) -> Iterator[NDArray[Any]]:
    for number, offset, size in zip(index.file, index.offset, index.size, strict=True):
        blob = (root / index.files[number]).read_bytes()[offset : offset + size]
        yield decode(blob).permute(1, 2, 0).numpy()


def assert_index(index: Split | Index | Arrays, root: Path, expected: list[tuple[NDArray[Any], str]]) -> None:
    """Compare with the expected pictures and their wnids, in order."""
    assert isinstance(index, Index)
    assert index.class_names == tuple(WNIDS)
    assert [WNIDS[label] for label in index.labels] == [wnid for _, wnid in expected]
    for image, (array, _) in zip(images_of(index, root), expected, strict=True):
        assert np.abs(image.astype(int) - array).mean() < 3


def in_order(train: dict[str, NDArray[Any]]) -> list[tuple[NDArray[Any], str]]:
    return [(array, name.split("_")[0]) for name, array in sorted(train.items())]


@pytest.mark.parametrize("place", [".", "imagenet"])
@pytest.mark.parametrize("inside", ["", "images"])
def test_class_folders_are_indexed_at_any_depth(tmp_path: Path, place: str, inside: str) -> None:
    train = write_class_folders(tmp_path / place, inside)

    splits = IMAGENET.read(source_files(tmp_path, "imagenet"))

    by_class = sorted(zip(validation_pictures().items(), VALIDATION, strict=True), key=lambda row: row[1])
    assert_index(splits["train"], tmp_path, in_order(train))
    assert_index(splits["test"], tmp_path, [(array, wnid) for (_, array), wnid in by_class])


@pytest.mark.parametrize("packed", [False, True])
def test_flat_validation_images_get_the_labels_of_the_development_kit(tmp_path: Path, packed: bool) -> None:
    write_class_folders(tmp_path)
    for path in list((tmp_path / "val").rglob("*.JPEG")):
        path.rename(tmp_path / "val" / path.name)
    for wnid in WNIDS:
        (tmp_path / "val" / wnid).rmdir()
    write_kit(tmp_path, packed)

    test = IMAGENET.read(source_files(tmp_path, "imagenet"))["test"]

    assert_index(test, tmp_path, list(zip(validation_pictures().values(), VALIDATION, strict=True)))


def test_the_original_archives_are_indexed_where_they_lie(tmp_path: Path) -> None:
    train = write_archives(tmp_path)
    write_kit(tmp_path, packed=True)

    splits = IMAGENET.read(source_files(tmp_path, "imagenet"))

    assert splits["train"].arrays()["files"].tobytes() == b"ILSVRC2012_img_train.tar"
    assert_index(splits["train"], tmp_path, in_order(train))
    assert_index(splits["test"], tmp_path, list(zip(validation_pictures().values(), VALIDATION, strict=True)))


@pytest.mark.parametrize("archive", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
@pytest.mark.parametrize("cut", [100, 2000])
def test_a_truncated_archive_is_named(tmp_path: Path, archive: str, cut: int) -> None:
    write_archives(tmp_path)
    write_kit(tmp_path)
    path = tmp_path / archive
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(DamagedError, match=archive):
        IMAGENET.read(source_files(tmp_path, "imagenet"))


def test_validation_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_archives(tmp_path)
    write_kit(tmp_path)
    truth = tmp_path / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt"

    truth.write_text("1\n2\n")
    with pytest.raises(DamagedError, match="5 images, but the development kit has 2 labels"):
        IMAGENET.read(source_files(tmp_path, "imagenet"))
    truth.write_text("1\n2\n3\n4\n5\n")
    with pytest.raises(DamagedError, match="not a list of class numbers"):
        IMAGENET.read(source_files(tmp_path, "imagenet"))


def test_missing_labels_name_the_kit(tmp_path: Path) -> None:
    write_archives(tmp_path)

    with pytest.raises(EnvironmentFailure, match="ILSVRC2012_devkit_t12") as caught:
        IMAGENET.read(source_files(tmp_path, "imagenet"))
    assert len(str(caught.value).splitlines()) <= 3


def test_missing_images_name_the_places(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=str(tmp_path / "imagenet")) as caught:
        IMAGENET.read(source_files(tmp_path, "imagenet"))
    assert len(str(caught.value).splitlines()) <= 3
