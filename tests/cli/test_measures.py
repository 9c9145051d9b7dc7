"""The commands that list measures and measure runs."""

from __future__ import annotations

import json

import pytest

from analysis.measures.registry import MEASURES
from tests.cli.conftest import BRANCH
from tests.cli.terminal import SHORT, Terminal
from tests.cli.test_lightness import answers_of

SYNFLOW = ("measure", "unit_conservation", "train", "--strategy=synflow")


def test_measures_are_listed_with_what_they_take_and_their_paper(terminal: Terminal) -> None:
    lines = terminal.run("measures").out.splitlines()

    assert lines[0].split() == ["NAME", "TAKES", "MEASURES", "PAPER"]
    for each in MEASURES:
        assert any(line.startswith(f"{each.spelling} ") and each.takes in line and each.paper in line for line in lines)


def test_a_measurement_is_printed_with_its_numbers_and_where_it_is_kept(own_two_runs: Terminal) -> None:
    first, again = own_two_runs.run(*SYNFLOW), own_two_runs.run(*SYNFLOW)

    lines = first.out.splitlines()
    location = str(own_two_runs.where("train", *SHORT).relative_to(own_two_runs.root))
    assert lines[:2] == ["unit_conservation strategy=synflow prune_fraction=0.0", f"  {location} step=0it"]
    assert any(line.split() == ["correlation", "1"] for line in lines)
    assert any(line.split() == ["LAYER", "UNIT", "IN", "OUT"] for line in lines)
    assert lines[-1].startswith("computed, ")
    assert again.out == first.out.replace("computed, ", "reused, ")
    (kept,) = (own_two_runs.root / ".measures" / "unit_conservation").iterdir()
    assert lines[-1].endswith(f": {kept}")


def test_json_has_the_whole_result_of_each_run(own_two_runs: Terminal) -> None:
    branch = own_two_runs.where(*BRANCH).name

    results = json.loads(own_two_runs.run("measure", "effective_sparsity", branch, "train", "--json").out)

    assert [len(result["files"]) for result in results] == [1, 0]
    assert results[0]["values"]["density"] == pytest.approx(0.1, abs=0.01)
    assert results[1]["values"]["density"] == 1
    assert results[0]["table"]["layer"] == ["fc_layers.0.weight", "fc.weight"]
    assert json.loads(own_two_runs.run("measure", "effective_sparsity", branch, "--json").out) == results[:1]


def test_a_measure_of_two_runs_has_one_result_for_both(own_two_runs: Terminal) -> None:
    branch = own_two_runs.where(*BRANCH).name

    (result,) = json.loads(own_two_runs.run("measure", "hamming_distance", branch, "train", "--json").out)

    assert [run["location"].rpartition("/")[2] for run in result["description"]["runs"]] == [branch, "main"]
    assert result["values"]["fraction"] == pytest.approx(0.9, abs=0.01)  # the training keeps everything


def test_removing_a_run_removes_what_measures_kept_of_it_and_nothing_else(own_two_runs: Terminal) -> None:
    branch = own_two_runs.where(*BRANCH).name
    own_two_runs.run("measure", "effective_sparsity", branch, "train")
    own_two_runs.run("measure", "hamming_distance", branch, "train")
    kept = own_two_runs.root / ".measures"
    (kept / "hamming_distance" / "torn.json").write_text("{")

    removed = own_two_runs.run("rm", branch, "--force")

    assert removed.out.splitlines()[-1] == "Removed 2 result(s) of measures."
    (left,) = (kept / "effective_sparsity").iterdir()
    assert branch not in left.read_text()
    assert [path.name for path in (kept / "hamming_distance").iterdir()] == ["torn.json"]


def test_missing_states_are_computed_if_asked_and_a_long_table_is_shortened(own_two_runs: Terminal) -> None:
    command = ("measure", "lottery_layer_conservation", "train", "--steps=0it-18it@1it")

    missing, replayed, later = (own_two_runs.run(*command, *more) for more in ((), ("--replay",), ()))

    missing.assert_is_for_people(2, "--step", "did not keep its state at 1it")
    assert "first_slope" in replayed.out
    assert "... 8 more rows" in replayed.out  # two layers at 19 steps
    assert "reused, " in later.out


def test_the_help_of_a_measure_has_its_options(two_runs: Terminal) -> None:
    shown = two_runs.run("measure", "synaptic_flow_ratio", "--help").out
    snip = two_runs.run("measure", "layer_conservation", "--strategy=snip1", "--help").out

    assert "--exponents TEXT" in shown
    assert "largest ratio of what an iteration of SynFlow cuts" in shown
    assert "--datasets_root TEXT" in shown
    assert "--score_in_eval_mode" in snip
    assert "--score_in_eval_mode" not in two_runs.run("measure", "layer_conservation", "--help").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("measure",), ("takes a name",)),
        (("measure", "unit_conservation"), ("takes addresses",)),
        (("measure", "unit_conversation", "train"), ("Did you mean 'unit_conservation'",)),
        (("measure", "unit_conservation", "nothing"), ("No run under",)),
        (("measure", "path_kernel_trace", "train", "--steps=0it"), ("no flag --steps", "--step")),
        (("measure", "path_kernel_trace", "train", "--step=1it"), ("did not keep its state at 1it",)),
        (("measure", "path_kernel_trace", "train", "--step=1"), ("--step", "is not a step")),
        (("measure", "unit_conservation", "train", "--strategy=snap"), ("--strategy", "Did you mean")),
        (("measure", "unit_conservation", "train", "--strategy=phew"), ("--strategy", "without scores")),
        (("measure", "unit_conservation", "train", "--score_in_eval_mode"), ("strategy=snipN",)),
        (("measure", "unit_conservation", "train", "--device=abacus"), ("--device",)),
        (("measure", "mask_overlap", "train"), ("takes two runs, not 1",)),
        (("measure", "mask_overlap", "train", "train"), ("has a mask",)),
        (("measure", "sgd_stability", "train", "train"), ("in the same order",)),
        (("measure", "kernel_maps", "train"), ("has no convolutions",)),
        (("measure", "linear_mode_connectivity", "train", "train", "--points=1"), ("--points", "at least 2")),
    ],
)
def test_mistakes_are_explained(two_runs: Terminal, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    two_runs.run(*arguments).assert_is_for_people(2, *words)


def test_a_run_that_is_not_complete_is_refused(terminal: Terminal) -> None:
    assert terminal.run("branch", "train", "oneshot", *SHORT, "--strategy=synflow").code == 0  # leaves the first state

    assert terminal.run(*SYNFLOW).code == 0
    for name in ("effective_sparsity", "lottery_layer_conservation"):
        terminal.run("measure", name, "train").assert_is_for_people(1, "is incomplete", "Run its command again")


def test_listing_and_reusing_import_no_torch(own_two_runs: Terminal) -> None:
    assert own_two_runs.run(*SYNFLOW).code == 0

    for arguments, code, out, heavy in answers_of(own_two_runs, [["measures"], SYNFLOW, ["measure", "--help"]]):
        assert (code, heavy) == (0, []), (arguments, out)
