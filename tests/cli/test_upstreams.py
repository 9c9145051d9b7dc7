"""Upstreams: other roots, in which complete runs count as here and nothing is ever written."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from foundations.description.address import Location
from foundations.storage.run import METRICS, Run
from foundations.storage.sealed_json import to_bytes
from platforms.executors.registry import EXECUTORS
from tests.cli.conftest import BRANCH
from tests.cli.terminal import LONG, SHORT, Terminal, tensors_of
from tests.cli.test_plugins import job_of
from tests.foundations.toy_descriptions import flip_a_bit

TRAIN = ("train", *SHORT)
OTHER_BRANCH = ("branch", "train", "oneshot", *SHORT, "--strategy=snip1", "--density=0.2")


def everything_in(folder: Path) -> dict[str, tuple[float | int, ...]]:
    """Return the values that a write would change, of every file and folder: inode, links, size, times of change."""
    found = {str(path): path.lstat() for path in (folder, *folder.rglob("*"))}
    return {
        name: (stat.st_ino, stat.st_nlink, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        for name, stat in found.items()
    }


@pytest.fixture
def lab(own_two_runs: Terminal) -> Terminal:
    """A root with a training and a branch, which is somebody's upstream."""
    return own_two_runs


@pytest.fixture
def mine(lab: Terminal, tmp_path: Path) -> Terminal:
    """An empty root with an upstream."""
    return Terminal(tmp_path / "mine", lab.datasets, {"OPEN_PRUNE_UPSTREAM": str(lab.root)})


def test_complete_runs_of_an_upstream_are_reused_and_are_parents(lab: Terminal, mine: Terminal) -> None:
    before = everything_in(lab.root)

    reused, computed = mine.run(*TRAIN), mine.run(*OTHER_BRANCH)

    assert f"reused: the run was complete (in the upstream {lab.root})" in reused.out
    assert f"results in:     {lab.root}/train_" in reused.out
    assert computed.code == 0, computed.err
    assert "computed" in computed.out and "Starting" in computed.out
    assert [path.parent.name[:15] for path in mine.root.rglob("manifest.json")] == ["branch_oneshot_"]
    assert everything_in(lab.root) == before


def test_a_branch_of_an_upstreams_training_has_the_bytes_of_one_in_a_single_root(lab: Terminal, mine: Terminal) -> None:
    assert mine.run(*OTHER_BRANCH).code == 0
    assert lab.run(*OTHER_BRANCH).code == 0

    assert tensors_of(mine.where(*OTHER_BRANCH)) == tensors_of(lab.where(*OTHER_BRANCH))


def test_a_sweep_computes_here_what_an_upstream_lacks(lab: Terminal, mine: Terminal) -> None:
    before = everything_in(lab.root)

    swept = mine.run("sweep", "--grid=density=0.1,0.3", "--", *OTHER_BRANCH[:-1])

    assert swept.code == 0, swept.out + swept.err
    assert len(list(mine.root.rglob("manifest.json"))) == 1
    assert everything_in(lab.root) == before


LOOKS = (
    ("ls",),
    ("show", "{branch}"),
    ("compare", "{main}", "{branch}"),
    ("why", *TRAIN),
    (*TRAIN, "--dry_run"),
    ("table", "--rows=strategy"),
    ("export", "{branch}", "{out}/ticket"),
    ("measure", "sign_agreement", "{main}", "{branch}"),
    ("plot", "curves", "--out={out}/curves.svg"),
    ("report", "--out={out}/report.html"),
)


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look[0])
def test_a_run_of_an_upstream_is_marked(lab: Terminal, mine: Terminal, tmp_path: Path, look: tuple[str, ...]) -> None:
    main, branch = (lab.where(*job) for job in (TRAIN, BRANCH))
    (tmp_path / "out").mkdir()
    names = {"main": main.parent.parent.name, "branch": branch.name, "out": str(tmp_path / "out")}
    before = everything_in(lab.root)

    result = mine.run(*(word.format(**names) for word in look))

    assert result.code == 0, result.err
    assert str(lab.root) in result.out + result.err
    assert everything_in(lab.root) == before


def test_json_and_csv_state_the_upstream(lab: Terminal, mine: Terminal) -> None:
    assert mine.run(*OTHER_BRANCH).code == 0

    entries = json.loads(mine.run("ls", "--json").out)
    lines = mine.run("ls", "--columns=branch,upstream", "--format=csv", "--where=upstream=None").out.splitlines()

    assert sorted(str(entry.get("upstream")) for entry in entries) == sorted([str(lab.root)] * 2 + ["None"])
    assert lines == ["branch,upstream", "oneshot,"]


def test_incomplete_runs_of_an_upstream_do_not_count(lab: Terminal, mine: Terminal) -> None:
    (lab.where(*BRANCH) / "manifest.json").unlink()
    before = everything_in(lab.root)

    listed, computed = mine.run("ls"), mine.run(*BRANCH)

    assert "oneshot" not in listed.out
    assert "Starting" in computed.out and "this time:      computed" in computed.out
    assert everything_in(lab.root) == before


def test_an_upstreams_complete_run_counts_before_an_incomplete_one_here(lab: Terminal, mine: Terminal) -> None:
    shutil.copytree(lab.root, mine.root)
    (mine.where(*TRAIN) / "manifest.json").unlink()

    assert f"in the upstream {lab.root}" in mine.run(*TRAIN).out
    assert f"in the upstream {lab.root}" not in mine.run(*BRANCH).out


def test_upstreams_are_asked_in_their_order(lab: Terminal, mine: Terminal, tmp_path: Path) -> None:
    second = tmp_path / "second"
    shutil.copytree(lab.root, second)
    mine.environment["OPEN_PRUNE_UPSTREAM"] = f"{second}:{lab.root}"
    assert f"in the upstream {second}" in mine.run(*TRAIN).out

    (second / lab.where(*TRAIN).relative_to(lab.root) / "manifest.json").unlink()

    assert f"in the upstream {lab.root}" in mine.run(*TRAIN).out
    assert f"in the upstream {second}" in mine.run(*BRANCH).out


@pytest.mark.parametrize("job", [TRAIN, BRANCH], ids=["training", "branch"])
def test_a_state_that_an_upstream_lacks_is_replayed_in_a_copy(
    lab: Terminal, mine: Terminal, job: tuple[str, ...]
) -> None:
    before, folder = everything_in(lab.root), lab.where(*job)

    result = mine.run(*job, "--weight_save_steps=4it")

    assert result.code == 0, result.err
    assert f"from the upstream {lab.root}, which is never written" in result.out
    assert everything_in(lab.root) == before
    own = mine.where(*job)
    assert own.is_relative_to(mine.root)
    assert (own / METRICS).read_bytes() == (folder / METRICS).read_bytes()
    assert mine.run("verify").code == 0
    assert lab.run(*job, "--weight_save_steps=4it").code == 0
    assert tensors_of(own) == tensors_of(folder)


def test_a_measure_that_replays_keeps_its_result_and_its_states_here(lab: Terminal, mine: Terminal) -> None:
    before, address = everything_in(lab.root), lab.where(*TRAIN).parent.parent.name

    result = mine.run("measure", "gradient_flow", address, "--step=4it", "--replay")

    assert result.code == 0, result.err
    assert everything_in(lab.root) == before
    assert [path.parent.name for path in (mine.root / ".measures").rglob("*.json")] == ["gradient_flow"]
    assert "reused" in mine.run("measure", "gradient_flow", address, "--step=4it").out


def test_a_run_of_an_upstream_is_neither_removed_nor_mended(lab: Terminal, mine: Terminal) -> None:
    folder = lab.where(*BRANCH)
    flip_a_bit(folder / "state_ep3_it0.safetensors")
    before = everything_in(lab.root)

    mine.run("rm", folder.name, "--yes").assert_is_for_people(2, f"in the upstream {lab.root}", "Nothing was changed")
    chosen = mine.run("rm", "--where=status=complete", "--yes")
    mended = mine.run("verify", "--mend")

    assert chosen.code == 1 and "Nothing was removed" in chosen.out
    assert mended.code == 1 and str(folder / "state_ep3_it0.safetensors") in mended.out
    assert "never written" in mended.out and "set aside" not in mended.out
    assert everything_in(lab.root) == before


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _misdescribe(path: Path) -> None:
    path.with_name("description.json").write_text("{}")


@pytest.mark.parametrize("damage", [flip_a_bit, _truncate, Path.unlink, _misdescribe])
@pytest.mark.parametrize("job", [TRAIN, OTHER_BRANCH], ids=["reused", "parent"])
def test_a_damaged_run_of_an_upstream_is_named_and_computed_here(
    lab: Terminal, mine: Terminal, job: tuple[str, ...], damage: Callable[[Path], object]
) -> None:
    folder = lab.where(*TRAIN)
    damage(folder / ("state_ep0_it0.safetensors" if job is OTHER_BRANCH else "state_ep3_it0.safetensors"))
    before = everything_in(lab.root)

    result = mine.run(*job)

    assert result.code == 0, result.out + result.err
    assert str(folder) in result.out and "does not count" in result.out
    assert "this time:      computed" in result.out
    assert list((mine.root / folder.relative_to(lab.root)).parent.glob("*main*/**/description.json"))
    assert Terminal(mine.root, mine.datasets).run("verify").code == 0
    assert everything_in(lab.root) == before


def test_a_run_of_other_data_in_an_upstream_is_computed_here(lab: Terminal, mine: Terminal) -> None:
    manifest = lab.where(*TRAIN) / "manifest.json"
    tree = json.loads(manifest.read_text())
    del tree["sha256"]
    tree["dataset"]["digits"] = "0" * 64
    manifest.write_bytes(to_bytes(tree))

    result = mine.run(*TRAIN)

    assert result.code == 0, result.err
    assert "was computed from other data" in result.out and "this time:      computed" in result.out


REFUSED = {
    "the root itself": ("{mine}", 2, "is the root itself"),
    "the root under another name": ("{link}", 2, "is the root itself"),
    "inside the root": ("{mine}/inside", 2, "lies inside the root"),
    "around the root": ("{tmp}", 2, "contains the root"),
    "twice": ("{lab}:{lab}/../copy", 2, "is named twice"),
    "not there": ("{lab}:{tmp}/nowhere", 1, "/nowhere is not there"),
    "a file": ("{tmp}/file", 1, "/file is not a folder"),
    "a newer format": ("{new}", 1, "format 99"),
    "a damaged format": ("{odd}", 1, "format.json"),
}


@pytest.mark.parametrize("command", [TRAIN, ("ls",), ("verify",)], ids=lambda command: command[0])
@pytest.mark.parametrize("named", REFUSED)
def test_an_upstream_that_cannot_be_used_is_refused_by_name(
    lab: Terminal, mine: Terminal, tmp_path: Path, named: str, command: tuple[str, ...]
) -> None:
    (mine.root / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(mine.root)
    (tmp_path / "file").write_text("")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "format.json").write_bytes(to_bytes({"format": 99}))
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "format.json").write_text("{")
    names = {"mine": mine.root, "lab": lab.root, "tmp": tmp_path}
    names |= {name: tmp_path / name for name in ("link", "new", "odd")}
    upstream, code, words = REFUSED[named]
    mine.environment["OPEN_PRUNE_UPSTREAM"] = upstream.format(**names)

    result = mine.run(*command)

    result.assert_is_for_people(code, words)
    assert len(result.err.strip().splitlines()) == 1


def test_help_and_catalogues_need_no_upstream(mine: Terminal) -> None:
    mine.environment["OPEN_PRUNE_UPSTREAM"] = "/nowhere"

    assert [mine.run(*command).code for command in (("--help",), ("train", "--help"), ("models",))] == [0, 0, 0]


def test_a_job_ends_with_one_sentence_when_its_upstream_vanishes_before_it_is_needed(
    lab: Terminal, mine: Terminal
) -> None:
    assert lab.run("train", *LONG).code == 0
    running = mine.start("lottery", *LONG, "--levels=2")
    running.wait_for("Starting")
    lab.root.rename(lab.root.with_name("gone"))

    result = running.result()

    assert "Finished" in result.out  # level 1 had all that it needed
    result.assert_is_for_people(1, f"The upstream {lab.root} is not there")
    assert len(result.err.strip().splitlines()) == 1
    lab.root.with_name("gone").rename(lab.root)
    assert mine.run("lottery", *LONG, "--levels=2").code == 0


def test_settings_of_a_site_name_upstreams_and_the_variable_overrides_them(
    lab: Terminal, mine: Terminal, tmp_path: Path
) -> None:
    site = tmp_path / "site.toml"
    site.write_text(f'upstream = ["{lab.root}"]\nexecutor = "pool"\n')
    mine.environment["OPEN_PRUNE_SITE"] = str(site)
    mine.environment["OPEN_PRUNE_UPSTREAM"] = ""
    assert mine.run("ls").out == f"No runs under {mine.root}\n" or "No runs" in mine.run("ls").out
    del mine.environment["OPEN_PRUNE_UPSTREAM"]

    assert str(lab.root) in mine.run("ls").out
    assert f"in the upstream {lab.root}" in mine.run(*TRAIN).out
    site.write_text("upstream = 3\n")
    mine.run("ls").assert_is_for_people(2, f"{site}: upstream: 3 is not valid")


def test_an_upstream_named_by_the_root_flag_is_found_too(lab: Terminal, mine: Terminal, tmp_path: Path) -> None:
    result = mine.run(*TRAIN, f"--root={tmp_path / 'third'}")

    assert f"in the upstream {lab.root}" in result.out
    mine.run("ls", f"--root={lab.root}").assert_is_for_people(2, "is the root itself")


def test_kept_plug_ins_of_an_upstream_run_by_the_rules_of_any_root(
    lab: Terminal, mine: Terminal, tmp_path: Path
) -> None:
    job = job_of("my_method", SHORT)
    assert lab.run(*job).code == 0
    parent = lab.where(*job).name
    (kept,) = (lab.root / ".plugins").rglob("my_method.py")
    before = everything_in(lab.root)

    used = mine.run("branch", parent, "oneshot", "--density=0.05")
    mine.environment["XDG_STATE_HOME"] = str(tmp_path / "of somebody else")
    unknown = mine.run("branch", parent, "oneshot", "--density=0.04")
    asked = mine.run("branch", parent, "oneshot", "--density=0.04", f"--plugin={kept}")

    assert used.code == 0, used.err
    unknown.assert_is_for_people(2, f"--plugin={kept}")
    assert asked.code == 0, asked.err
    assert everything_in(lab.root) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_an_upstream_of_another_user_is_used_without_permission_to_write_it(lab: Terminal) -> None:
    list(EXECUTORS)  # the user may not be able to import them
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder may be closed to others
        place = Path(name)
        place.chmod(0o755)
        shutil.copytree(lab.root, place / "lab")
        shutil.copytree(lab.datasets, place / "datasets")
        for path in (place / "datasets", *(place / "datasets").rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        for path in (place / "lab", *(place / "lab").rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        mine = Terminal(place / "mine", place / "datasets", {"OPEN_PRUNE_UPSTREAM": str(place / "lab")}, user=12345)
        mine.root.mkdir()
        os.chown(mine.root, 12345, 12345)
        before = everything_in(place / "lab")

        for job in (TRAIN, OTHER_BRANCH, (*TRAIN, "--weight_save_steps=4it"), ("ls",), ("verify",)):
            result = mine.run(*job)
            assert result.code == 0, result.err
        assert everything_in(place / "lab") == before


def test_gc_pack_and_du_leave_upstreams_and_runs_that_are_interrupted_here(lab: Terminal, mine: Terminal) -> None:
    branch = lab.where(*BRANCH)
    location = Location.parse(str(lab.where(*TRAIN).relative_to(lab.root)))
    assert location is not None
    interrupted = Run(mine.root, location)
    with interrupted.locked(lambda _: None):
        interrupted.write("checkpoint.safetensors", b"of an interrupted run")
    before = everything_in(lab.root)

    counted, collected, packed = mine.run("du"), mine.run("gc", "--budget=1kB", "--grace=0s"), mine.run("pack")
    refused = mine.run("unpack", branch.name)

    for result in (counted, collected):
        assert f"the upstream {lab.root}, which is never written" in result.out, result.err
    assert "eftovers" not in counted.out
    assert packed.code == 0, packed.out + packed.err
    refused.assert_is_for_people(2, f"in the upstream {lab.root}", "Nothing was changed")
    assert interrupted.path("checkpoint.safetensors").exists()
    assert everything_in(lab.root) == before
