from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.cli.terminal import SHORT, Terminal


def entries(terminal: Terminal) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(terminal.run("ls", "--json").out)
    return found


def address_of(terminal: Terminal, **wanted: object) -> str:
    found = [entry for entry in entries(terminal) if all(entry[key] == value for key, value in wanted.items())]
    assert len(found) == 1
    return str(found[0]["address"])


def test_a_run_is_branched_by_its_address_and_shown_with_its_line(own_two_runs: Terminal) -> None:
    parent = address_of(own_two_runs, branch="oneshot")
    before = {entry["address"] for entry in entries(own_two_runs)}

    result = own_two_runs.run("branch", parent, "oneshot", "--density=0.05", "--prune_step=3ep")

    assert result.code == 0, result.err
    (child,) = {entry["address"] for entry in entries(own_two_runs)} - before
    assert "95.0" in result.out
    shown = own_two_runs.run("show", parent).out
    assert child in shown.partition("Children")[2]
    assert parent in own_two_runs.run("show", child).out.partition("Line of descent")[2]


def test_a_branch_by_address_takes_the_replicate_of_its_parent(own_two_runs: Terminal) -> None:
    parent = address_of(own_two_runs, branch="oneshot")

    folder = own_two_runs.run("branch", parent, "retrain", "--retrain_lr=0.05", "--display_output_location").out

    assert "/replicate_1/branch_oneshot_" in folder


def test_a_ticket_travels_to_another_root_and_is_branched_there(own_two_runs: Terminal, tmp_path: Path) -> None:
    parent = address_of(own_two_runs, branch="oneshot")
    away = Terminal(tmp_path / "away", own_two_runs.datasets)
    ticket = str(tmp_path / "ticket.safetensors")

    assert own_two_runs.run("export", parent, ticket).code == 0
    assert away.run("import", ticket).code == 0
    imported = entries(away)[0]
    result = away.run("branch", imported["address"], "oneshot", "--density=0.05")

    assert result.code == 0, result.err
    assert imported["location"].startswith("import_")
    assert "sparsity:" in result.out


def test_a_file_of_weights_is_branched(own_two_runs: Terminal, tmp_path: Path) -> None:
    parent, file = address_of(own_two_runs, branch="oneshot"), str(tmp_path / "weights.safetensors")
    assert own_two_runs.run("export", parent, file, "--dense").code == 0

    imported = own_two_runs.run("import", file, "--weights", *SHORT)
    address = imported.out.partition(" as ")[2].split()[0]
    result = own_two_runs.run("branch", address, "oneshot", "--density=0.05")

    assert imported.code == result.code == 0, imported.err + result.err
    own_two_runs.run("import", file, "--weights", "--openlth").assert_is_for_people(2, "--openlth", "--weights")


def test_openlths_files_travel_too(own_two_runs: Terminal, tmp_path: Path) -> None:
    parent = address_of(own_two_runs, branch="oneshot")
    away = Terminal(tmp_path / "away", own_two_runs.datasets)

    assert own_two_runs.run("export", parent, str(tmp_path / "openlth"), "--openlth", "--step=0ep").code == 0
    result = away.run("import", str(tmp_path / "openlth"), "--openlth", *SHORT)

    assert result.code == 0, result.err
    assert entries(away)[0]["sparsity"] == next(e for e in entries(own_two_runs) if e["branch"])["sparsity"]


def test_a_damaged_ticket_and_a_missing_one_are_errors_for_people(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "ticket").write_bytes(b"no ticket")

    terminal.run("import", str(tmp_path / "ticket")).assert_is_for_people(1, "ticket", "damaged")
    terminal.run("import", str(tmp_path / "none")).assert_is_for_people(1, "no file")
    terminal.run("export", "abcdef", "x").assert_is_for_people(2, "abcdef")


def test_a_dataset_of_ones_own_is_added_trained_on_and_branched(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (400, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=images, labels=np.arange(400) % 4)
    own = Terminal(tmp_path / "root", tmp_path / "datasets")
    training = ("--batch_size=100", "--lr=0.1", "--training_steps=2ep")
    flags = ("--dataset_name=noise", "--model_name=digits_lenet_16", *training)

    added = own.run("datasets", "add", "noise", str(tmp_path / "noise.npz"))
    trained = own.run("train", *flags)
    branched = own.run("branch", "train", "oneshot", *flags, "--strategy=snip5", "--density=0.3")

    assert added.code == trained.code == branched.code == 0, added.err + trained.err + branched.err
    assert "noise" in own.run("datasets").out
    assert [entry["data"] for entry in entries(own)] == ["noise", "noise"]


def test_the_branches_are_listed_with_what_they_do(terminal: Terminal) -> None:
    listed = terminal.run("branch").out

    for name in ("oneshot", "lottery_rewind", "gmp", "transplant"):
        assert any(line.startswith(name) and len(line) > 40 for line in listed.splitlines())


def test_a_run_that_another_draws_on_is_not_removed_alone(own_two_runs: Terminal) -> None:
    parent = address_of(own_two_runs, branch="oneshot")
    own_two_runs.run("branch", parent, "oneshot", "--density=0.05", "--prune_step=3ep")

    own_two_runs.run("rm", parent, "--force").assert_is_for_people(2, "1 branch(es)", "--with_branches")

    assert own_two_runs.run("rm", parent, "--force", "--with_branches").code == 0
    assert [entry["branch"] for entry in entries(own_two_runs)] == [""]


def test_an_unknown_key_is_not_an_empty_list(two_runs: Terminal) -> None:
    two_runs.run("ls", "--where=modle=x").assert_is_for_people(2, "no run has a 'modle'. Did you mean 'model'?")
