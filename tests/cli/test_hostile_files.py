"""Files from somebody else: commands execute nothing in them, never wait for them, and name their faults."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.terminal import SHORT, Terminal
from tests.faults.processes import Prepared

ADD = ("datasets", "add", "mine")
STREAM = ("--stream", "--image_size=8")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images of two classes, ten each."""
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def enormous_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def a_loop(images: Path) -> None:
    (images / "a" / "up").symlink_to(images)


def a_dangling_link(images: Path) -> None:
    (images / "a" / "x.png").symlink_to("/nowhere")


def a_fifo(images: Path) -> None:
    os.mkfifo(images / "a" / "x.png")


def a_bomb(images: Path) -> None:
    (images / "a" / "x.png").write_bytes(enormous_png())


def a_spoilt_png(images: Path) -> None:
    path = images / "a" / "0.png"
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 10] ^= 0xFF
    path.write_bytes(content)


def no_pixels(images: Path) -> None:
    (images / "a" / "x.png").write_bytes(b"")


def a_class_in_latin_1(images: Path) -> None:
    os.rename(images / "a", os.fsencode(images) + b"/\xe9")  # noqa: PTH104


@pytest.mark.parametrize(
    "spoil", [a_loop, a_dangling_link, a_fifo, a_bomb, a_spoilt_png, no_pixels, a_class_in_latin_1]
)
def test_images_that_cannot_be_added_are_named(
    terminal: Terminal, tmp_path: Path, images: Path, spoil: Callable[[Path], None]
) -> None:
    terminal.datasets = tmp_path / "datasets"
    spoil(images)

    result = terminal.run(*ADD, str(images))

    assert result.code in (1, 2)
    result.assert_is_for_people(result.code, str(images))


def test_a_line_break_in_the_name_of_an_image_is_refused_where_images_are_streamed(
    terminal: Terminal, tmp_path: Path, images: Path
) -> None:
    terminal.datasets = tmp_path / "datasets"
    (images / "a" / "0.png").rename(images / "a" / "0\n.png")

    terminal.run(*ADD, str(images), *STREAM).assert_is_for_people(2, "line break")


def test_images_with_names_in_another_encoding_are_streamed(terminal: Terminal, tmp_path: Path, images: Path) -> None:
    terminal.datasets = tmp_path / "datasets"
    os.rename(images / "a" / "0.png", os.fsencode(images) + b"/a/\xe9.png")  # noqa: PTH104
    flags = ("--dataset_name=mine", "--model_name=synflow_conv", "--batch_size=9", "--training_steps=1ep", "--lr=0.1")

    assert terminal.run(*ADD, str(images), *STREAM).code == 0
    result = terminal.run("train", *flags, "--num_workers=0")

    assert result.code == 0, result.err


def test_an_addition_that_was_cut_off_between_its_parts_is_repeated(
    terminal: Terminal, tmp_path: Path, images: Path
) -> None:
    terminal.datasets = tmp_path / "datasets"
    assert terminal.run(*ADD, str(images)).code == 0
    (terminal.datasets / "mine" / "test.safetensors").unlink()

    assert terminal.run(*ADD, str(images)).code == 0
    assert "already" in terminal.run(*ADD, str(images)).err


def arrays(path: Path, **changes: Any) -> Path:
    pixels, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2
    np.savez(path, **{"images": pixels, "labels": labels, **changes})
    return path


def claimed_to_be_huge(path: Path) -> Path:
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 1000, 1000)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.getvalue())
        archive.writestr("labels.npy", b"")
    return path


def cut_off(path: Path) -> Path:
    arrays(path).write_bytes(arrays(path).read_bytes()[:200])
    return path


def numbered_to_a_billion(path: Path) -> Path:
    return arrays(path, labels=np.full(20, 10**9))


def pickled(path: Path) -> Path:
    return arrays(path, labels=np.array([object()] * 20))


def with_a_header_that_does_not_end(path: Path) -> Path:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (20, 8, 8"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return path


def of_something_else(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("images", "labels"):
            archive.writestr(name, b"no array")
    return path


def encrypted(path: Path) -> Path:
    content = bytearray(arrays(path).read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "make",
    [
        with_a_header_that_does_not_end,
        encrypted,
        of_something_else,
        claimed_to_be_huge,
        cut_off,
        numbered_to_a_billion,
        pickled,
    ],
)
def test_arrays_that_cannot_be_added_are_named(
    terminal: Terminal, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    terminal.datasets = tmp_path / "datasets"

    terminal.run(*ADD, str(make(tmp_path / "some.npz"))).assert_is_for_people(2, "some.npz")


def header(tree: object) -> bytes:
    text = json.dumps(tree).encode()
    return len(text).to_bytes(8, "little") + text


METADATA = {
    "added": "none",
    "input_shape": "1,8,8",
    "num_classes": "2",
    "mean": "0",
    "std": "1",
    "source": "s",
    "in_memory": "True",
}
LABELS = {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 64,
        (1 << 40).to_bytes(8, "little") + b"{}",
        b"\x10\0\0\0\0\0\0\0" + b"[" * 16,
        header({"labels": None}),
        header({"__metadata__": "x", "labels": LABELS}),
        header({"__metadata__": {**METADATA, "added": ["none"]}, "labels": LABELS}),
        header({"__metadata__": {**METADATA, "num_classes": "x"}, "labels": LABELS}),
        header({"__metadata__": METADATA, "labels": {**LABELS, "shape": []}}),
        header({"__metadata__": METADATA, "labels": LABELS, "\ud800": LABELS}),
        header({"__metadata__": METADATA, "labels": {**LABELS, "dtype": "\ud800"}}),
        header({"__metadata__": METADATA, "labels": {"shape": [2], "data_offsets": [0, 16]}}),
        header({"__metadata__": METADATA, "labels": {**LABELS, "shape": "abc"}}),
        header({"__metadata__": METADATA, "labels": {**LABELS, "shape": [-1]}}),
        header({"__metadata__": METADATA, "labels": {**LABELS, "data_offsets": [5]}}),
        None,
    ],
)
def test_a_prepared_file_of_another_form_breaks_no_command(
    terminal: Terminal, tmp_path: Path, content: bytes | None
) -> None:
    terminal.datasets = tmp_path / "datasets"
    (terminal.datasets / "odd").mkdir(parents=True)
    for split in ("train", "test"):
        path = terminal.datasets / "odd" / f"{split}.safetensors"
        os.mkfifo(path) if content is None else path.write_bytes(content)

    for command in ("datasets", "ls"):
        result = terminal.run(command)
        assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        ("sweep", "{}"),
        ("run", "{}"),
        ("ls", "--plugin={}"),
        ("import", "{}"),
        ("import", "{}", "--weights", *SHORT),
        ("ls", "--root={}"),
    ],
)
def test_a_fifo_is_not_waited_for(terminal: Terminal, tmp_path: Path, command: tuple[str, ...]) -> None:
    os.mkfifo(tmp_path / "fifo")

    result = terminal.run(*(part.format(tmp_path / "fifo") for part in command))

    result.assert_is_for_people(result.code, str(tmp_path / "fifo"))
    assert result.code in (1, 2)


@pytest.mark.parametrize(
    "content",
    [
        {1: torch.zeros(2)},
        {"fc.weight": torch.zeros(1).expand(10**6, 10**6)},
        {"fc.weight": torch.zeros(3, 3).to_sparse()},
        {"fc.weight": [1, 2]},
        [torch.zeros(2)],
    ],
)
@pytest.mark.parametrize("flags", [("--openlth",), ("--weights",)])
def test_tensors_of_other_programs_that_cannot_be_taken_are_refused(
    terminal: Terminal, tmp_path: Path, content: object, flags: tuple[str, ...]
) -> None:
    path = tmp_path / "model_ep0_it0.pth"
    torch.save(content, path)

    result = terminal.run("import", str(tmp_path if flags == ("--openlth",) else path), *flags, *SHORT)

    result.assert_is_for_people(1, path.name)


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (("lottery", "--levels=1000000000", *SHORT), "--levels"),
        (("lottery", "--levels=1-999999999", *SHORT), "--levels"),
        (("train", *SHORT, f"--training_steps={'9' * 4400}ep"), "--training_steps"),
        (("train", *SHORT, f"--batch_size={'9' * 4400}"), "--batch_size"),
        (("train", *SHORT, f"--model_name=digits_lenet_{'9' * 4400}"), "--model_name"),
        (("train", *SHORT, "--threads=1000000000000"), "--threads"),
    ],
)
def test_a_number_that_is_too_large_is_refused(terminal: Terminal, command: tuple[str, ...], flag: str) -> None:
    terminal.run(*command).assert_is_for_people(2, flag)


def test_an_export_for_openlth_that_fails_leaves_the_former_one(two_runs: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "openlth"
    assert two_runs.run("export", "train_", str(folder), "--openlth").code == 0
    (name,) = os.listdir(folder)  # noqa: PTH208
    before = (folder / name).read_bytes()
    (folder / name).unlink()
    (folder / name).mkdir()

    result = two_runs.run("export", "train_", str(folder), "--openlth")

    result.assert_is_for_people(1, str(folder))
    assert os.listdir(folder) == [name] and before  # noqa: PTH208


def test_without_a_home_commands_work_where_the_folders_are_named_and_say_so_where_not(
    two_runs: Terminal,
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    def be_homeless() -> None:
        setattr(Path, "home", no_home)  # noqa: B010
        if not names_datasets:
            os.environ.pop("OPEN_PRUNE_DATASETS", None)

    names_datasets = True
    assert Prepared(("ls",), two_runs.settings(), be_homeless).result().code == 0
    names_datasets = False
    found = Prepared(("ls",), two_runs.settings(), be_homeless).result()
    found.assert_is_for_people(1, "OPEN_PRUNE_DATASETS")
