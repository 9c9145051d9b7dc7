"""Users' folders of images, in every arrangement: read correctly, and excluded files are listed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from datasets.hparams import DatasetHparams
from datasets.loading.loader import open_loader
from datasets.prepared import fingerprint, load_split
from tests.datasets import published_files as made
from tests.datasets.image_folders import STREAMED, class_names, refusal, sizes, write, write_classes, write_splits
from tests.datasets.loading import add


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["in memory", "streamed"])
@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("train", "val"),
        ("train", "Validation"),
        ("train", "dev"),
        ("training_set", "test_set"),
        ("trainset", "testset"),
        ("TrainData", "TestData"),
        ("seg_train", "seg_test"),
        ("train2017", "val2017"),
    ],
)
def test_splits_are_known_by_their_usual_names(tmp_path: Path, train: str, test: str, options: dict[str, Any]) -> None:
    add(tmp_path, write_splits(tmp_path / "in", train, test), **options)

    assert sizes() == (10, 4, 2)
    assert class_names(tmp_path) == ["cat", "dog"]


@pytest.mark.parametrize("others", [("val",), ("valid", "Validation")])
def test_a_test_folder_is_preferred_and_the_others_are_named(tmp_path: Path, others: tuple[str, ...]) -> None:
    path = write_splits(tmp_path / "in", "train", "testing")
    for name in others:
        write_classes(path / name, 3)

    lines = add(tmp_path, path)

    assert sizes() == (10, 4, 2)
    (line,) = [line for line in lines if line.startswith("not read: ")]
    assert all(str(path / name) in line for name in others)


def test_a_test_folder_without_classes_gives_way_to_a_validation_set(tmp_path: Path) -> None:
    path = write_splits(tmp_path / "in", "train", "val")
    write(path / "test" / "0.png")

    lines = add(tmp_path, path)

    assert sizes() == (10, 4, 2)
    assert f"not read: {path / 'test'}" in lines


def test_folders_beside_the_splits_are_named(tmp_path: Path) -> None:
    path = write_splits(tmp_path / "in")
    write(path / "unlabelled" / "0.png")

    assert f"not read: {path / 'unlabelled'}" in add(tmp_path, path)


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["in memory", "streamed"])
@pytest.mark.parametrize(
    "hidden",
    [
        "train/.ipynb_checkpoints/0-checkpoint.png",
        "train/cat/.ipynb_checkpoints/0-checkpoint.png",
        "train/cat/._0.png",
        "__MACOSX/train/cat/._0.png",
        "train/__MACOSX/0.png",
        ".git/0.png",
        "train/cat/@eaDir/0.png",
    ],
)
def test_hidden_files_and_folders_are_ignored(tmp_path: Path, hidden: str, options: dict[str, Any]) -> None:
    path = write_splits(tmp_path / "in")
    write(path / hidden)

    lines = add(tmp_path, path, **options)

    assert sizes() == (10, 4, 2)
    assert not any("skipped" in line or "not read" in line for line in lines)


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["in memory", "streamed"])
@pytest.mark.parametrize("suffix", ["bmp", "gif", "webp", "tiff", "tif", "ppm", "pgm", "tga", "jfif", "PNG", "JPG"])
def test_images_of_every_format_are_read(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    path = write_splits(tmp_path / "in")
    write_classes(path / "train", 5, ["fox"], suffix)
    write_classes(path / "test", 2, ["fox"], suffix)

    add(tmp_path, path, **options)

    assert sizes() == (15, 6, 3)


def test_formats_without_loss_give_the_same_dataset(tmp_path: Path) -> None:
    found = set()
    for suffix in ("png", "bmp", "tiff", "ppm"):
        add(tmp_path, write_splits(tmp_path / suffix, suffix=suffix), suffix)
        found.add(fingerprint(suffix, tmp_path / "datasets"))

    assert len(found) == 1


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["in memory", "streamed"])
def test_files_that_are_no_images_are_counted_by_suffix(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write_splits(tmp_path / "in")
    for name in ("train/cat/a.txt", "test/dog/B.TXT", "train/labels.csv", "LICENSE", "train/cat/labels.h5"):
        (path / name).write_text("x")

    lines = add(tmp_path, path, **options)

    assert "skipped 5 files: 2 .txt, 1 without a suffix, 1 .csv, 1 .h5" in lines


def test_a_single_skipped_file_is_one_file(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "in", 10)
    (path / "cat" / "x.txt").write_text("x")

    assert "skipped 1 file: 1 .txt" in add(tmp_path, path)


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["in memory", "streamed"])
@pytest.mark.parametrize("place", ["in", "in/train", "in/test"])
def test_images_beside_class_folders_are_named(tmp_path: Path, place: str, options: dict[str, Any]) -> None:
    path = write_splits(tmp_path / "in")
    loose = write(tmp_path / place / "loose.png")

    lines = add(tmp_path, path, **options)

    assert sizes() == (10, 4, 2)
    assert f"skipped 1 image in no class folder: {loose}" in lines


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["in memory", "streamed"])
@pytest.mark.parametrize("place", ["in/emu", "in/train/emu"])
def test_a_class_without_images_is_refused(tmp_path: Path, place: str, options: dict[str, Any]) -> None:
    write_splits(tmp_path / "in") if "train" in place else write_classes(tmp_path / "in", 9)
    (tmp_path / place).mkdir()

    assert "'emu'" in refusal(tmp_path, tmp_path / "in", **options)


def test_a_class_of_a_format_that_is_not_read_is_refused_with_the_format(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "in", 9)
    (path / "emu").mkdir()
    (path / "emu" / "0.heic").write_bytes(b"x")

    error = refusal(tmp_path, path)

    assert "'emu'" in error and "1 .heic" in error


@pytest.mark.parametrize("has_folder", [False, True])
def test_a_class_that_the_test_set_lacks_is_named(tmp_path: Path, has_folder: bool) -> None:
    path = write_splits(tmp_path / "in")
    write_classes(path / "train", 5, ["emu"])
    if has_folder:
        (path / "test" / "emu").mkdir()

    lines = add(tmp_path, path)

    assert sizes() == (15, 4, 3)
    assert "the test set holds no examples of 'emu'" in lines


def test_a_class_that_the_test_set_alone_has_is_refused(tmp_path: Path) -> None:
    path = write_splits(tmp_path / "in")
    write_classes(path / "test", 5, ["emu"])

    error = refusal(tmp_path, path)

    assert "'emu'" in error and "'cat'" not in error


def test_accented_names_match_however_they_are_encoded(tmp_path: Path) -> None:
    write_classes(tmp_path / "in" / "train", 3, ["caf\u00e9", "th\u00e9"])
    write_classes(tmp_path / "in" / "test", 2, ["cafe\u0301", "the\u0301"])

    add(tmp_path, tmp_path / "in")

    assert sizes() == (6, 4, 2)
    assert class_names(tmp_path) == ["caf\u00e9", "th\u00e9"]


def test_names_with_spaces_and_of_any_script_are_kept(tmp_path: Path) -> None:
    add(tmp_path, write_classes(tmp_path / "in", 12, ["big cat", "собака", "猫"]))

    assert class_names(tmp_path) == ["big cat", "собака", "猫"]


def test_images_in_folders_within_a_class_are_of_the_class(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "in", 9)
    write(path / "cat" / "tabby" / "young" / "0.png")
    write(path / "dog" / "train" / "0.png")  # a breed of its own, not a split

    add(tmp_path, path)

    assert sum(sizes()[:2]) == 20


def test_links_to_classes_and_images_are_followed(tmp_path: Path) -> None:
    real = write_classes(tmp_path / "real", 9)
    (tmp_path / "in" / "dog").mkdir(parents=True)
    (tmp_path / "in" / "cat").symlink_to(real / "cat")
    for number in range(9):
        (tmp_path / "in" / "dog" / f"{number}.png").symlink_to(real / "dog" / f"{number}.png")

    add(tmp_path, tmp_path / "in", "linked")
    add(tmp_path, real, "real")

    assert fingerprint("linked", tmp_path / "datasets") == fingerprint("real", tmp_path / "datasets")


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["in memory", "streamed"])
@pytest.mark.parametrize(
    "wrapper", ["data", "data/images", "My Pictures", "data/train+test", "train/train", "train/images"]
)
def test_a_single_folder_around_the_others_is_looked_through(
    tmp_path: Path, wrapper: str, options: dict[str, Any]
) -> None:
    if wrapper.startswith("train/"):
        write_classes(tmp_path / "in" / wrapper, 5)
        write_classes(tmp_path / "in" / "test" / Path(wrapper).name, 2)
    elif wrapper.endswith("test"):
        write_splits(tmp_path / "in" / Path(wrapper).parent)
    else:
        write_classes(tmp_path / "in" / wrapper, 7)

    lines = add(tmp_path, tmp_path / "in", **options)

    assert sum(sizes()[:2]) == 14 and sizes()[2] == 2
    assert any(line.startswith("reading ") and "the only folder with images" in line for line in lines)


def test_a_folder_named_images_is_looked_through_beside_one_without_images(tmp_path: Path) -> None:
    write_classes(tmp_path / "in" / "images", 7)
    (tmp_path / "in" / "annotations").mkdir()

    lines = add(tmp_path, tmp_path / "in")

    assert sizes()[2] == 2
    assert f"not read: {tmp_path / 'in' / 'annotations'}" in lines


def test_a_test_set_of_one_class_is_not_looked_through(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "in" / "train", 3).parent
    for inner in ("young", "old"):
        write(path / "test" / "cat" / inner / "0.png")

    add(tmp_path, path)

    assert sizes() == (6, 2, 2)
    assert load_split("mine", "test", tmp_path / "datasets")[1].tolist() == [0, 0]


@pytest.mark.parametrize("named", ["train", "valid"])
def test_a_class_that_is_named_like_a_split_is_a_class_where_it_holds_images(tmp_path: Path, named: str) -> None:
    path = write_classes(tmp_path / "in", 9, ["bus", "car", named])

    lines = add(tmp_path, path)

    assert sizes()[2] == 3
    assert any(line.startswith(f"{path / named}: read as a class") for line in lines)


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["in memory", "streamed"])
def test_orientations_and_frames_that_are_not_read_are_counted(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write_splits(tmp_path / "in")
    exif = Image.Exif()
    exif[0x0112] = 6
    write(path / "train" / "cat" / "turned.jpg", exif=exif)
    frames = [Image.new("RGB", (12, 12), color) for color in ("red", "blue")]
    frames[0].save(path / "train" / "dog" / "moving.gif", save_all=True, append_images=frames[1:])

    lines = add(tmp_path, path, **options)

    read = 12 if options else 16  # of streamed images, only the training set's are read
    assert f"1 of {read} images with an EXIF orientation, which is not applied" in lines
    assert f"1 of {read} images with several frames, of which the first is read" in lines


def test_a_set_that_was_read_before_is_the_same(tmp_path: Path) -> None:
    images = made.images(60, 3, 12)
    for folder, count in (("a", 20), ("b/train", 9), ("b/val", 2)):
        for number in range(3):
            for n in range(count):
                path = tmp_path / folder / f"class {number}" / f"{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[(20 * number + n) % 60].transpose(1, 2, 0)).save(path)

    for name in ("a", "b"):
        add(tmp_path, tmp_path / name, name)

    assert [fingerprint(name, tmp_path / "datasets") for name in ("a", "b")] == [
        "558c5223c77880daa0d30974ac33a7aef98a6d6c50daf84d6798113b4b92834a",
        "865411dca34aee805cf38770151aa3bb1bf487b3b1281cdd07d927442838f01d",
    ]


def test_where_a_random_tenth_misses_a_class_an_example_of_it_is_held_out(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "in", 35, ["cat", "dog"])
    write_classes(path, 2, ["emu"])

    lines = add(tmp_path, path)

    train, test = (load_split("mine", split, tmp_path / "datasets")[1] for split in ("train", "test"))
    assert (len(train), len(test)) == (65, 7)
    assert train.bincount()[2] == test.bincount()[2] == 1
    assert any("without 'emu'" in line for line in lines)


def test_a_test_set_has_every_class_however_many_there_are(tmp_path: Path) -> None:
    add(tmp_path, write_classes(tmp_path / "in", 2, [f"c{number:02}" for number in range(20)]))

    labels = [load_split("mine", split, tmp_path / "datasets")[1] for split in ("train", "test")]
    assert [each.tolist() for each in labels] == [list(range(20))] * 2


def test_streamed_images_of_every_format_are_decoded_as_they_are_needed(tmp_path: Path) -> None:
    path = write_splits(tmp_path / "in", suffix="bmp")
    write_classes(path / "test", 1, ["cat"], "gif")
    add(tmp_path, path, **STREAMED)

    loader = open_loader(DatasetHparams(dataset_name="mine", batch_size=100), tmp_path / "datasets", workers=0)

    images, _ = next(loader.test_batches())
    assert images.shape == (5, 3, 12, 12)
    assert torch.isfinite(images).all()
