"""--keep_best, and branches and models of the best state."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from analysis.rows.run import open_run
from tests.cli.terminal import SHORT, Terminal

HELD_OUT = (*SHORT, "--lr=1.0", "--validation_examples=157")
ONESHOT = ("branch", "train", "oneshot", *HELD_OUT, "--strategy=random", "--density=0.5", "--state_step=best")


def test_the_best_state_is_kept_and_branches_and_models_start_from_it(terminal: Terminal) -> None:
    assert terminal.run("train", *HELD_OUT, "--keep_best").code == 0
    run = open_run(terminal.where("train", *HELD_OUT).parent.parent.name, terminal.root)
    best = run.best_step

    assert best is not None
    assert best in run.steps
    for name, tensor in run.model("best").state_dict().items():
        assert torch.equal(tensor, run.state(best)[name])

    assert terminal.run(*ONESHOT).code == 0
    folder = terminal.where(*ONESHOT)
    assert folder == terminal.where(*ONESHOT[:-1], f"--state_step={best}")
    assert json.loads((folder / "description.json").read_text())["sources"]["state"]["iteration"] == best.iteration
    by_address = ("branch", run.address, *ONESHOT[2:3], "--strategy=random", "--density=0.5", "--state_step=best")
    assert "reused" in terminal.run(*by_address).out


def test_a_best_state_that_is_not_known_is_refused(terminal: Terminal) -> None:
    terminal.run("train", *SHORT, "--keep_best").assert_is_for_people(2, "--validation_examples: no examples")
    terminal.run(*ONESHOT).assert_is_for_people(2, "--state_step:", "is not complete, so it has no best state")
    assert not terminal.files()


def test_all_levels_of_a_lottery_keep_their_best_state(terminal: Terminal) -> None:
    terminal.run("lottery", *SHORT, "--levels=1", "--keep_best").assert_is_for_people(2, "--validation_examples:")
    lottery = ("lottery", *HELD_OUT, "--levels=1")

    result = terminal.run(*lottery, "--keep_best")

    assert result.code == 0, result.err
    folders = terminal.run(*lottery, "--display_output_location").out.split()
    runs = [open_run(str(Path(folder).relative_to(terminal.root)), terminal.root) for folder in folders]
    assert len(runs) == 2
    assert all(run.best_step in run.steps for run in runs)
