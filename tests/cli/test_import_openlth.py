from __future__ import annotations

import json
from pathlib import Path

from tests.branches.openlth_directory import write_lottery
from tests.cli.terminal import Terminal
from tests.training.small_runs import context

REWOUND = ("--density=0.1", "--prune_step=18it", "--state_step=4it", "--start_step=4it", "--quiet")


def test_a_whole_lottery_of_openlth_appears_in_ls_beside_new_runs(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "lottery_23b644efaef60c49ca88fc5e37e2595a"
    ours = write_lottery(folder, context(tmp_path / "ours", terminal.datasets), 2)
    results = [run.manifest().results for run in ours.values()]  # type: ignore[union-attr]

    result = terminal.run("import", "--openlth", str(folder))

    assert result.code == 0, result.err
    rows = [line.split() for line in result.out.splitlines() if line.startswith("1 ")]
    assert [row[1] for row in rows] == ["0", "1", "2"]
    entries = json.loads(terminal.run("ls", "--json").out)
    assert [entry["accuracy"] for entry in entries] == [each["test_accuracy"] for each in results]
    assert [entry["sparsity"] or 0.0 for entry in entries] == [each.get("sparsity", 0.0) for each in results]
    assert [entry["strategy"] for entry in entries] == [None, "magnitude", "magnitude"]
    assert {(entry["model"], entry["data"], entry["status"]) for entry in entries} == {
        ("digits_lenet_16", "digits", "complete")
    }
    level = json.loads(terminal.run("ls", "--json", "--where=level=2").out)
    child = terminal.run("branch", level[0]["address"], "oneshot", *REWOUND)
    assert child.code == 0, child.err
    assert terminal.run("verify").code == 0


def test_one_run_of_openlth_is_read_with_its_log_and_flags_override_it(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "lottery_x"
    write_lottery(folder, context(tmp_path / "ours", terminal.datasets), 1)
    main = folder / "replicate_1" / "level_1" / "main"

    as_logged = terminal.run("import", str(main), "--openlth")
    overridden = terminal.run("import", str(main), "--openlth", "--lr=0.05")

    assert as_logged.code == overridden.code == 0, as_logged.err + overridden.err
    entries = json.loads(terminal.run("ls", "--json").out)
    assert sorted(entry["hyperparameters"]["lr"] for entry in entries) == [0.05, 0.1]
    assert all(entry["accuracy"] is not None for entry in entries)
