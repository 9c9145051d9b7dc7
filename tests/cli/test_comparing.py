"""`compare`, `why`, and listings that show the differences between runs, at the widths of terminals."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from foundations.storage import sealed_json
from tests.cli.conftest import BRANCH
from tests.cli.terminal import SHORT, Result, Terminal
from tests.conftest import REPOSITORY

LEVELS = ("lottery", *SHORT, "--rewinding_steps=4it", "--levels=2")
METHOD = """
from open_prune import Method, PruningHparams

def score(scoring, hparams):
    return {name: weight.abs() for name, weight in scoring.weights.items()}

MINE = Method(spelling="mine", paper="none", hparams=PruningHparams, score=score, depends_on_mask=False)
"""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Terminal:
    """A root with trainings, branches and levels of a lottery. Only to be looked at."""
    terminal = Terminal(tmp_path_factory.mktemp("compared"), digits)
    for command in (
        ("train", *SHORT),
        ("train", *SHORT, "--replicate=2"),
        ("train", *SHORT, "--lr=0.2"),
        BRANCH,
        (*BRANCH, "--lr=0.2"),
        (*BRANCH, "--randomize_layerwise", "--seed=3"),
        LEVELS,
    ):
        result = terminal.run(*command)
        assert result.code == 0, result.err
    return terminal


@pytest.fixture
def own_family(family: Terminal, tmp_path: Path) -> Terminal:
    shutil.copytree(family.root, tmp_path / "copy")
    return Terminal(tmp_path / "copy", family.datasets)


def at_width(terminal: Terminal, width: int, *arguments: str) -> list[str]:
    """Return the lines that a command prints at a terminal of some width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "open_prune.py", *arguments],
        cwd=REPOSITORY,
        env={**environment, **terminal.settings()},
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
    )
    os.close(theirs)
    content = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the command has ended
            break
        if not part:
            break
        content += part
    os.close(ours)
    assert process.wait(timeout=60) == 0, content
    return content.decode().replace("\r\n", "\n").splitlines()


def address_of(terminal: Terminal, *command: str) -> str:
    folder = terminal.where(*command)
    name = folder.name if folder.name != "main" else folder.parent.parent.name
    return f"{name.rpartition('_')[2][:8]}/{folder.parent.name.removeprefix('replicate_')}"


def differences_of(terminal: Terminal, *addresses: str) -> dict[str, list[object]]:
    tree = json.loads(terminal.run("compare", *addresses, "--format=json").out)
    return {each["name"]: each["values"] for each in tree["differences"]}


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("command", [("ls",), ("ls", "--columns=address,model,lr,differs,location"), ("compare",)])
def test_no_line_is_longer_than_the_terminal_unless_it_is_one_word(
    family: Terminal, width: int, command: tuple[str, ...]
) -> None:
    if command[0] == "compare":
        command = (*command, *(entry["address"] for entry in json.loads(family.run("ls", "--json").out)))

    lines = at_width(family, width, *command)

    assert all(len(line) <= width or len(line.split()) == 1 for line in lines), lines


def test_at_80_columns_a_listing_has_all_that_a_wide_one_has(family: Terminal) -> None:
    narrow, wide = (" ".join(at_width(family, width, "ls", "--where=branch=oneshot")) for width in (80, 400))

    told = {word.strip(",").rpartition("=")[2] for word in narrow.split()}
    missing = {word for word in wide.split() if word.rpartition("=")[2] not in told and not is_age(word)}
    assert missing <= {"BRANCH", "STATUS", "MODEL", "DATA", "DIFFERS"}, missing


def is_age(word: str) -> bool:
    return word in ("s", "min") or word.replace(".", "").isdecimal()


def test_a_listing_tells_runs_apart_by_hyperparameters_that_differ(family: Terminal) -> None:
    entries = json.loads(family.run("ls", "--columns=address,branch,differs", "--format=json").out)
    differs = {entry["address"]: entry["differs"] for entry in entries}

    assert differs[address_of(family, "train", *SHORT, "--lr=0.2")] == {"lr": 0.2}
    shuffled = differs[address_of(family, *BRANCH, "--randomize_layerwise", "--seed=3")]
    assert (shuffled["randomize_layerwise"], shuffled["seed"], shuffled["lr"]) == (True, 3, 0.1)
    assert "batch_size" not in shuffled


def test_columns_and_limit_choose_what_is_listed(family: Terminal) -> None:
    result = family.run("ls", "--columns=lr,address,test_loss", "--sort=-lr", "--limit=2")

    assert [line.split()[0] for line in result.out.splitlines()] == ["LR", "0.2", "0.2"]
    assert "LR" in result.out and "TEST_LOSS" in result.out
    assert result.err.strip() == "6 more of 8 runs are not shown."


def test_a_column_that_no_run_has_is_refused_with_what_there_is(family: Terminal) -> None:
    result = family.run("ls", "--columns=adress,lr")

    result.assert_is_for_people(2, "--columns: no run has a 'adress'. Did you mean 'address'?", "differs", "test_loss")


def test_data_have_every_digit_and_nothing_beside_them(family: Terminal) -> None:
    tree = json.loads(family.run("ls", "--columns=address,accuracy,lr", "--format=json").out)
    result = family.run("ls", "--columns=address,accuracy,lr", "--format=csv")
    everything = list(csv.DictReader(io.StringIO(family.run("ls", "--format=csv").out)))

    lines = list(csv.DictReader(io.StringIO(result.out)))
    assert [(line["address"], float(line["accuracy"]), float(line["lr"])) for line in lines] == [
        (entry["address"], entry["accuracy"], entry["lr"]) for entry in tree
    ]
    assert [float(line["test_accuracy"]) for line in everything] == [entry["accuracy"] for entry in tree]
    assert {"location", "strategy", "batch_size", "hparam.density"} <= everything[0].keys()
    one, other = (json.loads(family.run("ls", flag).out) for flag in ("--format=json", "--json"))
    assert [entry["hyperparameters"] for entry in one] == [entry["hyperparameters"] for entry in other]


def test_comparisons_choose_runs_in_listings_and_tables(family: Terminal) -> None:
    def found(where: str) -> list[float]:
        entries = json.loads(family.run("ls", f"--where={where}", "--columns=density", "--format=json").out)
        return [round(entry["density"], 1) for entry in entries]

    assert sorted(found("density<0.3")) == [0.1, 0.1, 0.1]
    assert sorted(found("density>=0.3")) == [0.6, 0.8]
    assert found("density<0.3,seed!=3") == []  # runs without a seed match nothing
    table = family.run("table", "--where=density>0.7,strategy=magn*")
    assert table.code == 0 and "magnitude" in table.out


def test_what_runs_of_different_kinds_differ_in_is_compared(family: Terminal) -> None:
    training, branch = address_of(family, "train", *SHORT), address_of(family, *BRANCH)

    differing = differences_of(family, training, branch)
    result = family.run("compare", training, branch)

    assert differing == {"kind": ["train", "oneshot"], "strategy": [None, "snip1"], "prune_fraction": [None, 0.9]}
    assert [line.split() for line in result.out.splitlines() if line.startswith("prune_fraction")] == [
        ["prune_fraction", "-", "0.9"]
    ]
    assert "test_accuracy" in result.out and "sparsity" in result.out


def test_addresses_may_stand_behind_flags(family: Terminal) -> None:
    first, second = address_of(family, "train", *SHORT), address_of(family, *BRANCH)
    expected = family.run("compare", first, second, "--format=csv").out

    assert expected
    for words in (
        ("--format=csv", first, second),
        (first, "--format", "csv", second),
        ("--format", "csv", first, second),
    ):
        assert family.run("compare", *words).out == expected
    assert f'"address": "{first}"' in family.run("show", "--json", first).out
    assert "1 run(s) would be removed" in family.run("rm", "--dry_run", second).out
    assert "would be written to" in family.run("export", "--dry_run", "--where=branch!=", "folder").out


def test_a_condition_that_is_given_twice_is_refused(family: Terminal) -> None:
    for command in (("ls",), ("rm", "--yes")):
        result = family.run(*command, "--where=lr=0.2", "--where", "branch=oneshot")
        assert (result.code, result.out) == (2, "")
        assert "--where: it is given twice; write one, with commas" in result.err


def test_a_comparison_as_csv_has_a_column_for_each_run(family: Terminal) -> None:
    addresses = [address_of(family, *BRANCH), address_of(family, *BRANCH, "--lr=0.2")]

    lines = list(csv.reader(io.StringIO(family.run("compare", *addresses, "--format=csv").out)))

    assert lines[0][:2] == ["kind", "name"] and len(lines[0]) == 4
    assert ["hyperparameter", "lr", "0.1", "0.2"] in lines


def test_a_comparison_says_which_runs_diverged(terminal: Terminal) -> None:
    for lr in ("0.1", "1e30"):
        assert terminal.run("train", *SHORT, f"--lr={lr}").code == 0
    addresses = [address_of(terminal, "train", *SHORT, f"--lr={lr}") for lr in ("0.1", "1e30")]

    lines = terminal.run("compare", *addresses).out.splitlines()

    (status,) = (line.split("  ") for line in lines if line.startswith("status"))
    assert [cell.strip() for cell in status if cell.strip()] == ["status", "complete", "complete (diverged)"]
    (loss,) = (line.split() for line in lines if line.startswith("test_loss"))
    assert loss[2:] == ["not", "a", "number"]


@pytest.mark.parametrize(
    ("addresses", "words"),
    [
        ((), "compare takes addresses"),
        (("branch",), "compare takes addresses"),
        (("nothing", "else"), "is named 'nothing'"),
    ],
)
def test_a_comparison_of_no_two_runs_is_refused(family: Terminal, addresses: tuple[str, ...], words: str) -> None:
    family.run("compare", *addresses).assert_is_for_people(2, words)


def test_one_run_by_two_names_is_not_compared(family: Terminal) -> None:
    address = address_of(family, *BRANCH)

    family.run("compare", address, address[:-2]).assert_is_for_people(2, "are the same run")


def why(terminal: Terminal, *command: str) -> Result:
    before = terminal.files()
    result = terminal.run("why", *command)
    assert result.code == 0, result.err
    assert terminal.files() == before
    return result


def test_a_run_that_is_there_is_reused(family: Terminal) -> None:
    assert "computes nothing and reuses it" in why(family, *BRANCH).out


def test_of_a_run_that_is_not_there_the_nearest_and_what_differs_are_told(family: Terminal) -> None:
    out = why(family, *BRANCH, "--lr=0.21").out

    assert f"The nearest is {address_of(family, *BRANCH, '--lr=0.2')}" in out
    assert ["lr", "0.2", "0.21"] in [line.split() for line in out.splitlines()]
    assert "To compute:" in out and "train to 18it" in out


def test_each_level_of_a_lottery_is_told(family: Terminal) -> None:
    out = why(family, *LEVELS, "--levels=3").out

    assert out.count("reuses it") == 3
    assert "level 3: " in out and "prune_fraction" in out


def test_the_name_of_the_program_may_stand_before_the_command(family: Terminal) -> None:
    assert "computes nothing and reuses it" in why(family, "python", "open_prune.py", *BRANCH).out


def test_in_an_empty_root_there_is_nothing_to_compare_with(terminal: Terminal) -> None:
    assert "no other one to compare with" in why(terminal, *BRANCH).out


@pytest.mark.parametrize(
    ("command", "words"), [(("ls",), "'ls' is not a command"), (("trian",), "Did you mean 'train'")]
)
def test_why_takes_commands_that_compute(family: Terminal, command: tuple[str, ...], words: str) -> None:
    family.run("why", *command).assert_is_for_people(2, words)


def test_an_incomplete_run_goes_on(own_family: Terminal) -> None:
    folder = own_family.where(*BRANCH)
    (folder / "manifest.json").unlink()

    assert "begun and is not complete" in why(own_family, *BRANCH).out


def test_a_damaged_run_is_told_with_what_to_do(own_family: Terminal) -> None:
    (own_family.where(*BRANCH) / "metrics.csv").write_text("")

    out = why(own_family, *BRANCH).out

    assert "damaged" in out and "verify" in out and "--mend" in out


def test_a_damaged_parent_is_told(own_family: Terminal) -> None:
    (own_family.where("train", *SHORT) / "description.json").write_text("{")

    assert "stops with an error" in why(own_family, *BRANCH, "--density=0.3").out


def test_other_data_are_told(own_family: Terminal) -> None:
    path = own_family.where(*BRANCH) / "manifest.json"
    tree = sealed_json.from_bytes(path.read_bytes())
    path.write_bytes(sealed_json.to_bytes({**tree, "dataset": {"digits": "0" * 64}}))

    assert "was computed from other data: the fingerprint of digits" in why(own_family, *BRANCH).out


def test_an_edited_plugin_is_told(own_family: Terminal, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(METHOD)
    command = ("branch", "train", "oneshot", *SHORT, "--density=0.1", f"--plugin={plugin}", "--strategy=mine")
    assert own_family.cold(*command).code == 0
    plugin.write_text(METHOD + "# changed\n")

    result = own_family.cold("why", *command)

    assert result.code == 0, result.err
    assert "The plug-in mine.py has changed since" in result.out


def test_runs_are_removed_by_a_condition_after_they_were_listed(own_family: Terminal) -> None:
    before = own_family.files()
    asked = own_family.run("rm", "--where=seed=3")
    dry = own_family.run("rm", "--where=seed=3", "--dry_run")
    assert (asked.code, dry.code) == (2, 0)
    assert "--yes" in asked.err and "oneshot" in asked.out and "1 run(s) would be removed" in dry.out
    assert own_family.files() == before

    result = own_family.run("rm", "--where=seed=3", "--yes")

    assert result.code == 0, result.err
    assert len(json.loads(own_family.run("ls", "--json").out)) == 7


def test_runs_that_others_draw_on_are_not_removed_by_a_condition(own_family: Terminal) -> None:
    before = own_family.files()
    own_family.run("rm", "--where=density>0.7", "--yes").assert_is_for_people(2, "depend on it", "--with_branches")
    of_several = own_family.run("rm", "--where=density>0.7,lr=0.1,branch!=,status=complete", "--yes")
    of_trainings = own_family.run("rm", "--where=branch=", "--yes")
    of_several.assert_is_for_people(2, "depend on it", "--with_branches")
    of_trainings.assert_is_for_people(2, "that are not among the 3 depend on them", "--with_branches")
    own_family.run("rm", "--where=density>7", "--yes")
    own_family.run("rm", "--where=", "--yes").assert_is_for_people(2, "it chooses nothing")
    own_family.run("rm", "abc", "--where=lr=0.1").assert_is_for_people(2, "rm takes one address, or --where")
    assert own_family.files() == before

    assert own_family.run("rm", "--where=density>0.7", "--yes", "--with_branches").code == 0
    assert own_family.run("verify").code == 0
    assert len(json.loads(own_family.run("ls", "--json").out)) == 6


def test_runs_are_exported_by_a_condition_into_a_folder(own_family: Terminal, tmp_path: Path) -> None:
    (own_family.where(*BRANCH) / "manifest.json").unlink()
    folder = tmp_path / "tickets"
    dry = own_family.run("export", str(folder), "--where=strategy=snip1", "--dry_run")
    assert dry.code == 0 and not folder.exists()

    result = own_family.run("export", str(folder), "--where=strategy=snip1")

    assert result.code == 0, result.err
    assert len(list(folder.glob("*_1.safetensors"))) == 2
    assert f"Left out, incomplete: {address_of(own_family, *BRANCH)}" in result.out
    assert own_family.run("import", str(next(folder.iterdir()))).code == 0
