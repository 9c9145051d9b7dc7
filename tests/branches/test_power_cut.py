"""A power cut at any moment: names that were not flushed are lost, in any combination, and the command begins again."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundations.description.desc import Desc
from foundations.errors import DamagedError
from foundations.storage.run import DESCRIPTION, MANIFEST
from tests.training.small_runs import context, oneshot_desc, run_of, tensor_digests
from training.jobs.compute import complete


class Disk:
    """Notes what is flushed, and which names change, below a folder."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str]] = []
        """`content`, `folder`, or `named` for a rename, and the path."""
        self._patch = patch
        self._wrap("fsync", self._flushed)
        self._wrap("replace", lambda _old, new: self.events.append(("named", os.fspath(new))))
        self._wrap("rename", lambda _old, new: self.events.append(("named", os.fspath(new))))

    def _wrap(self, name: str, note: Callable[..., object]) -> None:
        plain = getattr(os, name)

        def noted(*arguments: Any) -> None:
            plain(*arguments)
            note(*arguments)

        self._patch.setattr(os, name, noted)

    def _flushed(self, handle: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "content"
        self.events.append((kind, os.readlink(f"/proc/self/fd/{handle}")))  # noqa: PTH115


def desc() -> Desc:
    return oneshot_desc("magnitude", density=0.3)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it asks Linux for the paths of open files")
def test_every_file_and_name_is_flushed_before_the_run_is_complete(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    place = context(tmp_path, digits)

    complete(desc(), place)

    final = run_of(desc(), place).folder
    published = disk.events.index(("named", str(final)))
    before, after = disk.events[:published], disk.events[published + 1 :]
    working = next(path for kind, path in reversed(before) if kind == "folder")
    named = [Path(path).name for kind, path in before if kind == "named" and path.startswith(f"{working}/")]
    flushed = [Path(path).name for kind, path in before if kind == "content"]
    recorded = {path.name for path in final.iterdir()} - {"log.txt"}
    assert set(named) == recorded
    assert named[-1] == MANIFEST
    for name in recorded:
        assert any(each == name or each.startswith(f".{name}.") for each in flushed), name
    assert before[-1] == ("folder", working), "after the last name in it"
    assert ("folder", str(final.parent)) in after
    assert len(named) == len(recorded), "each once"


def test_only_the_description_has_its_name_before_its_content_is_flushed(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)

    complete(desc(), context(tmp_path, digits))

    of_branch = [(kind, Path(path).name) for kind, path in disk.events if "/.branch_" in path]
    named = [name for kind, name in of_branch if kind == "named" and not name.endswith(".owner")]
    before_flushes = of_branch[: next(place for place, (kind, _) in enumerate(of_branch) if kind == "content")]
    early = [name for kind, name in before_flushes if kind == "named" and name in named]
    assert len(named) == 7
    assert early == [DESCRIPTION]


@pytest.mark.parametrize("part", [0, 1, 40])
@pytest.mark.parametrize("others", [(), ("log.txt",), (".mask.safetensors.0123abcd-1-89abcdef.part",)])
def test_a_run_of_which_a_power_cut_left_a_part_of_the_description_is_computed_again(
    part: int, others: tuple[str, ...], tmp_path: Path, digits: Path
) -> None:
    whole, place = context(tmp_path / "whole", digits), context(tmp_path / "cut", digits)
    complete(desc(), whole)
    done, found = run_of(desc(), whole), run_of(desc(), place)
    working = found.final.with_name(f".{found.final.name}") / "1-0123abcd"
    working.mkdir(parents=True)
    (working / DESCRIPTION).write_bytes((done.folder / DESCRIPTION).read_bytes()[:part])
    for name in others:
        (working / name).write_bytes(b"2026")

    complete(desc(), place)

    assert found.read_json(DESCRIPTION) == done.read_json(DESCRIPTION)
    assert tensor_digests(found) == tensor_digests(done)
    assert not working.parent.exists()


@pytest.mark.parametrize("name", ["mask.safetensors", "state_ep0_it0.safetensors"])
def test_a_damaged_description_beside_results_is_reported(name: str, tmp_path: Path, digits: Path) -> None:
    whole, place = context(tmp_path / "whole", digits), context(tmp_path / "cut", digits)
    complete(desc(), whole)
    done, found = run_of(desc(), whole), run_of(desc(), place)
    working = found.final.with_name(f".{found.final.name}") / "1-0123abcd"
    working.mkdir(parents=True)
    (working / DESCRIPTION).write_bytes(b"")
    shutil.copy(done.folder / name, working / name)

    with pytest.raises(DamagedError, match=DESCRIPTION):
        complete(desc(), place)


def test_a_run_that_lost_any_of_its_files_is_computed_again_with_the_same_bytes(tmp_path: Path, digits: Path) -> None:
    whole = context(tmp_path / "whole", digits)
    complete(desc(), whole)
    done = run_of(desc(), whole)
    names = sorted({path.name for path in done.folder.iterdir()} - {MANIFEST, "log.txt"})
    lost = [set(names) - set(kept) for count in range(len(names) + 1) for kept in itertools.combinations(names, count)]

    for number, missing in enumerate(lost[:: len(lost) // 15]):
        place = context(tmp_path / str(number), digits)
        shutil.copytree(whole.root, place.root)
        final = run_of(desc(), place).final
        working = final.with_name(f".{final.name}") / "1-0123abcd"
        working.parent.mkdir()
        final.rename(working)
        for name in {*missing, MANIFEST}:
            (working / name).unlink()

        complete(desc(), place)

        found = run_of(desc(), place)
        assert tensor_digests(found) == tensor_digests(done), missing
        assert found.metrics().to_csv() == done.metrics().to_csv(), missing
        assert found.sparsity() == done.sparsity(), missing
