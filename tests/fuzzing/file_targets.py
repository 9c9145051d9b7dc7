"""Files that a command is given, or that lie in the folder of datasets."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets.prepared import SPLITS
from foundations.program import TOP
from foundations.storage import tensor_files
from tests.conftest import REPOSITORY
from tests.fuzzing.formats import (
    npy_like,
    npz_like,
    pickled_program,
    pickled_tensors_like,
    safetensors_like,
    signed_like,
)
from tests.fuzzing.harness import Attempt, Target, Wrong, command, files_in, restored
from tests.fuzzing.mutations import bytes_like, text_like
from tests.fuzzing.run_targets import own_root
from tests.fuzzing.seeds import ONESHOT, TRAIN, Seeds

_TRAINING = tuple(flag for flag in TRAIN[1:])
_WORDS = (
    "[[grid]]",
    "[base]",
    "[[when]]",
    "set",
    "zip",
    "command",
    "strategy",
    "1-5",
    "0.5^1..4",
    "[cpu.sweep]",
    "= [",
    "{",
    "name",
)


def file_targets(seeds: Seeds) -> list[Target]:
    """Return the targets."""
    return [
        Target("tickets", partial(_tickets, seeds), 2_500),
        Target("files of weights", partial(_weights, seeds), 2_500),
        Target("OpenLTH's runs", partial(_openlth, seeds), 2_000),
        Target("prepared datasets", partial(_prepared, seeds), 2_500),
        Target("arrays to add", partial(_arrays, seeds), 2_000),
        Target("images to add", partial(_images, seeds), 750),
        Target("sweep files", partial(_sweeps, seeds), 2_000),
        Target("paper files", partial(_papers, seeds), 1_500),
        Target("plug-in files", partial(_plugins, seeds), 750, batch=1),
        Target("job files", partial(_jobs, seeds), 1_000),
    ]


def _tickets(seeds: Seeds, folder: Path) -> Attempt:
    root, path, data = own_root(seeds, folder, seeds.root), folder / "some.safetensors", seeds.ticket.read_bytes()
    valid = files_in(root)

    def attempt(stream: random.Random) -> None:
        with restored(valid, root):
            path.write_bytes(data)
            path.write_bytes(_tensor_file_like(path, data, stream, folder / "executed"))
            said = command("import", str(path), "--device=cpu")
            if said.code == 0:
                _use_imported(root, stream)
        _refuse_traces(folder)

    return attempt


def _tensor_file_like(path: Path, data: bytes, stream: random.Random, trace: Path) -> bytes:
    action = stream.random()
    if action < 0.05:
        return pickled_program(trace, stream)
    return signed_like(path, "", stream) if action < 0.5 else safetensors_like(data, stream)


def _use_imported(root: Path, stream: random.Random) -> None:
    """Look at the run that a file became: it is a run like any other."""
    found = [path for path in root.glob("import_*/*/*") if (path / "manifest.json").exists()]
    for path in found[:1]:
        address = str(path.relative_to(root))
        readers = (
            ("show", address),
            ("verify", address),
            ("ls",),
            ("export", address, str(root.parent / "again.safetensors")),
        )
        said = command(*stream.choice(readers))
        if said.code:
            raise Wrong(f"a file was imported, but its run cannot be read: {said.out}{said.err}")


def _refuse_traces(folder: Path) -> None:
    if (folder / "executed").exists():
        raise Wrong("what a pickle says was executed")


def _weights(seeds: Seeds, folder: Path) -> Attempt:
    root, data = own_root(seeds, folder, seeds.root), seeds.dense.read_bytes()
    valid, tensors = files_in(root), tensor_files.read(seeds.dense, "")[0]

    def attempt(stream: random.Random) -> None:
        with restored(valid, root):
            if stream.random() < 0.5:
                path = folder / "some.safetensors"
                path.write_bytes(data)
                path.write_bytes(_tensor_file_like(path, data, stream, folder / "executed"))
            elif stream.random() < 0.8:
                path = folder / "some.pth"
                path.write_bytes(pickled_tensors_like(tensors, folder / "executed", stream))
            else:
                path = folder / stream.choice(("some.npz", "some.pth"))
                path.write_bytes(npz_like({name: tensor.numpy() for name, tensor in tensors.items()}, stream))
            if command("import", str(path), "--weights", *_TRAINING).code == 0:
                _use_imported(root, stream)
        _refuse_traces(folder)

    return attempt


def _openlth(seeds: Seeds, folder: Path) -> Attempt:
    root, place = own_root(seeds, folder, seeds.root), folder / "train_1" / "replicate_1" / "main"
    shutil.copytree(seeds.openlth, place)
    valid, kept = files_in(root), files_in(folder / "train_1")
    import torch

    tensors = {path: torch.load(path, weights_only=True) for path in kept if path.suffix == ".pth"}

    def attempt(stream: random.Random) -> None:
        with restored(valid, root), restored(kept, folder / "train_1"):
            path = stream.choice(list(kept))
            if path in tensors:
                path.write_bytes(pickled_tensors_like(tensors[path], folder / "executed", stream))
            else:
                path.write_bytes(bytes_like(kept[path], stream))
            if stream.random() < 0.1:
                name = text_like(path.name, stream).encode(errors="replace").decode()
                path.rename(path.with_name(re.sub("[/\0]", "_", name)[:60]))
            named = stream.choice((place, folder / "train_1", folder / "train_1" / "replicate_1"))
            if command("import", str(named), "--openlth", "--device=cpu", "--quiet").code == 0:
                _use_imported(root, stream)
        _refuse_traces(folder)

    return attempt


def _prepared(seeds: Seeds, folder: Path) -> Attempt:
    root = own_root(seeds, folder, seeds.root)
    shutil.copytree(seeds.datasets, folder / "datasets")
    os.environ["OPEN_PRUNE_DATASETS"] = str(folder / "datasets")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    np.savez(folder / "some.npz", images=pixels, labels=np.arange(40) % 10)
    assert command("datasets", "add", "mine", str(folder / "some.npz")).code == 0
    valid, prepared = files_in(root), files_in(folder / "datasets")
    mine = ("train", "--dataset_name=mine", *_TRAINING[1:], "--model_name=digits_lenet_16", "--lr=0.1")
    readers = (("datasets",), ("ls",), mine, mine, TRAIN, ONESHOT, ("train", *_TRAINING, "--training_steps=3it"))
    chosen = [
        path for path in prepared if path.parent.name in ("digits", "mine") and path.suffix in (".safetensors", ".json")
    ]

    def attempt(stream: random.Random) -> None:
        with restored(valid, root), restored(prepared, folder / "datasets"):
            path = stream.choice(chosen)
            path.write_bytes(
                safetensors_like(prepared[path], stream)
                if path.suffix == ".safetensors"
                else bytes_like(prepared[path], stream)
            )
            for each in stream.sample(readers, k=stream.choice((1, 2))):
                command(*each)

    return attempt


def _arrays(_: Seeds, folder: Path) -> Attempt:
    os.environ.update(OPEN_PRUNE_DATASETS=str(folder / "datasets"), OPEN_PRUNE_ROOT=str(folder / "root"))
    pixels = np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8)
    labels = np.arange(20) % 2
    whole: dict[str, NDArray[Any]] = {"images": pixels, "labels": labels}
    halves = {f"{split}_{name}": array for split in SPLITS for name, array in whole.items()}

    keras = {
        f"{name}_{split}": halves[f"{split}_{kind}"] for split in SPLITS for name, kind in zip("xy", whole, strict=True)
    }

    def attempt(stream: random.Random) -> None:
        arrays = stream.choice((whole, halves, keras))
        if stream.random() < 0.6:
            path = folder / "some.npz"
            path.write_bytes(npz_like(arrays, stream))
        else:
            path = folder / "arrays"
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            for name, array in arrays.items():
                (path / f"{name}.npy").write_bytes(npy_like(array, stream))
        size = () if stream.random() < 0.8 else (f"--image_size={stream.choice((1, 4, 16))}",)
        command("datasets", "add", "mine", str(path), *size)
        command("datasets")
        shutil.rmtree(folder / "datasets", ignore_errors=True)

    return attempt


def _images(_: Seeds, folder: Path) -> Attempt:
    os.environ.update(OPEN_PRUNE_DATASETS=str(folder / "datasets"), OPEN_PRUNE_ROOT=str(folder / "root"))
    images = folder / "images"
    for name in ("a", "b"):
        (images / name).mkdir(parents=True)
        for number, suffix in enumerate(("png", "jpg", "gif", "webp", "tif", "bmp", "tga", "ppm", "ico", "jp2")):
            colors = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(colors).save(images / name / f"{number}.{suffix}")
    valid = files_in(images)

    def attempt(stream: random.Random) -> None:
        with restored(valid, images):
            path = stream.choice(list(valid))
            action = stream.random()
            if action < 0.6:
                path.write_bytes(_image_like(valid[path], stream))
            elif action < 0.8:
                path.unlink()
                path.symlink_to(stream.choice(("/nowhere", "/dev/zero", "..", "../..", "/etc/passwd", path.name)))
            elif action < 0.9:
                names = ("x\n.png", "\x1b.png", "..png", "é.png", "a" * 240 + ".png", "x.PNG", "x", "x.\x1b", "0.csv")
                path.rename(path.with_name(stream.choice(names)))
            elif action < 0.95:
                place = images / stream.choice(
                    ("train", "Test/a", "a/train", "b/val", "\x1b", "__MACOSX", "a/\x1b", "c")
                )
                place.mkdir(parents=True, exist_ok=True)
                path.rename(place / path.name)
            else:
                os.mkfifo(path.with_suffix(".jpeg"))
            flags = stream.choice(((), ("--image_size=4",), ("--image_size=8", "--stream")))
            command("datasets", "add", "mine", str(images), *flags)
        shutil.rmtree(folder / "datasets", ignore_errors=True)

    return attempt


def _image_like(data: bytes, stream: random.Random) -> bytes:
    """Return an image with other bytes; of a PNG, also with another size and valid sums."""
    if not data.startswith(b"\x89PNG") or stream.random() < 0.5:
        return bytes_like(data, stream)
    size = stream.choice(((0, 0), (0, 8), (8, 0), (1, 1), (8, 7), (60_000, 60_000), (1 << 31, 1), (16_000, 16_000)))
    header = b"IHDR" + struct.pack(
        ">IIBBBBB", *size, stream.choice((1, 8, 16)), stream.choice((0, 2, 3, 4, 6)), 0, 0, stream.choice((0, 1))
    )
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def _sweeps(seeds: Seeds, folder: Path) -> Attempt:
    own_root(seeds, folder, seeds.root)
    path = folder / "some.toml"

    def attempt(stream: random.Random) -> None:
        path.write_bytes(toml_like(SWEEP, stream))
        command("sweep", str(path), stream.choice(("--dry_run", "--export")))

    return attempt


def toml_like(text: str, stream: random.Random) -> bytes:
    if stream.random() < 0.4:
        return bytes_like(text.encode(), stream)
    return text_like(text, stream, _WORDS).encode(errors="surrogatepass" if stream.random() < 0.5 else "replace")


_BASE = "\n".join(
    f"{name} = '{value}'" for name, _, value in (flag.removeprefix("--").partition("=") for flag in TRAIN[1:-1])
)
SWEEP = f"""command = "branch train oneshot"
[base]
{_BASE}
[[grid]]
strategy = ["snip1", "random"]
density = "0.5^1..2"
replicate = "1-2"
[[grid]]
name = "b"
zip = {{ density = [0.1, 0.2], seed = [1, 2] }}
[[when]]
strategy = "snip1"
set = {{ prune_iterations = 3 }}
"""


def _papers(seeds: Seeds, folder: Path) -> Attempt:
    own_root(seeds, folder, seeds.root)
    path, text = folder / "some.toml", (TOP / "papers" / "demo.toml").read_text()

    def attempt(stream: random.Random) -> None:
        path.write_bytes(toml_like(text, stream))
        command("paper", str(path), "--dry_run")

    return attempt


def _plugins(seeds: Seeds, folder: Path) -> Attempt:
    own_root(seeds, folder, seeds.root)
    examples = {path.stem: path.read_text() for path in (REPOSITORY / "examples").glob("my_*.py")}
    listings = (
        ("strategies",),
        ("datasets",),
        ("techniques",),
        ("measures",),
        ("ls",),
        ("train", "--help"),
    )

    def attempt(stream: random.Random) -> None:
        name = stream.choice(sorted(examples))
        path = folder / f"{name}.py"
        path.write_bytes(text_like(examples[name], stream, _PYTHON).encode(errors="replace"))
        for each in stream.sample(listings, k=2):
            said = command(*each, f"--plugin={path}")
            if said.code not in (0, 2) or (said.code and str(path) not in said.err):
                raise Wrong(f"{each} ended with {said.code}: {said.err}")

    return attempt


_PYTHON = (
    "None",
    "1",
    "lambda: 0",
    "()",
    "raise ValueError",
    "spelling=",
    "spelling=1,",
    "pattern='(',",
    "= 1 / 0",
    "import x\n",
    "self",
)


def _jobs(seeds: Seeds, folder: Path) -> Attempt:
    from branches.job_files import write_job_file
    from branches.kinds import load_desc
    from foundations.plan import Target as Wanted
    from foundations.plan import plan
    from foundations.storage.store import all_runs

    root = own_root(seeds, folder, seeds.root)
    texts = []
    for run in all_runs(root):
        made = plan([Wanted(load_desc(run), 1)], root)
        write_job_file(made[run.location], folder / "some.json")
        texts.append((folder / "some.json").read_bytes())
    valid, path = files_in(root), folder / "some.json"
    from tests.fuzzing.formats import json_like

    def attempt(stream: random.Random) -> None:
        with restored(valid, root):
            path.write_bytes(json_like(stream.choice(texts), stream))
            command("run", str(path), "--device=cpu", "--quiet")

    return attempt
