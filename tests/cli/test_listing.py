from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import BRANCH
from tests.cli.terminal import LENET, SHORT, Result, Terminal


def rows_of(result: Result) -> list[dict[str, str]]:
    header, *lines = (line.split() for line in result.out.splitlines())
    return [dict(zip(header, line, strict=False)) for line in lines]


def test_an_empty_root_has_no_runs(terminal: Terminal) -> None:
    result = terminal.run("ls")

    assert result.code == 0
    assert result.out.strip() == f"No runs under {terminal.root}."


def test_runs_are_listed_with_what_people_compare(two_runs: Terminal) -> None:
    train, branch = rows_of(two_runs.run("ls"))

    assert (train["STATUS"], train["MODEL"], train["DATA"], train["BRANCH"]) == (
        "complete",
        "digits_lenet_16",
        "digits",
        "-",
    )
    assert (branch["STATUS"], branch["MODEL"], branch["STRATEGY"]) == ("complete", "digits_lenet_16", "snip1")
    assert branch["SPARSITY"].endswith("%")
    assert 89 < float(branch["SPARSITY"].rstrip("%")) < 91
    assert train["ACCURACY"].endswith("%")


def test_where_chooses_by_columns_hyperparameters_and_results(two_runs: Terminal) -> None:
    def found(where: str) -> list[str]:
        return [row["branch"] for row in json.loads(two_runs.run("ls", f"--where={where}", "--json").out)]

    assert found("status=complete") == ["", "oneshot"]
    assert found("strategy=snip1") == ["oneshot"]
    assert found("strategy=snip1,status=incomplete") == []
    assert found("lr=0.1") == found("lr=1e-1") == ["", "oneshot"]
    assert found("model=digits_lenet_16,batch_size=256") == ["", "oneshot"]
    assert found("prune_fraction=0.9") == ["oneshot"]
    assert found("lr=0.2") == []


def test_nothing_found_says_so(two_runs: Terminal) -> None:
    assert "No runs under" in two_runs.run("ls", "--where=lr=0.2").out


def test_json_holds_every_hyperparameter_and_result(two_runs: Terminal) -> None:
    train, branch = json.loads(two_runs.run("ls", "--json").out)

    assert train["hyperparameters"]["lr"] == 0.1
    assert branch["hyperparameters"]["strategy"] == "snip1"
    assert branch["hyperparameters"]["lr"] == 0.1
    assert 0 <= train["results"]["test_accuracy"] <= 1
    assert branch["results"]["density"] == pytest.approx(1 - branch["sparsity"])


def test_a_run_that_was_cut_off_is_incomplete(terminal: Terminal) -> None:
    terminal.run("branch", "train", "oneshot", *SHORT, "--strategy=magnitude")

    assert [row["STATUS"] for row in rows_of(terminal.run("ls"))] == ["incomplete", "complete"]


def test_a_run_under_way_is_running(terminal: Terminal) -> None:
    running = terminal.start("train", *LENET, "--training_steps=20000ep", "--evaluate_only_at_end")
    running.wait_for("ep 0 it 0")

    rows = rows_of(terminal.run("ls"))
    running.kill()

    assert [row["STATUS"] for row in rows] == ["running"]
    assert [row["STATUS"] for row in rows_of(terminal.run("ls"))] == ["incomplete"]


def test_a_damaged_run_is_listed_as_damaged_and_the_others_as_they_are(own_two_runs: Terminal) -> None:
    (own_two_runs.where("train", *SHORT) / "description.json").write_text("{")

    assert [row["STATUS"] for row in rows_of(own_two_runs.run("ls"))] == ["damaged", "complete"]


def test_folders_that_are_no_runs_are_passed_over(own_two_runs: Terminal) -> None:
    folder = own_two_runs.where("train", *SHORT)
    (own_two_runs.root / "train_notes.txt").write_text("")
    for name in ("replicate_old", "replicate_1.bak"):
        (folder.parent.parent / name / "main").mkdir(parents=True)
        (folder.parent.parent / name / "main" / "description.json").write_text("{}")
    for name in (".removed_main", "main copy"):
        (folder.parent / name).mkdir()
        (folder.parent / name / "description.json").write_text("{}")

    result = own_two_runs.run("ls")

    assert result.code == 0, result.err
    assert len(rows_of(result)) == 2


def test_a_run_is_shown_by_any_unique_beginning_of_its_address(two_runs: Terminal) -> None:
    digest = json.loads(two_runs.run("ls", "--json").out)[0]["digest"]

    for address in (digest, digest[:8], f"{digest[:8]}/1", f"train_{digest[:6]}", f"train_{digest}/replicate_1/main"):
        result = two_runs.run("show", address)
        assert result.code == 0, result.err
        assert f"train_{digest}/replicate_1/main" in result.out


def test_an_address_that_may_mean_several_runs_is_refused_with_them(terminal: Terminal) -> None:
    for replicate in (1, 2):
        terminal.run("train", *SHORT, f"--replicate={replicate}", "--training_steps=0it")
    digest = json.loads(terminal.run("ls", "--json").out)[0]["digest"]

    terminal.run("show", digest[:8]).assert_is_for_people(2, f"{digest[:8]}/1, {digest[:8]}/2")
    assert terminal.run("show", f"{digest[:8]}/2").code == 0


def test_showing_a_branch_tells_layers_results_and_files(two_runs: Terminal) -> None:
    result = two_runs.run("show", "branch_oneshot")

    for words in (
        "fc_layers.0.weight",
        "requested",
        "test_accuracy",
        "mask.safetensors",
        "strategy",
        "torch",
        "collapsed",
        "multiply-adds",
    ):
        assert words in result.out


def test_showing_as_json_holds_the_report_on_the_mask(two_runs: Terminal) -> None:
    shown = json.loads(two_runs.run("show", "branch_oneshot", "--json").out)

    assert shown["sparsity_report"]["achieved"]["kept"] == shown["sparsity_report"]["requested"]["kept"]


def test_looking_changes_no_byte(two_runs: Terminal) -> None:
    before = two_runs.files()
    for command in (("ls",), ("ls", "--json"), ("show", "train"), ("verify",), (*BRANCH, "--dry_run")):
        assert two_runs.run(*command).code == 0

    assert two_runs.files() == before


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Terminal:
    """A root with two lines of runs: a lottery of three levels with a branch of one, and a later training."""
    terminal = Terminal(tmp_path_factory.mktemp("family"), digits)
    lottery = (*SHORT, "--rewinding_steps=4it")
    for command in (
        ("lottery", *lottery, "--levels=3"),
        ("branch", "train", "oneshot", *SHORT, "--density=0.1"),
        ("branch", "lottery", "randomly_prune", *lottery, "--levels=2"),
        ("train", *SHORT, "--lr=0.2"),
    ):
        result = terminal.run(*command)
        assert result.code == 0, result.err
    return terminal


def listed(terminal: Terminal, *flags: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(terminal.run("ls", "--json", *flags).out)
    return entries


def kept(entry: dict[str, Any]) -> float:
    return round(100 - 100 * (entry["sparsity"] or 0))


def test_runs_are_listed_by_line_of_descent_and_level_and_the_newest_line_comes_first(family: Terminal) -> None:
    entries = listed(family)

    mains = [entry["hyperparameters"]["lr"] for entry in entries if not entry["branch"]]
    assert mains == [0.2, 0.1]
    assert [entry["branch"] == "" for entry in entries] == [True, True, *[False] * 5]
    # Each level after the one before it, the randomized mask right below its level, the sparser branch of main last.
    assert [kept(entry) for entry in entries[2:]] == [80, 64, 64, 51, 10]
    addresses = [row["ADDRESS"] for row in rows_of(family.run("ls"))]
    assert addresses == [entry["address"] for entry in entries]


def test_a_line_with_a_newer_run_moves_to_the_top(family: Terminal, tmp_path: Path) -> None:
    shutil.copytree(family.root, tmp_path / "copy")
    own = Terminal(tmp_path / "copy", family.datasets)

    assert own.run("branch", "train", "oneshot", *SHORT, "--density=0.3").code == 0

    assert [entry["hyperparameters"]["lr"] for entry in listed(own) if not entry["branch"]] == [0.1, 0.2]


def test_runs_are_sorted_by_a_column_a_hyperparameter_or_a_result(family: Terminal) -> None:
    ascending, descending = (
        [entry["accuracy"] for entry in listed(family, f"--sort={key}")] for key in ("accuracy", "-accuracy")
    )

    assert ascending == sorted(ascending)
    assert descending == sorted(ascending, reverse=True)
    assert [entry["results"]["test_loss"] for entry in listed(family, "--sort=test_loss")] == sorted(
        entry["results"]["test_loss"] for entry in listed(family)
    )
    assert listed(family, "--sort=-lr")[0]["hyperparameters"]["lr"] == 0.2
    assert {entry["branch"] for entry in listed(family, "--sort=-sparsity")[-2:]} == {""}


@pytest.mark.parametrize("flag", ["--sort=acuracy", "--sort=-acuracy", "--where=acuracy=1"])
def test_a_key_that_no_run_has_is_refused(family: Terminal, flag: str) -> None:
    name = flag.partition("=")[0]

    family.run("ls", flag).assert_is_for_people(2, f"{name}: no run has a 'acuracy'. Did you mean 'accuracy'?")
