"""A training whose loss is no longer finite is reported, with its step and what was active, and marked in tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.rows.runs import read_rows
from analysis.tables.table import results_table
from cli.commands.listing import listed
from cli.display.summaries import measured
from foundations.metrics import METRICS, has_diverged
from foundations.reporter import NullReporter
from tests.training.small_runs import context, train_desc
from training.hparams import TechniquesHparams
from training.jobs.compute import complete


class Lines(NullReporter):
    """Keeps what a job says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    @property
    def of_divergence(self) -> list[str]:
        return [line for line in self.said if "not finite" in line]


@pytest.mark.parametrize(
    ("technique", "active"),
    [
        ({"technique": "srste", "srste_lambda": 1e30}, "lr=0.1, technique=srste, srste_lambda=1e+30"),
        ({"technique": "topkast", "topkast_density": 0.2, "topkast_l2": 1e30}, "topkast_l2=1e+30"),
    ],
)
def test_a_loss_that_is_not_finite_is_reported_once_with_its_step_and_what_was_active(
    technique: dict[str, Any], active: str, tmp_path: Path, digits: Path
) -> None:
    lines = Lines()
    desc = replace(train_desc(), techniques=TechniquesHparams.of(technique))

    run = complete(desc, context(tmp_path, digits, reporter=lines)).run

    (said,) = lines.of_divergence
    assert "train_loss is not finite (nan) from step " in said
    assert "it on: the training has diverged, with optimizer_name=sgd" in said
    assert active in said
    (row,) = read_rows(tmp_path)
    assert row.has_diverged
    note = f"Diverged, the loss is not a finite number and accuracies mean little: {row.address}."
    assert note in listed([row], (), None).splitlines()
    assert note in results_table(root=tmp_path).notes
    assert (run.path("log.txt")).read_text().count("has diverged") == 1


def test_a_training_with_finite_losses_says_nothing_of_the_kind(tmp_path: Path, digits: Path) -> None:
    lines = Lines()

    complete(train_desc(), context(tmp_path, digits, reporter=lines))

    assert not lines.of_divergence
    (row,) = read_rows(tmp_path)
    assert not row.has_diverged


def test_the_accuracy_of_a_run_that_diverged_is_marked() -> None:
    accuracy = METRICS.find("accuracy")

    assert measured(accuracy, {"test_accuracy": 0.1, "test_loss": None}) == "10.00% (diverged)"
    assert measured(accuracy, {"test_accuracy": 0.1, "test_loss": 2.0}) == "10.00%"
    assert measured(accuracy, {"density": 0.5}) == ""


def test_results_without_a_loss_have_not_diverged() -> None:
    assert not has_diverged({"density": None, "test_accuracy": 0.5})
    assert has_diverged({"test_loss": None, "test_accuracy": 0.5})
