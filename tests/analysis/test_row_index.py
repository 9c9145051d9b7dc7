"""Indexed rows equal the rows read from files, whatever happened to the files or to the index."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.compare.described import Described
from analysis.compare.nearest import nearest
from analysis.rows import row_index
from analysis.rows.run_row import Row, row_of
from analysis.rows.runs import read_rows
from foundations.storage.run import Run
from foundations.storage.store import all_runs
from tests.analysis.conftest import Family
from tests.conftest import REPOSITORY

ALWAYS = {"LEAST_NEW": 1, "UNSETTLED_SECONDS": -1.0}


@pytest.fixture
def indexed(own_family: Family, monkeypatch: pytest.MonkeyPatch) -> Family:
    """Return runs that have an index, although they are few and new."""
    for name, value in ALWAYS.items():
        monkeypatch.setattr(row_index, name, value)
    read_rows(own_family.root)
    assert index_of(own_family.root).exists()
    return own_family


def index_of(root: Path) -> Path:
    return root / ".cache" / f"rows_{os.geteuid()}.json"


def ageless(rows: list[Row]) -> list[dict[str, object]]:
    """Return the rows without their ages."""
    return [
        {field.name: getattr(row, field.name) for field in dataclasses.fields(row) if field.name not in ("age", "run")}
        | {"location": row.location, "problem": row.problem}
        for row in rows
    ]


def from_files(root: Path) -> list[dict[str, object]]:
    return ageless([row_of(run) for run in all_runs(root)])


def test_rows_that_are_remembered_are_those_of_the_files_which_are_not_read(
    indexed: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, ages = from_files(indexed.root), [row_of(run).age for run in all_runs(indexed.root)]
    monkeypatch.delattr(Run, "record")

    rows = read_rows(indexed.root)

    assert ageless(rows) == expected
    assert [row.age for row in rows] == pytest.approx(ages, abs=60)
    assert len(rows) == 5


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    """Change a letter in place, and set the time of change back."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    place = data.index(b"0.") + 2
    data[place] = ord("7") if data[place] != ord("7") else ord("3")
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nothing"))


@pytest.mark.parametrize("name", ["description.json", "manifest.json", "metrics.csv", "mask.safetensors"])
@pytest.mark.parametrize("damage", [cut_off, Path.unlink, become_a_folder, become_a_link_to_nothing])
def test_damage_is_seen_though_the_run_is_remembered(
    indexed: Family, name: str, damage: Callable[[Path], None]
) -> None:
    damage(indexed.branch.folder / name)

    rows = read_rows(indexed.root)

    assert ageless(rows) == from_files(indexed.root)
    assert sorted(row.status for row in rows if row.status == "complete") == ["complete"] * 4


@pytest.mark.parametrize("name", ["description.json", "manifest.json"])
def test_a_change_in_place_is_seen_though_neither_size_nor_time_differ(indexed: Family, name: str) -> None:
    flip(indexed.branch.folder / name)

    (row,) = (row for row in read_rows(indexed.root) if row.run.location == indexed.branch.location)

    assert row.status == "damaged"


def test_a_run_that_is_gone_has_no_row(indexed: Family) -> None:
    for path in indexed.branch.folder.iterdir():
        path.unlink()
    indexed.branch.folder.rmdir()

    assert indexed.branch.location not in {row.run.location for row in read_rows(indexed.root)}


def with_digest(text: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff\n{}",
        with_digest(b"{}"),
        with_digest(b"[" * 100_000),
        with_digest(b'{"form": 2, "pool": [], "groups": 5}\n[]'),
        with_digest(b'{"form": 2, "pool": {}, "groups": {}}\n{}'),
        with_digest(b'{"form": 2, "pool": [], "groups": {"train": []}}\n[]'),
        with_digest(b'{"form": 2, "pool": [], "groups": {}}'),
        with_digest(b'{"form": 0, "pool": [], "groups": {}}\n[]'),
    ],
)
def test_an_index_of_anything_else_is_made_anew(indexed: Family, content: bytes) -> None:
    good = index_of(indexed.root).read_bytes()
    index_of(indexed.root).write_bytes(content)

    assert ageless(read_rows(indexed.root)) == from_files(indexed.root)
    assert index_of(indexed.root).read_bytes() == good


def parts_of(path: Path) -> tuple[dict[str, Any], list[list[Any]]]:
    """Return the parts of an index: the record of all runs together, and a record of each."""
    _, first, entries = path.read_bytes().split(b"\n")
    return json.loads(first), json.loads(entries)


def with_parts(first: dict[str, Any], entries: list[list[Any]]) -> bytes:
    return with_digest(json.dumps(first).encode() + b"\n" + json.dumps(entries).encode())


@pytest.mark.parametrize("value", [None, 7, "x", [], {}, [[]], [9, 9], -1, 10**9])
@pytest.mark.parametrize("place", range(1, 8))
def test_an_index_with_an_entry_of_another_form_does_no_harm(indexed: Family, place: int, value: object) -> None:
    first, entries = parts_of(index_of(indexed.root))
    for entry in entries:
        entry[place] = value
    index_of(indexed.root).write_bytes(with_parts(first, entries))

    assert [row.location for row in read_rows(indexed.root)] == [str(run.location) for run in all_runs(indexed.root)]


@pytest.mark.parametrize("value", [None, 7, "x", {}, [[]], ["x"], [-1], [10**9]])
def test_groups_of_another_form_do_no_harm(indexed: Family, value: object) -> None:
    first, entries = parts_of(index_of(indexed.root))
    first["groups"] = dict.fromkeys(first["groups"], value)
    index_of(indexed.root).write_bytes(with_parts(first, entries))
    asked = Described.stored(next(iter(all_runs(indexed.root))))

    assert [row.location for row in read_rows(indexed.root)] == [str(run.location) for run in all_runs(indexed.root)]
    assert nearest(asked, indexed.root) is not None


def test_the_index_of_another_user_is_not_looked_at(indexed: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    first, entries = parts_of(index_of(indexed.root))
    for entry in entries:
        entry[4][1] = [0.999 for _ in entry[4][1]]
    user = os.geteuid() + 1
    index_of(indexed.root).with_name(f"rows_{user}.json").write_bytes(with_parts(first, entries))
    monkeypatch.setattr(os, "geteuid", lambda: user)

    assert ageless(read_rows(indexed.root)) == from_files(indexed.root)


def test_where_no_index_can_be_written_rows_are_read(own_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ALWAYS.items():
        monkeypatch.setattr(row_index, name, value)
    (own_family.root / ".cache").write_text("in the way")

    assert ageless(read_rows(own_family.root)) == from_files(own_family.root)


def test_a_run_that_has_just_changed_is_not_remembered(own_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_index, "LEAST_NEW", 1)
    monkeypatch.setattr(row_index, "UNSETTLED_SECONDS", 3600.0)

    read_rows(own_family.root)

    assert not (own_family.root / ".cache").exists()


def test_many_processes_may_write_the_index_at_once(indexed: Family) -> None:
    script = f"""
import sys
from pathlib import Path
from analysis.rows import row_index
from analysis.rows.runs import read_rows
for name, value in {ALWAYS!r}.items():
    setattr(row_index, name, value)
for _ in range(20):
    Path(sys.argv[2]).unlink(missing_ok=True)
    assert [row.status for row in read_rows(Path(sys.argv[1]))] == ["complete"] * 5
"""
    command = [sys.executable, "-c", script, str(indexed.root), str(index_of(indexed.root))]
    processes = [subprocess.Popen(command, cwd=REPOSITORY) for _ in range(4)]

    assert [process.wait() for process in processes] == [0] * 4
    assert ageless(read_rows(indexed.root)) == from_files(indexed.root)
    assert [path.name for path in index_of(indexed.root).parent.iterdir()] == [index_of(indexed.root).name]
