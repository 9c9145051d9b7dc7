"""Runs that are pushed and pulled arrive whole, with all that they depend on, and nothing is overwritten."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundations.description.address import digest
from foundations.errors import EnvironmentFailure
from foundations.remotes import layout
from foundations.remotes.listing import Listing
from foundations.remotes.opening import open_storage
from foundations.remotes.push import Push
from foundations.remotes.storage import Storage
from foundations.reporter import NullReporter
from foundations.storage.run import MANIFEST, Run
from foundations.storage.store import all_runs
from foundations.storage.upkeep import verify
from tests.foundations.remotes.carrying import family, files_of, pull, push
from tests.foundations.remotes.s3_server import S3, s3_server
from tests.foundations.toy_descriptions import complete_run, flip_a_bit, step, toy


class Reported:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def progress(self, *_: object) -> None:
        pass


def test_what_is_pushed_is_pulled_byte_by_byte_and_neither_is_done_twice(url: str, tmp_path: Path) -> None:
    family(tmp_path / "here")

    pushed, again = push(url, tmp_path / "here"), push(url, tmp_path / "here")
    pulled, twice = pull(url, tmp_path / "there"), pull(url, tmp_path / "there")

    assert (len(pushed.sent), len(again.sent), len(again.present)) == (3, 0, 3)
    assert (len(pulled.sent), len(twice.sent), len(twice.present)) == (3, 0, 3)
    assert pushed.problems == pulled.problems == pulled.notes == []
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    assert [verify(run) for run in all_runs(tmp_path / "there")] == [[]] * 3
    assert not (tmp_path / "there" / ".pulls").exists()


def test_large_files_are_objects_of_their_own_and_shared_ones_are_sent_once(url: str, tmp_path: Path) -> None:
    import torch

    runs = [complete_run(tmp_path / "here", toy(rate)) for rate in (0.1, 0.2)]
    for run in runs:
        run.save_state(step(5), {"weight": torch.arange(100_000.0)})
        run.add(run.state_name(step(5)))

    push(url, tmp_path / "here")
    pull(url, tmp_path / "there")

    large = [name for name in open_storage(url).listed() if layout.OBJECT.fullmatch(name)]
    assert len(large) == 2  # tensors carry their owner, so they differ
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


def test_a_run_comes_with_all_that_it_depends_on(url: str, tmp_path: Path) -> None:
    *_, grandchild = family(tmp_path / "here")

    push(url, tmp_path / "here", [grandchild])
    pull(url, tmp_path / "there", [grandchild.location])

    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


@pytest.mark.parametrize("is_pushed_shallow", [True, False])
def test_shallow_takes_the_direct_sources_with_the_states_that_are_used(
    url: str, tmp_path: Path, is_pushed_shallow: bool
) -> None:
    parent, child, grandchild = family(tmp_path / "here")

    push(url, tmp_path / "here", [grandchild], shallow=is_pushed_shallow)
    pull(url, tmp_path / "there", [grandchild.location], shallow=not is_pushed_shallow)

    source = Run(tmp_path / "there", child.location)
    assert not Run(tmp_path / "there", parent.location).exists()
    assert source.has_state(step(10)) and not source.has_state(step(0))
    assert verify(source) == [] == verify(Run(tmp_path / "there", grandchild.location))


def test_a_later_push_adds_the_states_that_a_shallow_one_left_out(url: str, tmp_path: Path) -> None:
    *_, grandchild = family(tmp_path / "here")
    push(url, tmp_path / "here", [grandchild], shallow=True)

    push(url, tmp_path / "here")
    pull(url, tmp_path / "there")

    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


def test_a_state_that_gc_removes_during_a_push_stays_behind_and_the_rest_travels(url: str, tmp_path: Path) -> None:
    run, root = complete_run(tmp_path / "here"), tmp_path / "here"
    storage = open_storage(url)
    pushing = Push(root, storage, Listing.of(storage, may_be_new=True), NullReporter())
    pushing.plan([run])
    name = run.state_name(step(10))
    Run(root, run.location).amended(without=[name], evicted=True)
    (run.folder / name).unlink()

    pushed = pushing.execute()
    pull(url, tmp_path / "there")

    assert pushed.sent == [run.location] and pushed.problems == []
    arrived = Run(tmp_path / "there", run.location)
    assert verify(arrived) == [] and arrived.has_state(step(0)) and not arrived.has_state(step(10))


def test_only_complete_runs_travel_and_the_others_are_named(url: str, tmp_path: Path) -> None:
    parent, child, _ = family(tmp_path / "here")
    (parent.folder / MANIFEST).unlink()

    pushed = push(url, tmp_path / "here", [child])
    pulled = pull(url, tmp_path / "there")

    assert pushed.sent == pulled.sent == [child.location]
    assert pushed.notes == [f"{parent} is incomplete and stays here: only complete runs travel."]
    assert str(parent) in pulled.notes[0]


def test_a_damaged_run_is_named_and_not_pushed(url: str, tmp_path: Path) -> None:
    whole, damaged = complete_run(tmp_path / "here", toy(0.1)), complete_run(tmp_path / "here", toy(0.2))
    flip_a_bit(damaged.folder / "state_ep0_it0.safetensors")

    found = push(url, tmp_path / "here")

    assert found.sent == [whole.location]
    assert len(found.problems) == 1 and str(damaged.folder) in found.problems[0]
    assert pull(url, tmp_path / "there").sent == [whole.location]


def test_an_existing_run_is_never_overwritten(url: str, tmp_path: Path) -> None:
    complete_run(tmp_path / "here")
    push(url, tmp_path / "here")
    complete = complete_run(tmp_path / "complete")
    (complete.folder / "metrics.csv").write_text("mine")
    incomplete = complete_run(tmp_path / "incomplete")
    (incomplete.folder / MANIFEST).unlink()
    before = files_of(tmp_path / "incomplete")

    first, second = pull(url, tmp_path / "complete"), pull(url, tmp_path / "incomplete")

    assert first.present == [complete.location] and (complete.folder / "metrics.csv").read_text() == "mine"
    assert "incomplete here and stays so" in second.problems[0] and second.sent == []
    assert files_of(tmp_path / "incomplete") == before


def test_other_bytes_under_one_name_stay_as_they_are_in_the_remote_and_are_named(url: str, tmp_path: Path) -> None:
    complete_run(tmp_path / "here")
    push(url, tmp_path / "here")
    complete_run(tmp_path / "other", last=2.0)

    found = push(url, tmp_path / "other")

    assert found.sent == [] and "the remote has other bytes of state_ep2_it0.safetensors" in found.problems[0]
    pull(url, tmp_path / "there")
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


def test_processes_that_push_one_run_at_once_publish_one_manifest(url: str, tmp_path: Path) -> None:
    complete_run(tmp_path / "here")
    problems: list[str] = []
    # One storage: fsspec's memory is exclusive within one only.
    storage = open_storage(url)
    threads = [
        threading.Thread(target=lambda: problems.extend(push(storage, tmp_path / "here").problems)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    manifests = [name for name in storage.listed() if layout.RUN_MANIFEST.fullmatch(name)]
    assert len(manifests) == 1 and problems == []


def measured(root: Path, run: Run) -> Path:
    runs = [{"location": str(run.location), "digest": run.location.digest}]
    description = {"measure": "curvature", "version": 1, "runs": runs}
    path = root / ".measures" / "curvature" / f"{digest('measure', description)}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"description": description, "values": {"x": 1}, "table": {}, "files": {}}))
    return path


def test_results_of_measures_come_along_also_later(url: str, tmp_path: Path) -> None:
    run = complete_run(tmp_path / "here")
    push(url, tmp_path / "here")
    pull(url, tmp_path / "there")
    path = measured(tmp_path / "here", run)

    pushed, pulled, again = push(url, tmp_path / "here"), pull(url, tmp_path / "there"), pull(url, tmp_path / "there")

    assert (pushed.others, pulled.others, again.others) == (1, 1, 0)
    arrived = tmp_path / "there" / path.relative_to(tmp_path / "here")
    assert arrived.read_bytes() == path.read_bytes()


def test_a_root_of_a_newer_format_receives_nothing(url: str, tmp_path: Path) -> None:
    complete_run(tmp_path / "here")
    push(url, tmp_path / "here")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "format.json").write_text('{"format": 3}')

    with pytest.raises(EnvironmentFailure, match="is of format 3"):
        pull(url, tmp_path / "there")

    assert [path.name for path in (tmp_path / "there").iterdir()] == ["format.json"]


def test_a_folder_that_is_no_remote_is_refused(tmp_path: Path) -> None:
    complete_run(tmp_path / "here")
    (tmp_path / "other").mkdir()
    with pytest.raises(EnvironmentFailure, match="There is no remote at"):
        pull((tmp_path / "other").as_uri(), tmp_path / "there")

    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(EnvironmentFailure, match="holds other files"):
        push((tmp_path / "other").as_uri(), tmp_path / "here")


def test_a_remote_of_a_newer_format_is_refused_by_number(url: str, tmp_path: Path) -> None:
    complete_run(tmp_path / "here")
    push(url, tmp_path / "here")
    open_storage(url).create("format-7", b"")

    for carry in (push, pull):
        with pytest.raises(EnvironmentFailure, match="is of format 7, and this version reads format 1"):
            carry(url, tmp_path / "here")


class Ignoring(Storage):
    """A service that overwrites, whatever the condition."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.objects: dict[str, bytes] = {}

    def listed(self) -> dict[str, int]:
        return {name: len(data) for name, data in self.objects.items()}

    def create(self, name: str, data: bytes) -> bool:
        self.objects[name] = data
        return True

    def create_from(self, name: str, path: Path) -> bool:
        return self.create(name, path.read_bytes())

    def read(self, name: str, start: int, size: int) -> bytes:
        return self.objects[name][start : start + size]


def test_where_a_service_ignores_conditions_manifests_are_named_by_content_and_push_reports_it(tmp_path: Path) -> None:
    complete_run(tmp_path / "here")
    storage, reported = Ignoring("memory://ignoring"), Reported()

    push(storage, tmp_path / "here", reporter=reported)
    again = push(storage, tmp_path / "here")

    assert len(reported.lines) == 1 and "ignores conditions" in reported.lines[0]
    assert [bool(found["sha256"]) for found in map(layout.RUN_MANIFEST.fullmatch, storage.objects) if found] == [True]
    assert len(again.present) == 1
    assert len(pull(storage, tmp_path / "there").sent) == 1
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


@pytest.fixture
def ignoring_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with s3_server("--ignore_conditions") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.mark.slow
def test_an_s3_service_that_ignores_conditions_is_noticed(ignoring_s3: S3, tmp_path: Path) -> None:
    ignoring_s3.make_bucket("lab")
    complete_run(tmp_path / "here")
    reported = Reported()

    push("s3://lab", tmp_path / "here", reporter=reported)

    assert "ignores conditions" in reported.lines[0]
    assert len(pull("s3://lab", tmp_path / "there").sent) == 1


@pytest.mark.slow
def test_requests_are_few_and_a_second_pull_lists_only(s3: S3, tmp_path: Path) -> None:
    s3.make_bucket("counted")
    for number in range(600):
        complete_run(tmp_path / "here", toy(number + 1.0))
    s3.requests()

    counts = []
    for carry, root in ((push, "here"), (push, "here"), (pull, "there"), (pull, "there")):
        carry("s3://counted/x", tmp_path / root)
        counts.append(s3.requests())

    objects = 2 * 600 + 1
    lists = -(-objects // 1000)
    assert counts[0]["PUT"] == objects + 1  # the marker once more, to test whether conditions are honoured
    assert counts[1] == {"LIST": lists}
    assert counts[2] == {"LIST": lists, "GET": 2 * 600}
    assert counts[3] == {"LIST": lists}
