from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from foundations.parts import part_of
from foundations.plain_tar import END, write_entry
from foundations.storage import sealed_json
from tests.analysis.sharing.conftest import PRUNED
from tests.cli.terminal import SHORT, Terminal, tensors_of

Members = dict[str, bytes]


@pytest.fixture(scope="session")
def file(shared_root: Terminal, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The complete runs of a root as a shared file, without states."""
    path = tmp_path_factory.mktemp("files") / "results.tar"
    result = shared_root.run("share", str(path), "--where", "status=complete")
    assert result.code == 0, result.err
    return path


def rows_of(terminal: Terminal) -> list[dict]:
    rows = json.loads(terminal.run("ls", "--json").out)
    kept = [{name: value for name, value in row.items() if name not in ("seconds_old", "origin")} for row in rows]
    return sorted(kept, key=lambda row: row["location"])


def members_of(file: Path) -> Members:
    with tarfile.open(file) as archive:
        files = {item.name: archive.extractfile(item) for item in archive}
        return {name: content.read() for name, content in files.items() if content is not None}


def write_members(members: Members, path: Path, runs: list[str] | None = None) -> None:
    """Write a shared file whose index fits its members."""
    index = sealed_json.from_bytes(members["share.json"])
    index["runs"] = sorted({name.removeprefix("runs/").rpartition("/")[0] for name in members if name[:5] == "runs/"})
    index["runs"] = index["runs"] if runs is None else runs
    rest = {name: members[name] for name in sorted(members) if name != "share.json"}
    index["members"] = {name: record_of(content) for name, content in rest.items()}
    with path.open("wb") as file:
        for name, content in {"share.json": sealed_json.to_bytes(index), **rest}.items():
            write_entry(file.write, name, len(content), iter([content]))
        file.write(END)


def record_of(content: bytes) -> dict:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def with_manifest(members: Members, change: Callable[[dict], None], part: str = "branch_oneshot") -> None:
    """Change the manifest of a run, and seal it again."""
    name = next(name for name in members if part in name and name.endswith("/manifest.json"))
    tree = sealed_json.from_bytes(members[name])
    change(tree)
    members[name] = sealed_json.to_bytes(tree)


def replace_file(members: Members, ending: str, content: bytes) -> None:
    """Replace a file of a run, and its record in the manifest."""
    name = next(name for name in members if name.endswith(ending) and "branch_oneshot" in name)
    members[name] = content
    folder, _, file = name.rpartition("/")
    tree = sealed_json.from_bytes(members[f"{folder}/manifest.json"])
    tree["files"][file] = record_of(content)
    members[f"{folder}/manifest.json"] = sealed_json.to_bytes(tree)


def test_a_colleagues_root_shows_the_shared_runs_as_they_were_and_where_they_came_from(
    shared_root: Terminal, colleague: Terminal, file: Path, tmp_path: Path
) -> None:
    result = colleague.run("import", str(file))
    assert result.code == 0, result.err
    assert "3 new runs" in result.out
    assert rows_of(colleague) == [row for row in rows_of(shared_root) if row["status"] == "complete"]
    assert "results.tar" in colleague.run("ls").out
    table = colleague.run("table")
    assert [line for line in table.out.splitlines() if "magnitude" in line]
    assert table.out.splitlines()[:8] == shared_root.run("table").out.splitlines()[:8]
    assert "3 of 3 runs came in results.tar." in table.out + table.err
    figure = colleague.run("plot", "curves", "--out", str(tmp_path / "curves.csv"))
    assert figure.code == 0 or "csv" in figure.err
    assert colleague.run("verify").code == 0


def test_the_same_runs_give_the_same_bytes(shared_root: Terminal, file: Path, tmp_path: Path) -> None:
    assert shared_root.run("share", str(tmp_path / "again.tar"), "--where", "status=complete").code == 0
    assert (tmp_path / "again.tar").read_bytes() == file.read_bytes()
    assert members_of(file).keys() >= {"share.json", "report.html", "table.txt"}


def test_a_state_that_was_left_out_is_named_and_a_job_replays_it_to_the_same_bytes(
    shared_root: Terminal, colleague: Terminal, file: Path, tmp_path: Path
) -> None:
    assert colleague.run("import", str(file)).code == 0
    folder = colleague.where(*PRUNED)
    assert not tensors_of(folder).keys() - {"mask.safetensors"}
    colleague.run("export", folder.name, str(tmp_path / "ticket")).assert_is_for_people(1, "left out", "shared")
    result = colleague.run("branch", folder.name, "finetune", "--finetune_steps=3it")
    assert result.code == 0, result.err
    assert tensors_of(folder) == tensors_of(shared_root.where(*PRUNED))
    assert colleague.run("verify").code == 0


def test_a_replay_that_gives_other_bytes_is_refused(colleague: Terminal, file: Path, tmp_path: Path) -> None:
    members = members_of(file)

    def change(tree: dict) -> None:
        name = next(name for name in tree["files"] if name.startswith("state_ep3"))
        tree["files"][name]["sha256"] = "0" * 64

    with_manifest(members, change, "branch_oneshot_" + colleague.where(*PRUNED).name.rpartition("_")[2])
    write_members(members, tmp_path / "other.tar")
    assert colleague.run("import", str(tmp_path / "other.tar")).code == 0
    result = colleague.run("branch", colleague.where(*PRUNED).name, "finetune", "--finetune_steps=3it")
    assert result.code == 1
    assert "does not reproduce" in result.err
    assert not list(colleague.where(*PRUNED).glob("state_ep3*"))


def test_states_go_along_on_request_and_join_runs_that_are_there(
    shared_root: Terminal, colleague: Terminal, file: Path, tmp_path: Path
) -> None:
    assert colleague.run("import", str(file)).code == 0
    whole = tmp_path / "whole.tar"
    assert shared_root.run("share", str(whole), shared_root.where(*PRUNED).name, "--states=all").code == 0
    result = colleague.run("import", str(whole))
    assert "4 states" in result.out
    assert tensors_of(colleague.where(*PRUNED)) == tensors_of(shared_root.where(*PRUNED))
    assert colleague.run("import", str(whole)).out.count("Added") == 0
    assert colleague.run("verify").code == 0


def test_runs_of_ones_own_stay_as_they_are(colleague: Terminal, file: Path) -> None:
    assert colleague.run("train", *SHORT).code == 0
    assert colleague.run("train", *SHORT, "--replicate=2").code == 0
    before = colleague.files()
    result = colleague.run("import", str(file))
    assert result.code == 0
    assert "Here already with other" in result.out
    assert {name: before[name] for name in before} == {
        name: digest for name, digest in colleague.files().items() if name in before
    }


def test_the_file_of_a_sweep_chooses_its_runs(shared_root: Terminal, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.toml"
    flags = dict(flag.removeprefix("--").split("=") for flag in PRUNED[3:])
    base = "\n".join(f'{name} = "{value}"' for name, value in flags.items() if name != "strategy")
    sweep.write_text(f'command = "branch train oneshot"\n[base]\n{base}\n[[grid]]\nstrategy = ["magnitude", "snip1"]\n')
    result = shared_root.run("share", str(tmp_path / "sweep.tar"), str(sweep))
    assert result.code == 1, "one of the two is not there"
    assert "Wrote 2 runs" in result.out
    assert "Left out, not complete" in result.out


HOSTILE: dict[str, tuple[Callable[[Members], object], str]] = {
    "other accuracy": (lambda m: with_manifest(m, lambda t: t["results"].update(test_accuracy=0.999)), "was measured"),
    "invented result": (lambda m: with_manifest(m, lambda t: t["results"].update(my_accuracy=1.0)), "not measured"),
    "other density": (lambda m: with_manifest(m, lambda t: t["results"].update(density=0.01)), "was measured"),
    "other run": (lambda m: with_manifest(m, lambda t: t.update(run="train_x")), "belongs to"),
    "file outside": (
        lambda m: with_manifest(m, lambda t: t["files"].update({"../x": t["files"]["metrics.csv"]})),
        "not a manifest",
    ),
    "missing mask": (
        lambda m: m.pop(next(name for name in m if name.endswith("mask.safetensors"))),
        "mask.safetensors is missing",
    ),
    "unlisted file": (
        lambda m: m.update({next(n for n in m if n.endswith("/mask.safetensors"))[:-16] + "x.py": b"1/0"}),
        "x.py is not listed",
    ),
    "name with dots": (lambda m: m.update({"runs/../../evil": b""}), "not the name of a member"),
    "absolute name": (lambda m: m.update({"/etc/evil": b""}), "not the name of a member"),
    "plug-in of another digest": (lambda m: m.update({f"plugins/{'0' * 64}/evil.py": b"1/0"}), "SHA-256"),
    "pickle as mask": (lambda m: replace_file(m, "/mask.safetensors", b"\x80\x04evil."), "safetensors"),
    "metrics of noise": (lambda m: replace_file(m, "/metrics.csv", b"\xff\xfe\n"), "metrics.csv"),
    "deep JSON": (lambda m: replace_file(m, "/sparsity.json", b"[" * 100_000), "JSON"),
}


@pytest.mark.parametrize("change, words", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_changed_file_is_refused_whole(
    colleague: Terminal, file: Path, tmp_path: Path, change: Callable[[Members], object], words: str
) -> None:
    members = members_of(file)
    change(members)
    write_members(members, tmp_path / "changed.tar")
    colleague.run("import", str(tmp_path / "changed.tar")).assert_is_for_people(1, words)
    assert not list(colleague.root.glob("train_*"))
    assert not list(colleague.root.glob(".imports/*"))


def test_a_description_whose_values_are_not_those_of_its_address_is_refused(
    colleague: Terminal, file: Path, tmp_path: Path
) -> None:
    for name, value in (("lr", 0.25), ("momentum", 0.25)):
        members = members_of(file)
        path = next(each for each in members if each.endswith("/main/description.json"))
        tree = sealed_json.from_bytes(members[path])
        tree["hyperparameters"]["training"][name] = value
        members[path] = sealed_json.to_bytes(tree)
        folder = path.rpartition("/")[0]
        manifest = sealed_json.from_bytes(members[f"{folder}/manifest.json"])
        manifest["files"]["description.json"] = record_of(members[path])
        members[f"{folder}/manifest.json"] = sealed_json.to_bytes(manifest)
        write_members(members, tmp_path / "changed.tar")
        colleague.run("import", str(tmp_path / "changed.tar")).assert_is_for_people(1, name)


def test_flipped_cut_and_appended_bytes_are_refused(colleague: Terminal, file: Path, tmp_path: Path) -> None:
    data, path = file.read_bytes(), tmp_path / "damaged.tar"
    damaged = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(600, len(data), len(data) // 23)]
    for content in (*damaged, data[:-1], data[:-1024], data[: len(data) // 2], data + b"\0", data + data):
        path.write_bytes(content)
        colleague.run("import", str(path)).assert_is_for_people(1, "damaged.tar")
        assert not list(colleague.root.glob("train_*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_links_and_devices_are_refused(colleague: Terminal, file: Path, tmp_path: Path, kind: bytes) -> None:
    link = tarfile.TarInfo("runs/x")
    link.type, link.linkname = kind, "/etc/passwd"
    stream = io.BytesIO()
    with tarfile.open(file) as source, tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as target:
        for number, item in enumerate(source):
            if number == 1:
                target.addfile(link)
            target.addfile(item, source.extractfile(item))
    (tmp_path / "links.tar").write_bytes(stream.getvalue())
    colleague.run("import", str(tmp_path / "links.tar")).assert_is_for_people(1, "links.tar")
    assert not list(colleague.root.glob("train_*"))


def test_a_newer_form_is_refused_by_its_number(colleague: Terminal, file: Path, tmp_path: Path) -> None:
    members = members_of(file)
    tree = sealed_json.from_bytes(members["share.json"])
    members["share.json"] = sealed_json.to_bytes({**tree, "share": 7})
    write_members(members, tmp_path / "newer.tar")
    colleague.run("import", str(tmp_path / "newer.tar")).assert_is_for_people(1, "form 7")


def test_a_plug_in_comes_along_and_is_not_executed(colleague: Terminal, shared_root: Terminal, tmp_path: Path) -> None:
    plugin, trace = tmp_path / "my_magnitude.py", tmp_path / "executed"
    source = (Path(__file__).parents[3] / "examples" / "my_method.py").read_text()
    plugin.write_text(f"{source}\nfrom pathlib import Path\nPath({str(trace)!r}).touch()\n")
    own = Terminal(tmp_path / "own", shared_root.datasets)
    flags = (*PRUNED[:-2], "--strategy=fan_in_magnitude", "--density=0.3", f"--plugin={plugin}")
    assert own.run(*flags).code == 0
    assert own.run("share", str(tmp_path / "with.tar"), "--where", "strategy=fan_in_magnitude").code == 0
    trace.unlink()
    colleague.environment["XDG_STATE_HOME"] = str(tmp_path / "their state")
    result = colleague.run("import", str(tmp_path / "with.tar"))
    assert result.code == 0, result.err
    kept = list(colleague.root.glob(".plugins/*/my_magnitude.py"))
    assert [each.read_bytes() for each in kept] == [plugin.read_bytes()]
    assert colleague.run("ls").code == colleague.run("table").code == 0
    run = json.loads(colleague.run("ls", "--json", "--where", "strategy=fan_in_magnitude").out)[0]["location"]
    colleague.run("branch", run, "finetune", "--finetune_steps=3it").assert_is_for_people(2, "plug-in", "kept")
    assert not trace.exists()


def test_a_signed_file_names_the_trusted_signer(shared_root: Terminal, colleague: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "signed.tar"
    address = shared_root.where("train", *SHORT).parts[-3]
    shared_root.run("share", str(path), address, "--sign").assert_is_for_people(1, "key make")
    public = shared_root.run("key", "make").out.splitlines()[0]
    assert shared_root.run("key", "show").out.strip() == public
    assert shared_root.run("share", str(path), address, "--sign").code == 0
    colleague.run("import", str(path), "--require_signed").assert_is_for_people(2, "unknown key")
    assert colleague.run("key", "trust", "ada", public).code == 0
    assert "signed by ada" in colleague.run("import", str(path), "--require_signed").out
    assert "ada" in colleague.run("ls").out


def test_an_unsigned_or_changed_file_is_not_signed(shared_root: Terminal, colleague: Terminal, tmp_path: Path) -> None:
    signed, changed = tmp_path / "signed.tar", tmp_path / "changed.tar"
    address = shared_root.where("train", *SHORT).parts[-3]
    shared_root.run("key", "make")
    shared_root.run("share", str(signed), address, "--sign")
    members = members_of(signed)
    members.pop("report.html")
    signature = members.pop("share.sig.json")
    write_members(members, changed)
    colleague.run("import", str(changed), "--require_signed").assert_is_for_people(2, "signed by nobody")
    index = members_of(changed)["share.json"]
    with changed.open("wb") as file:
        for name, content in {"share.json": index, "share.sig.json": signature}.items():
            write_entry(file.write, name, len(content), iter([content]))
    colleague.run("import", str(changed)).assert_is_for_people(1, "signature", "not valid")


def test_a_run_under_another_name_than_its_own_is_refused(colleague: Terminal, file: Path, tmp_path: Path) -> None:
    members = members_of(file)
    moved = {name.replace("branch_oneshot_", "branch_gmp_"): content for name, content in members.items()}
    for name in [name for name in moved if "branch_gmp" in name and name.endswith("/manifest.json")]:
        tree = sealed_json.from_bytes(moved[name])
        moved[name] = sealed_json.to_bytes({**tree, "run": tree["run"].replace("branch_oneshot_", "branch_gmp_")})
    write_members(moved, tmp_path / "moved.tar")
    colleague.run("import", str(tmp_path / "moved.tar")).assert_is_for_people(1, "branch_oneshot")


def test_what_a_killed_import_left_is_removed_by_the_next(colleague: Terminal, file: Path) -> None:
    assert colleague.run("import", str(file)).code == 0
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    part = part_of(colleague.root / ".imports" / "arriving")
    left = part.with_name(part.name.replace(f"-{os.getpid()}-", f"-{ended.stdout.strip()}-"))
    left.mkdir()
    assert colleague.run("import", str(file)).code == 0
    assert not left.exists()


def test_a_pipe_is_not_waited_for(colleague: Terminal, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    colleague.run("import", str(tmp_path / "pipe")).assert_is_for_people(1, "pipe")


def test_flags_of_training_are_refused_for_a_shared_file(colleague: Terminal, file: Path) -> None:
    colleague.run("import", str(file), "--lr=0.5").assert_is_for_people(2, "--lr")
