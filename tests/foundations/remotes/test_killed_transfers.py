"""A push or pull that was killed goes on: nothing half appears, and the end is the same."""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from foundations.remotes.arrivals import Arrivals
from foundations.remotes.opening import open_storage
from foundations.storage.manifest import FileRecord
from foundations.storage.store import all_runs
from foundations.storage.upkeep import verify
from tests.cli.terminal import FORK
from tests.foundations.remotes.carrying import family, files_of, pull, push
from tests.foundations.toy_descriptions import complete_run, step, toy


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a dozen runs, some of which have larger files."""
    import torch

    found = tmp_path_factory.mktemp("root")
    family(found)
    for number in range(9):
        run = complete_run(found, toy(number + 1.0))
        if number % 3 == 0:
            run.save_state(step(5), {"weight": torch.arange(200_000.0 + number)})
            run.add(run.state_name(step(5)))
    return found


def killed_and_continued(work: Callable[[], object], choose: random.Random, longest: float) -> bool:
    """Kill a process that does some work at a random moment; return whether it was at work. Then do the work."""
    process = FORK.Process(target=work)
    process.start()
    time.sleep(choose.uniform(0, longest))
    was_at_work = process.is_alive()
    if was_at_work:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return was_at_work


def _check(url: str, root: Path, there: Path, seed: int, longest: float) -> None:
    choose, files = random.Random(seed), files_of(root)

    killed_and_continued(lambda: push(url, root), choose, longest)
    found = push(url, root)
    assert found.problems == [] and len(found.sent) + len(found.present) == 12

    killed_and_continued(lambda: pull(url, there), choose, longest)
    between = files_of(there)
    assert between.items() <= files.items()
    whole = {str(run) for run in all_runs(there)}
    assert between == {path: data for path, data in files.items() if path.rpartition("/")[0] in whole}

    found = pull(url, there)
    assert found.problems == [] and len(found.present) >= len(whole)
    assert files_of(there) == files
    assert [verify(run) for run in all_runs(there)] == [[]] * 12
    assert not (there / ".pulls").exists()


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.slow] if seed > 2 else []) for seed in range(20)]
)
def test_a_killed_transfer_with_a_folder_goes_on(root: Path, tmp_path: Path, seed: int) -> None:
    _check((tmp_path / "remote").as_uri(), root, tmp_path / "there", seed, 0.12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_a_killed_transfer_with_s3_goes_on(
    root: Path, tmp_path: Path, seed: int, request: pytest.FixtureRequest
) -> None:
    name = f"b{uuid.uuid4().hex[:12]}"
    request.getfixturevalue("s3").make_bucket(name)

    _check(f"s3://{name}", root, tmp_path / "there", seed, 1.2)


def test_a_killed_pull_of_a_large_object_goes_on_where_it_was(root: Path, tmp_path: Path) -> None:
    url = (tmp_path / "remote").as_uri()
    push(url, root)
    storage = open_storage(url)
    (name, size) = next((name, size) for name, size in storage.listed().items() if name.startswith("objects/"))
    (tmp_path / "state.part").write_bytes(storage.read(name, 0, 1000))
    (tmp_path / "wrong.part").write_bytes(b"x" * 1000)
    record = FileRecord(size, name.rpartition("/")[2])
    arrivals = Arrivals(tmp_path / "there", storage)

    came = [arrivals.receive(name, tmp_path / each, record) for each in ("state", "wrong", "state")]

    assert came == [size - 1000, 2 * size - 1000, 0]
    assert (tmp_path / "state").read_bytes() == (tmp_path / "wrong").read_bytes() == storage.read(name, 0, size)
