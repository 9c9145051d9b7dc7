"""Remotes with one object that is corrupt or hostile, made from a whole one by a seed."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foundations.description.address import Location
from foundations.remotes import layout
from foundations.remotes.storage import MissingObject, Storage
from foundations.storage import sealed_json, tensor_files
from foundations.storage.manifest import FileRecord

Objects = dict[str, bytes]


class Held(Storage):
    """Objects in a dictionary, for a test to change."""

    def __init__(self, objects: Objects | None = None, sizes: dict[str, int] | None = None) -> None:
        super().__init__("memory://held")
        self.objects, self.sizes = objects if objects is not None else {}, sizes or {}
        self.most_read = 0

    def listed(self) -> dict[str, int]:
        return {name: len(data) for name, data in self.objects.items()} | self.sizes

    def create(self, name: str, data: bytes) -> bool:
        if name in self.objects:
            return False
        self.objects[name] = data
        return True

    def create_from(self, name: str, path: Path) -> bool:
        return self.create(name, path.read_bytes())

    def read(self, name: str, start: int, size: int) -> bytes:
        if name not in self.objects:
            raise MissingObject(f"{name} is not there.")
        self.most_read = max(self.most_read, size)
        return self.objects[name][start : start + size]


def _manifest_of(objects: Objects, choose: random.Random) -> str:
    return choose.choice(sorted(filter(layout.RUN_MANIFEST.fullmatch, objects)))


def _needed(objects: Objects, choose: random.Random) -> str:
    return choose.choice(sorted(name for name in objects if name != layout.MARKER))


def _sealed(objects: Objects, name: str, edit: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change a manifest, and the run's manifest in it, and seal both again."""
    outer = json.loads(objects[name])
    inner = json.loads(outer["manifest"])
    edit(outer, inner)
    outer["manifest"] = sealed_json.to_bytes(inner).decode()
    objects[name] = sealed_json.to_bytes(outer)


def _rewritten(objects: Objects, name: str, file: str, content: bytes) -> None:
    """Replace a small file of a run, consistently: the tar, its name and both manifests follow."""
    location = Location.parse(layout.RUN_MANIFEST.fullmatch(name)["location"])  # type: ignore[index]
    assert location is not None
    outer = json.loads(objects[name])
    inside = outer["tars"][0]
    whole = {key: FileRecord(**record) for key, record in outer["files"].items()}
    records = {key: whole[key] for key in inside}
    tar = layout.files_name(location, layout.files_digest(records))
    files = layout.unpacked(objects.pop(tar), records) | {file: content}
    records[file] = FileRecord(len(content), hashlib.sha256(content).hexdigest())
    objects[layout.files_name(location, layout.files_digest(records))] = layout.packed(files)

    def edit(outer: dict[str, Any], inner: dict[str, Any]) -> None:
        for files in (outer["files"], inner["files"]):
            files |= {key: {"size": record.size, "sha256": record.sha256} for key, record in records.items()}
        outer["tars"] = [sorted(records)]

    _sealed(objects, name, edit)


# Each changes the objects, and returns the name of an object that must be named.


def flipped(objects: Objects, choose: random.Random) -> str:
    name = _needed(objects, choose)
    data = bytearray(objects[name])
    data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
    objects[name] = bytes(data)
    return name


def truncated(objects: Objects, choose: random.Random) -> str:
    name = _needed(objects, choose)
    objects[name] = objects[name][: choose.randrange(len(objects[name]))]
    return name


def extended(objects: Objects, choose: random.Random) -> str:
    name = _needed(objects, choose)
    objects[name] += choose.randbytes(choose.choice([1, 512, 10240]))
    return name


def swapped(objects: Objects, choose: random.Random) -> str:
    name = _manifest_of(objects, choose)
    other = choose.choice(sorted(each for each in objects if objects[each] != objects[name]))
    objects[name], objects[other] = objects[other], objects[name]
    return name


def of_another_run(objects: Objects, choose: random.Random) -> str:
    name = _manifest_of(objects, choose)
    other = choose.choice(sorted(set(filter(layout.RUN_MANIFEST.fullmatch, objects)) - {name}))
    objects[name] = objects[other]
    return name


def missing(objects: Objects, choose: random.Random) -> str:
    name = choose.choice(sorted(each for each in objects if each.endswith(".tar") or each.startswith("objects/")))
    del objects[name]
    return name


def noise(objects: Objects, choose: random.Random) -> str:
    name = _needed(objects, choose)
    objects[name] = choose.randbytes(len(objects[name]))
    return name


def file_names_that_lead_elsewhere(objects: Objects, choose: random.Random) -> str:
    name = _manifest_of(objects, choose)
    wrong = choose.choice(
        [
            "../../../evil",
            "/etc/evil",
            "a/../../b",
            "..",
            "manifest.json",
            "manifest_2.json",
            "log.txt",
            ".hidden",
            "checkpoint.safetensors",
            "a\nb",
            "a\x1b[2J",
            "damaged_metrics.csv",
            "a" * 300,
            "",
            "C:\\evil",
            "é",
        ]
    )

    def edit(outer: dict[str, Any], inner: dict[str, Any]) -> None:
        if choose.random() < 0.3:  # as if it had been left out
            inner["files"][wrong] = inner["files"]["metrics.csv"]
            return
        for files in (outer["files"], inner["files"]):
            files[wrong] = files.pop("metrics.csv")
        outer["tars"] = [sorted(outer["files"])]

    _sealed(objects, name, edit)
    return name


def members_of_wrong_kinds(objects: Objects, choose: random.Random) -> str:
    name = _manifest_of(objects, choose)

    def edit(outer: dict[str, Any], inner: dict[str, Any]) -> None:
        where = choose.choice([outer, inner])
        key = choose.choice(sorted(where.keys() - {"manifest", "sha256"}))
        values: list[Any] = [None, 1 << 70, "x", [], {}, True, [[]], {"a": 1}, "\ud800"]
        # Another value of the right type may be true.
        where[key] = choose.choice([value for value in values if type(value) is not type(where[key])])

    _sealed(objects, name, edit)
    return name


def records_that_lie(objects: Objects, choose: random.Random) -> str:
    name = _manifest_of(objects, choose)

    def edit(outer: dict[str, Any], inner: dict[str, Any]) -> None:
        files = choose.choice([outer, inner])["files"]
        record = files[choose.choice(sorted(files))]
        if choose.random() < 0.5:
            record["size"] = choose.choice([-1, 0, record["size"] + 1, 1 << 62, 10**30, 1.5])
        else:
            record["sha256"] = choose.choice(["0" * 64, record["sha256"].upper(), "", "../" * 20])

    _sealed(objects, name, edit)
    return json.loads(objects[name])["run"]


def tar_lists_that_lie(objects: Objects, choose: random.Random) -> str:
    name = _manifest_of(objects, choose)

    def edit(outer: dict[str, Any], _: dict[str, Any]) -> None:
        names = outer["tars"][0]
        outer["tars"] = choose.choice([[names, names], [[*names, "x"]], [[*names, names[0]]], [[]], [names[1:]], []])

    _sealed(objects, name, edit)
    return json.loads(objects[name])["run"]


def plugins_that_lie(objects: Objects, choose: random.Random) -> str:
    name = _manifest_of(objects, choose)
    code = b"raise SystemExit('executed')\n"
    sha256 = hashlib.sha256(code).hexdigest()
    objects[layout.object_name(sha256)] = code
    plugin = choose.choice(["evil", "../evil", "/tmp/evil", "a.b", ""])

    def edit(outer: dict[str, Any], _: dict[str, Any]) -> None:
        outer["plugins"] = {plugin: {"size": len(code), "sha256": sha256}}

    _sealed(objects, name, edit)
    return name


def tars_that_are_no_tars_of_ours(objects: Objects, choose: random.Random) -> str:
    name = choose.choice(sorted(filter(layout.RUN_FILES.fullmatch, objects)))
    content = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(objects[name])) as whole, tarfile.open(fileobj=content, mode="w") as tar:
        for member in whole.getmembers():
            member.mode = choose.choice([0o777, 0o4755])
            tar.addfile(member, whole.extractfile(member))
        link = tarfile.TarInfo(choose.choice(["link", "../link", "/link"]))
        link.type, link.linkname = choose.choice([tarfile.SYMTYPE, tarfile.LNKTYPE]), "/etc/passwd"
        tar.addfile(link)
    objects[name] = content.getvalue()[: len(objects[name])]
    return name


def deep(objects: Objects, choose: random.Random) -> str:
    name = _manifest_of(objects, choose)
    objects[name] = choose.choice([b"[" * 200_000, b'{"a":' * 100_000, b"\xff\xfe", b"", b"null", b"9" * 5000])
    return name


def another_description(objects: Objects, choose: random.Random) -> str:
    name = _manifest_of(objects, choose)
    other = _manifest_of({each: b"" for each in objects if each != name}, choose)
    text = json.loads(objects[other])
    whole = {key: FileRecord(**record) for key, record in text["files"].items()}
    records = {key: whole[key] for key in text["tars"][0]}
    location = Location.parse(text["run"])
    assert location is not None
    files = layout.unpacked(objects[layout.files_name(location, layout.files_digest(records))], records)
    _rewritten(objects, name, "description.json", files["description.json"])
    return name


def results_that_lie(objects: Objects, choose: random.Random) -> str:
    name = _manifest_of(objects, choose)
    _rewritten(objects, name, "metrics.csv", b"name,iteration,value\ntest_accuracy,10,0.25\n")
    return name


def state_of_another_run(objects: Objects, choose: random.Random) -> str:
    import torch

    name = _manifest_of(objects, choose)
    owner = "train_0/replicate_1/main/state_ep0_it0.safetensors"
    data = tensor_files.to_bytes({"weight": torch.zeros(choose.randrange(1, 9))}, owner=owner)
    _rewritten(objects, name, "state_ep0_it0.safetensors", data)
    return name


def names_of_objects_that_lead_elsewhere(objects: Objects, choose: random.Random) -> str:
    location = json.loads(objects[_manifest_of(objects, choose)])["run"]
    name = choose.choice(
        [
            "runs/../../evil/1.manifest",
            f"runs/{location}/../x/1.manifest",
            f"runs/{location}/01.manifest",
            f"runs/{location}/1.manifest/",
            "objects/../x",
            "objects/" + "A" * 64,
            "/etc/passwd",
            "..",
            "runs/a\nb",
            f"runs/{location}/{'0' * 64}.tar.gz",
            f"runs/{location}/0.manifest",
            "datasets/../x/1.manifest",
        ]
    )
    objects[name] = b"evil"
    return repr(name)


KINDS = (
    flipped,
    truncated,
    extended,
    swapped,
    of_another_run,
    missing,
    noise,
    file_names_that_lead_elsewhere,
    members_of_wrong_kinds,
    records_that_lie,
    tar_lists_that_lie,
    plugins_that_lie,
    tars_that_are_no_tars_of_ours,
    deep,
    another_description,
    results_that_lie,
    state_of_another_run,
    names_of_objects_that_lead_elsewhere,
)
