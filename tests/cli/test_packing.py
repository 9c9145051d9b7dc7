from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.rows.run import open_run
from analysis.rows.runs import runs
from foundations.storage.store import all_runs, find_run
from tests.cli.conftest import BRANCH
from tests.cli.terminal import SHORT, Terminal
from tests.foundations.toy_descriptions import bytes_under, flip_a_bit

TRAIN = ("train", *SHORT)
LAST = "state_ep3_it0.safetensors"


@pytest.fixture(scope="session")
def packed_once(two_runs: Terminal, tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A packed copy of `two_runs`. Only to be looked at."""
    root = tmp_path_factory.mktemp("packed") / "root"
    shutil.copytree(two_runs.root, root)
    terminal = Terminal(root, two_runs.datasets)
    assert "2 of 2 run(s) are packed" in ran(terminal, "pack")
    return terminal


@pytest.fixture
def packed(packed_once: Terminal, tmp_path: Path) -> Terminal:
    """A copy of `packed_once` to do anything to."""
    shutil.copytree(packed_once.root, tmp_path / "copy")
    return Terminal(tmp_path / "copy", packed_once.datasets)


def ran(terminal: Terminal, *arguments: str, code: int = 0) -> str:
    result = terminal.run(*arguments)
    assert result.code == code, result.out + result.err
    return result.out


def the_pack(terminal: Terminal) -> Path:
    (pack,) = terminal.root.glob(".packs/*.zip")
    return pack


def run_files(root: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(root)): content for path, content in bytes_under(root).items()}
    return {name: content for name, content in found.items() if name.startswith("train_")}


def test_packed_runs_take_one_file(packed_once: Terminal) -> None:
    files = [path for path in packed_once.root.rglob("*") if path.is_file()]

    assert {path.name for path in files} <= {the_pack(packed_once).name, "format.json"}
    assert zipfile.ZipFile(the_pack(packed_once)).testzip() is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "--columns=address,status,model,strategy,accuracy,density"),
        ("ls", "--where=strategy=snip1", "--format=csv", "--columns=address,accuracy"),
        ("table",),
        ("compare", "train_", "branch_oneshot"),
        ("verify",),
        TRAIN,
        BRANCH,
    ],
)
def test_commands_read_packed_runs_as_before(
    two_runs: Terminal, packed_once: Terminal, arguments: tuple[str, ...]
) -> None:
    expected, found = two_runs.run(*arguments), packed_once.run(*arguments)

    assert found.code == 0, found.err
    inside = str(the_pack(packed_once))
    assert found.out.replace(inside, "").replace(str(packed_once.root), "") == expected.out.replace(
        str(two_runs.root), ""
    )


def test_packed_runs_are_shown_and_counted(packed_once: Terminal) -> None:
    assert str(the_pack(packed_once)) in ran(packed_once, "show", "branch_oneshot")
    assert "packs" in ran(packed_once, "du")
    assert "snip1" in ran(packed_once, "du", "--by=strategy")
    assert len(runs(root=packed_once.root)) == 2


def test_the_library_reads_states_masks_and_metrics_of_packed_runs(two_runs: Terminal, packed_once: Terminal) -> None:
    for address in ("train_", "branch_oneshot"):
        expected, found = (open_run(address, each.root, each.datasets) for each in (two_runs, packed_once))
        assert found.status == "complete"
        assert found.metrics.to_csv() == expected.metrics.to_csv()
        assert found.steps == expected.steps
        assert found.mask() == expected.mask()
        assert all(tensor.equal(found.state()[name]) for name, tensor in expected.state().items())
        assert [str(child) for child in found.children()] == [str(child) for child in expected.children()]


def test_tickets_of_packed_runs_are_the_same(two_runs: Terminal, packed: Terminal, tmp_path: Path) -> None:
    for terminal, name in ((two_runs, "plain"), (packed, "packed")):
        ran(terminal, "export", "branch_oneshot", str(tmp_path / name))

    assert (tmp_path / "plain").read_bytes() == (tmp_path / "packed").read_bytes()


def test_a_branch_of_a_packed_run_is_as_one_of_a_plain_run(
    two_runs: Terminal, packed: Terminal, tmp_path: Path
) -> None:
    plain = Terminal(tmp_path / "plain", two_runs.datasets)
    shutil.copytree(two_runs.root, plain.root)
    run = find_run(packed.root, "branch_oneshot")
    again = ("branch", "branch_oneshot", "finetune", "--default_hparams=digits_lenet_16", "--finetune_steps=1it")
    for terminal in (plain, packed):
        ran(terminal, *again, "--density=0.05")

    other = [each for each in all_runs(packed.root) if each.location != run.location and each.location.name != "main"]
    for each in other:
        manifest, expected = each.manifest(), find_run(plain.root, str(each.location)).manifest()
        assert manifest is not None and expected is not None
        assert manifest.files == expected.files
        assert manifest.parents == expected.parents


def test_a_state_that_a_packed_run_did_not_keep_is_replayed_in_a_folder_of_its_own(packed: Terminal) -> None:
    again = ("branch", "train", "lottery_rewind", *SHORT, "--rewind_step=1it", "--density=0.5")

    ran(packed, *again)

    (main,) = packed.root.glob("train_*/replicate_1/main")
    assert (main / "state_ep0_it1.safetensors").exists()
    assert "0 damaged" in ran(packed, "verify")
    assert "3 of 3 run(s) are packed" in ran(packed, "pack")
    assert not list(packed.root.glob("train_*"))
    assert "0 damaged, 3 whole" in ran(packed, "verify")
    assert open_run("train_", packed.root, packed.datasets).state("1it")


def test_gc_removes_states_of_packed_runs_which_stay_packed(two_runs: Terminal, packed: Terminal) -> None:
    before = the_pack(packed).stat().st_size
    planned = ran(packed, "gc", "--budget=0", "--grace=0", "--dry_run")

    done = ran(packed, "gc", "--budget=0", "--grace=0", code=1)

    assert planned.count("state_ep") == done.count("state_ep") == 4
    assert the_pack(packed).stat().st_size < 0.6 * before
    assert not list(packed.root.glob("train_*"))
    assert "0 damaged, 2 whole" in ran(packed, "verify")
    assert "removed state_ep3" in packed.run("export", "train_", str(packed.root / "t"), "--dense").err
    ran(packed, *TRAIN, "--weight_save_steps=3ep")
    assert open_run("train_", packed.root, packed.datasets).state("3ep")
    (state,) = packed.root.glob(f"train_*/replicate_1/main/{LAST}")
    assert state.read_bytes() == (two_runs.where(*TRAIN) / LAST).read_bytes()


def test_a_budget_of_files_removes_no_states_of_packed_runs(packed: Terminal) -> None:
    before = run_files(packed.root), the_pack(packed).read_bytes()

    ran(packed, "gc", "--files=1", "--grace=0", code=1)

    assert (run_files(packed.root), the_pack(packed).read_bytes()) == before


def test_gc_keeps_states_of_packed_runs_that_are_used_recently_or_needed(packed: Terminal) -> None:
    out = ran(packed, "gc", "--budget=0", code=1)

    assert "within the grace period" in out
    assert "0 damaged, 2 whole" in ran(packed, "verify")
    assert open_run("train_", packed.root, packed.datasets).steps


def test_packed_runs_are_pushed_and_shared_like_others(two_runs: Terminal, packed: Terminal, tmp_path: Path) -> None:
    for name, terminal in (("plain", two_runs), ("packed", packed)):
        ran(terminal, "push", f"file://{tmp_path}/{name}_remote")
        ran(terminal, "share", str(tmp_path / f"{name}.share"), "branch_oneshot", "--states=all")
    for command, given in (("pull", "_remote"), ("import", ".share")):
        found = []
        for name in ("plain", "packed"):
            other = Terminal(tmp_path / command / name, packed.datasets)
            ran(other, command, f"{'file://' if command == 'pull' else ''}{tmp_path}/{name}{given}")
            assert "0 damaged, 2 whole" in ran(other, "verify")
            found.append(run_files(other.root))
        assert found[0] == found[1]
        expected = run_files(two_runs.root)
        assert found[0].items() <= expected.items()


def test_a_packed_run_counts_as_here_when_it_is_pulled_or_imported(
    two_runs: Terminal, packed: Terminal, tmp_path: Path
) -> None:
    before = packed.files()
    ran(two_runs, "push", f"file://{tmp_path}/remote")
    ran(two_runs, "share", str(tmp_path / "file"), "branch_oneshot", "--states=all")

    assert "yes" in ran(packed, "remote", "ls", f"file://{tmp_path}/remote")
    ran(packed, "pull", f"file://{tmp_path}/remote")
    assert not list(packed.root.glob("train_*"))
    ran(packed, "import", str(tmp_path / "file"))

    assert not list(packed.root.glob("train_*"))
    assert {name: content for name, content in packed.files().items() if name.endswith(".zip")} == {
        name: content for name, content in before.items() if name.endswith(".zip")
    }


def test_gc_keeps_the_states_of_runs_that_another_machine_may_have_computed(two_runs: Terminal, tmp_path: Path) -> None:
    other = Terminal(tmp_path / "other", two_runs.datasets)
    ran(two_runs, "push", f"file://{tmp_path}/remote")
    ran(other, "pull", f"file://{tmp_path}/remote")

    out = ran(other, "gc", "--budget=0", "--grace=0", code=1)

    assert "in 4 states, since it was pulled or imported" in out
    assert run_files(other.root).items() <= run_files(two_runs.root).items()


def test_a_shared_file_gives_a_packed_run_back_the_states_that_it_lacks(packed: Terminal, tmp_path: Path) -> None:
    ran(packed, "share", str(tmp_path / "file"), "branch_oneshot", "--states=all")
    ran(packed, "gc", "--budget=0", "--grace=0", code=1)

    ran(packed, "import", str(tmp_path / "file"))

    assert open_run("train_", packed.root, packed.datasets).state("3ep")
    assert "0 damaged, 2 whole" in ran(packed, "verify")
    assert "2 of 2 run(s) are packed" in ran(packed, "pack")


def test_packed_runs_from_a_shared_file_stay_marked(two_runs: Terminal, tmp_path: Path) -> None:
    ran(two_runs, "share", str(tmp_path / "theirs"), "branch_oneshot")
    other = Terminal(tmp_path / "other", two_runs.datasets)
    ran(other, "import", str(tmp_path / "theirs"))
    before = ran(other, "ls", "--format=csv", "--columns=address,status,origin")

    ran(other, "pack")

    assert ran(other, "ls", "--format=csv", "--columns=address,status,origin") == before
    assert "theirs" in ran(other, "show", "branch_oneshot")


def test_unpacking_gives_back_the_same_files(two_runs: Terminal, packed: Terminal) -> None:
    assert "Unpacked 2 of 2" in ran(packed, "unpack")

    assert run_files(packed.root) == run_files(two_runs.root)
    assert not (packed.root / ".packs").exists()


def test_unpacking_one_run_leaves_the_others_packed(packed: Terminal) -> None:
    ran(packed, "unpack", "branch_oneshot")

    assert len(list(packed.root.glob("train_*/replicate_1/*"))) == 1
    assert "0 damaged, 2 whole" in ran(packed, "verify")
    assert "2 of 2 run(s) are packed" in ran(packed, "pack")


def test_removing_a_packed_run_removes_it_from_its_pack(packed: Terminal) -> None:
    ran(packed, "rm", "branch_oneshot", "--yes")

    assert [run.location.name for run in all_runs(packed.root)] == ["main"]
    ran(packed, "rm", "train_", "--yes")
    assert list(all_runs(packed.root)) == []
    assert not (packed.root / ".packs").exists()


def test_runs_that_are_not_complete_or_damaged_stay_and_are_named(own_two_runs: Terminal) -> None:
    (own_two_runs.where(*BRANCH) / "manifest.json").unlink()
    flip_a_bit(own_two_runs.where(*TRAIN) / LAST)
    before = own_two_runs.files()

    out = ran(own_two_runs, "pack")

    assert "it is not complete" in out
    assert LAST in out
    assert "0 of 2 run(s) are packed" in out
    assert own_two_runs.files() == before


def _flip(pack: Path, name: str) -> None:
    data = bytearray(pack.read_bytes())
    with zipfile.ZipFile(pack) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith(name))
    data[info.header_offset + 30 + len(info.filename) + 20 + info.file_size // 2] ^= 1
    pack.write_bytes(data)


@pytest.mark.parametrize(
    "name", [LAST, "metrics.csv", "mask.safetensors", "description.json", "manifest.json", "log.txt"]
)
def test_a_flipped_bit_in_a_packed_file_is_found_and_mended(packed: Terminal, name: str) -> None:
    _flip(the_pack(packed), name)

    found = ran(packed, "verify", code=1)
    assert name in found
    assert "1 damaged, 1 whole" in found

    ran(packed, "verify", "--mend")
    for command in (TRAIN, BRANCH):
        ran(packed, *command)
    assert "0 damaged, 2 whole" in ran(packed, "verify")


def _as_member(name: str) -> Callable[[Path], None]:
    def change(pack: Path) -> None:
        with zipfile.ZipFile(pack, "a") as archive:
            archive.writestr(name, b"123")

    return change


def _compressed(pack: Path) -> None:
    with zipfile.ZipFile(pack) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(pack, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


HARM: dict[str, Callable[[Path], object]] = {
    "empty": lambda pack: pack.write_bytes(b""),
    "cut": lambda pack: pack.write_bytes(pack.read_bytes()[:-7]),
    "text": lambda pack: pack.write_bytes(b"no zip at all"),
    "compressed": _compressed,
    "upwards": _as_member("train_x/replicate_1/main/../../../../evil"),
    "absolute": _as_member("/etc/evil"),
    "hidden": _as_member("train_x/replicate_1/main/.evil"),
    "elsewhere": _as_member(".locks/evil"),
}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_pack_that_is_not_as_it_was_written_is_refused_and_named(packed: Terminal, harm: str) -> None:
    pack = the_pack(packed)
    HARM[harm](pack)
    before = packed.files()

    for command in (("ls",), TRAIN, ("rm", "train_", "--yes", "--with_branches")):
        packed.run(*command).assert_is_for_people(1, str(pack), "verify --mend")
    assert str(pack) in ran(packed, "verify", code=1)
    assert packed.files() == before

    ran(packed, "verify", "--mend")
    assert pack.with_name(f"damaged_{pack.name}").exists()
    ran(packed, *TRAIN)
    assert "set aside" in ran(packed, "du")


def test_packing_takes_addresses_or_a_condition(own_two_runs: Terminal) -> None:
    own_two_runs.run("pack", "train_", "--where=strategy=snip1").assert_is_for_people(2, "--where")
    assert "1 run(s) would be packed" in ran(own_two_runs, "pack", "--where=strategy=snip1", "--dry_run")

    assert "1 of 1 run(s) are packed" in ran(own_two_runs, "pack", "--where=strategy=snip1")
    assert "1 of 1 run(s) are packed" in ran(own_two_runs, "pack", "train_")
    assert len(list(own_two_runs.root.glob(".packs/*"))) == 2
