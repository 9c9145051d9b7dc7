"""No corrupt or hostile object is accepted, and each is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from foundations.remotes import layout
from foundations.remotes.arrivals import Arrivals
from foundations.storage.store import all_runs
from tests.foundations.remotes.carrying import family, files_of, pull, push
from tests.foundations.remotes.hostile import KINDS, Held, Objects
from tests.foundations.toy_descriptions import complete_run, step, toy

_NUMBER = 300
_SHORT = 2 * len(KINDS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Objects, dict[str, bytes]]:
    """The objects of a remote, and the files of its runs."""
    import torch

    root = tmp_path_factory.mktemp("whole")
    family(root)
    run = complete_run(root, toy(0.7))
    run.save_state(step(5), {"weight": torch.arange(70_000.0)})  # large enough for an object of its own
    run.add(run.state_name(step(5)))
    storage = Held()
    push(storage, root)
    return storage.objects, files_of(root)


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.slow] if seed >= _SHORT else []) for seed in range(_NUMBER)]
)
def test_a_hostile_object_is_named_and_nothing_of_it_appears(
    whole: tuple[Objects, dict[str, bytes]], seed: int, tmp_path: Path
) -> None:
    objects, files = dict(whole[0]), whole[1]
    name = KINDS[seed % len(KINDS)](objects, random.Random(seed))
    root = tmp_path / "outer" / "root"

    found = pull(Held(objects), root)

    arrived = files_of(root)
    assert any(name in problem for problem in found.problems), (name, found.problems)
    assert all(problem.isprintable() for problem in found.problems)
    assert arrived.items() <= files.items()
    runs = {str(run) for run in all_runs(root)}
    assert arrived == {path: data for path, data in files.items() if path.rpartition("/")[0] in runs}
    assert len(runs) >= 1
    # Nothing outside the root, and in it only runs, locks, and what was kept aside.
    assert _names(tmp_path) == {"outer"} and _names(tmp_path / "outer") == {"root"}
    assert {each for each in _names(root) if not each.startswith("train_")} <= {".locks", ".pulls", "format.json"}
    kept = [path for path in (root / ".pulls").rglob("*") if path.is_file()]
    assert all("corrupt" in path.parts and not path.is_symlink() for path in kept)
    assert all(any(str(path) in problem for problem in found.problems) for path in kept)


def test_what_is_too_large_is_refused_before_it_is_read(
    whole: tuple[Objects, dict[str, bytes]], tmp_path: Path
) -> None:
    sizes = {name: 1 << 50 for name in whole[0] if name.startswith("runs/")}
    storage = Held(dict(whole[0]), sizes)

    found = pull(storage, tmp_path)

    assert found.sent == [] and len(found.problems) == 4
    assert storage.most_read == 0


def test_a_large_object_of_wrong_bytes_is_kept_aside_and_the_runs_that_need_it_are_named(tmp_path: Path) -> None:
    import torch

    run = complete_run(tmp_path / "here", toy(0.1))
    whole = complete_run(tmp_path / "here", toy(0.2))
    run.save_state(step(5), {"weight": torch.arange(100_000.0)})
    run.add(run.state_name(step(5)))
    storage = Held()
    push(storage, tmp_path / "here")
    (name,) = filter(layout.OBJECT.fullmatch, storage.objects)
    storage.objects[name] = bytes(len(storage.objects[name]))

    found = pull(storage, tmp_path / "there")

    assert found.sent == [whole.location]
    text = "\n".join(found.problems)
    assert name in text and str(run.location) in text and "kept in" in text
    (kept,) = (tmp_path / "there" / ".pulls").glob("*/corrupt/*")
    assert kept.read_bytes() == storage.objects[name] and str(kept) in text


def test_staged_files_of_others_are_not_trusted(whole: tuple[Objects, dict[str, bytes]], tmp_path: Path) -> None:
    pull(Held(dict(whole[0])), tmp_path / "first")
    (tmp_path / "secret").write_text("secret")
    storage = Held(dict(whole[0]))
    arrivals = Arrivals(tmp_path / "root", storage)
    for run in all_runs(tmp_path / "first"):
        folder = arrivals.folder(run.location)
        (folder / "metrics.csv").symlink_to(tmp_path / "secret")
        (folder / "extra").write_text("extra")

    found = pull(storage, tmp_path / "root")

    assert (tmp_path / "secret").read_text() == "secret"
    assert files_of(tmp_path / "root").items() <= whole[1].items()
    assert len(found.sent) == 4


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
