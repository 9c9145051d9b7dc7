"""`datasets add` and training on added datasets, as commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.terminal import Terminal
from tests.conftest import REPOSITORY
from tests.datasets.made_tables import write_shown

ADD = ("datasets", "add", "mine")
STREAM = ("--stream", "--image_size=8")
FLAGS = ("--dataset_name=mine", "--model_name=digits_resnet_8_2", "--lr=0.1", "--training_steps=1ep", "--device=cpu")


@pytest.fixture
def own(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path / "root", tmp_path / "datasets")


def write(folder: Path, count: int, classes: Sequence[str] = ("cat", "dog"), suffix: str = "png") -> None:
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for n in range(count):
            pixels = np.random.default_rng(100 * number + n).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{n}.{suffix}")


@pytest.mark.parametrize("flags", [(), STREAM], ids=["in memory", "streamed"])
def test_a_folder_as_people_have_it_becomes_a_dataset_and_all_that_is_left_out_is_said(
    own: Terminal, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    path = tmp_path / "in" / "Brain MRI"
    write(path / "Training", 5)
    write(path / "Training", 5, ["fox"], "BMP")
    write(path / "Testing", 2, ["cat", "dog", "fox"])
    write(path / "Validation", 1)
    write(path / "__MACOSX", 3)
    (path / "Training" / "cat" / "._0.png").write_bytes(b"Mac OS X")
    (path / "Training" / "cat" / "notes.txt").write_text("x")
    (path / "labels.csv").write_text("x")

    result = own.run(*ADD, str(path.parent), *flags)

    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert f"reading {path}, the only folder with images in {path.parent}" in lines
    assert f"not read: {path / 'Validation'}" in lines
    assert "skipped 2 files: 1 .csv, 1 .txt" in lines
    assert lines[-1] == "added mine: 15 training and 6 test images, 3 classes"


def test_what_is_said_of_strange_names_does_not_move_the_cursor(own: Terminal, tmp_path: Path) -> None:
    write(tmp_path / "in" / "train", 5)
    (tmp_path / "in" / "train" / "cat" / "x.\x1b[2J").write_text("x")
    (tmp_path / "in" / "\x1b[2J").mkdir()

    result = own.run(*ADD, str(tmp_path / "in"))

    assert result.code == 0 and "\x1b" not in result.out + result.err
    assert "not read" in result.out and "skipped 1 file" in result.out


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": np.arange(20) % 2 * 1.0}, ("labels.astype('int64')",)),
        ({"labels": np.zeros(20, int)}, ("one class, '0'",)),
        ({"labels": np.eye(20, dtype=int)}, ("argmax",)),
        ({"images": np.zeros((20, 8, 8))}, ("must be uint8", "(images * 255)")),
        ({"test_images": np.zeros((2, 8, 8), np.uint8)}, ("the other half of test_images",)),
    ],
)
def test_arrays_that_are_not_clear_are_refused(
    own: Terminal, tmp_path: Path, arrays: dict[str, Any], words: tuple[str, ...]
) -> None:
    whole = {"images": np.zeros((20, 8, 8), np.uint8), "labels": np.arange(20) % 2}
    if "test_images" in arrays:
        whole = {f"train_{name}": array for name, array in whole.items()}
    np.savez(tmp_path / "in.npz", **{**whole, **arrays})

    own.run(*ADD, str(tmp_path / "in.npz")).assert_is_for_people(2, "in.npz", *words)


def test_arrays_of_keras_with_labels_from_one_are_trained_on(own: Terminal, tmp_path: Path) -> None:
    images, labels = np.zeros((60, 8, 8, 3), np.uint8), (1 + np.arange(60) % 3)[:, None]
    np.savez(tmp_path / "in.npz", x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])

    added = own.run(*ADD, str(tmp_path / "in.npz"))
    trained = own.run("train", *FLAGS, "--batch_size=30")

    assert added.out.splitlines() == ["added mine: 60 training and 9 test images, 3 classes"]
    assert trained.code == 0, trained.err


@pytest.mark.parametrize("kind", [("train",), ("branch", "train", "oneshot", "--strategy=snip1", "--density=0.5")])
def test_a_last_batch_of_one_is_refused_where_batchnorm_fails_on_it(
    own: Terminal, tmp_path: Path, kind: tuple[str, ...]
) -> None:
    images, labels = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "in.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert own.run(*ADD, str(tmp_path / "in.npz")).code == 0

    result = own.run(*kind, *FLAGS, "--batch_size=19")

    result.assert_is_for_people(2, "--batch_size: 19 leaves a last batch of 1 of the 20", "such as 18 or 20")
    assert own.run("ls").out.count("train_") == 0


def test_the_page_about_datasets_shows_what_its_commands_print(own: Terminal, tmp_path: Path) -> None:
    write_shown(tmp_path)
    page = (REPOSITORY / "docs/datasets.md").read_text()
    shown = [line.removeprefix("    ") for line in page.splitlines() if line.startswith("    ")]
    commands = [
        line.removeprefix("python open_prune.py ").replace("~/", f"{tmp_path}/").split()
        for line in page.splitlines()
        if line.startswith("python open_prune.py datasets add") and "flowers" not in line and "--image_size" not in line
    ]
    assert len(commands) == 7

    for command in commands:
        result = own.run(*command)

        assert result.code == 0, result.err
        printed = result.out.replace(f"{tmp_path}/", "~/").splitlines()
        missing = [line for line in printed if line not in shown]
        assert missing == [] or "tweets" in command


def test_the_list_and_show_say_task_inputs_and_sizes(own: Terminal, tmp_path: Path) -> None:
    write_shown(tmp_path)
    assert own.run("datasets", "add", "kinds", str(tmp_path / "houses.csv"), "--target=kind", "--ignore=id").code == 0

    listed, shown = own.run("datasets").out, own.run("datasets", "show", "kinds").out

    rows = {line.split()[0]: line.split() for line in listed.splitlines()}
    assert rows["kinds"][1:8] == ["yes", "classification", "vectors", "270", "30", "2", "6"]
    assert rows["kjv"][2:8] == ["language_modelling", "tokens", "1,013,917", "142,267", "257", "128"]
    assert "270 training and 30 test examples of 6 features, 2 classes" in shown
    assert "flat,house" in shown and '"town=Köln"' in shown and "fingerprint" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("add", "mine"), "datasets takes nothing, or: add NAME PATH"),
        (("add", "mine", "a.csv", "--from_hf=b"), "datasets takes nothing, or: add NAME PATH"),
        (("--target=y",), "datasets takes nothing, or: add NAME PATH"),
        (("show", "none"), "'none' is not a valid value"),
        (("add", "mine", "nowhere.csv"), "nowhere.csv does not exist"),
        (("add", "mine", "a.csv", "--missing=guess"), "'guess' is not a valid value; choose from refuse, mean"),
        (("add", "mine", "a.csv", "--task=magic"), "'magic' is not a valid value"),
        (("add", "mine", "a.csv", "--vocabulary=10"), "--vocabulary: "),
    ],
)
def test_commands_that_are_not_whole_are_refused(own: Terminal, words: tuple[str, ...], message: str) -> None:
    result = own.run("datasets", *words)

    assert result.code != 0 and message in result.err and "Traceback" not in result.err
