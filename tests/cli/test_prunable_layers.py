"""Jobs of networks with layers that are not pruned by default, or with weights computed from others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal

FAMILY = """
from open_prune import Family, Recipe


def build(spec):
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.fc = nn.LSTM(spec.input_shape[2], 20, batch_first=True), LINEAR

        def forward(self, x):
            return self.fc(self.lstm(x[:, 0])[0][:, -1])

    return Net()


NET = Family(spelling="row_lstm", builder=build, source="a test", options=frozenset(), batchnorm=False)
RECIPE = Recipe.of_family(NET, {"dataset_name": "digits", "batch_size": 64, "training_steps": "3it", "lr": 0.1})
"""
LINEAR = "nn.Linear(20, spec.outputs)"


def job_of(folder: Path, linear: str = LINEAR) -> tuple[str, ...]:
    file = folder / "row_lstm.py"
    file.write_text(FAMILY.replace("LINEAR", linear))
    return ("branch", "train", "oneshot", f"--plugin={file}", "--default_hparams=row_lstm", "--threads=1")


def test_a_job_names_what_is_not_prunable_and_so_does_its_report(terminal: Terminal, tmp_path: Path) -> None:
    job = (*job_of(tmp_path), "--strategy=snip1", "--density=0.2")
    result = terminal.run(*job)
    assert result.code == 0
    assert "lstm: 2,240 of 2,440 weights are not prunable by default" in result.out
    assert "--prunable_layers='all,LSTM'" in result.out
    report = json.loads((terminal.where(*job) / "sparsity.json").read_text())
    assert (report["total"], report["not_prunable"]) == (200, {"lstm": 2240})


@pytest.mark.parametrize("strategy", ["snip1", "grasp1", "fisher1", "synflow", "magnitude"])
def test_layers_that_are_asked_for_are_pruned_and_nothing_is_left_out(
    terminal: Terminal, tmp_path: Path, strategy: str
) -> None:
    job = (*job_of(tmp_path), f"--strategy={strategy}", "--density=0.2", "--prunable_layers=LSTM,all")
    result = terminal.run(*job)
    assert result.code == 0, result.err
    assert "not prunable" not in result.out
    report = json.loads((terminal.where(*job) / "sparsity.json").read_text())
    assert (report["total"], report["achieved"]["kept"]) == (2440, 488)
    assert "not_prunable" not in report
    assert terminal.where(*job) == terminal.where(*job[:-1], "--prunable_layers=all,LSTM")


def test_a_name_of_no_layer_is_refused_before_anything_is_computed(terminal: Terminal, tmp_path: Path) -> None:
    refused = terminal.run(*job_of(tmp_path), "--prune_step=2it", "--prunable_layers=all,lstn")
    refused.assert_is_for_people(2, "--prunable_layers", "'lstn' is not a layer of Net", "Did you mean 'lstm'")
    assert not list(terminal.root.rglob("description.json"))


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("norm", ["torch.nn.utils.weight_norm", "torch.nn.utils.parametrizations.weight_norm"])
def test_a_layer_with_weight_norm_is_pruned_and_trains_with_its_mask(
    terminal: Terminal, tmp_path: Path, norm: str
) -> None:
    job = (*job_of(tmp_path, f"{norm}({LINEAR})"), "--strategy=snip1", "--density=0.2")
    assert terminal.run(*job).code == 0
    report = json.loads((terminal.where(*job) / "sparsity.json").read_text())
    assert (report["total"], report["achieved"]["kept"]) == (200, 40)
    state = terminal.python(
        "from open_prune import open_run, load_plugins\n"
        f"load_plugins([{str(tmp_path / 'row_lstm.py')!r}])\n"
        f"run = open_run({terminal.where(*job).name.rpartition('_')[2]!r})\n"
        "model = run.model(); model.eval()\n"
        "import torch; model(torch.ones(1, 1, 8, 8))\n"
        "print(int(model.fc.weight.count_nonzero()))"
    )
    assert state.out.strip() == "40", state.err


def test_another_parametrization_is_refused_by_the_line_that_removes_it(terminal: Terminal, tmp_path: Path) -> None:
    job = job_of(tmp_path, f"torch.nn.utils.parametrizations.orthogonal({LINEAR})")
    terminal.run(*job, "--density=0.2").assert_is_for_people(2, "'fc.weight'", "remove_parametrizations")
