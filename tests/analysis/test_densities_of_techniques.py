"""The density that each technique was asked for, and the one that it reached: in `sparsity.json`, `ls` and tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from analysis.rows.run_row import Row
from analysis.rows.runs import read_rows
from analysis.tables.table import TableOptions, level_text, make_table
from cli.commands.listing import listed
from foundations.description.desc import Desc
from tests.branches.small_branches import mask_of
from tests.cli.terminal import Terminal
from tests.training.small_runs import context, oneshot_desc
from tests.training.small_techniques import desc_of, flags_of
from training.jobs.compute import complete
from training.registry import TECHNIQUES

MASKING = [each.spelling for each in TECHNIQUES if each.changes_mask or each.mask_is_outcome]
WHOLE_UNITS = {"srigl": 0.01, "gem_miner": 0.01}
"""Techniques that keep whole numbers of weights by unit or layer, and how far they may stay below a density."""
BRANCHES = ("srste", "topkast")
"""Techniques of branches here, too."""


@dataclass
class Computed:
    terminal: Terminal
    rows: dict[str, Row]
    """The row of a run of each technique; of a branch, by `branch <technique>`."""


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Computed:
    root = tmp_path_factory.mktemp("runs")
    descs: dict[str, Desc] = {technique: desc_of(technique) for technique in TECHNIQUES.spellings()}
    small = {"batch_size": 718, "training_steps": "2it"}
    options = {"topkast": {"topkast_refresh": "1it"}}
    descs |= {
        f"branch {name}": oneshot_desc("random", small, density=0.8, technique=name, **options.get(name, {}))
        for name in BRANCHES
    }
    for desc in descs.values():
        complete(desc, context(root, digits))
    found = {row.run.location: row for row in read_rows(root)}
    return Computed(Terminal(root, digits), {name: found[desc.location(1)] for name, desc in descs.items()})


@pytest.mark.parametrize("technique", MASKING)
def test_the_report_has_the_requested_and_the_achieved_density(technique: str, computed: Computed) -> None:
    row, declared = computed.rows[technique], TECHNIQUES.find(technique)
    report = row.run.sparsity()
    asked = flags_of(technique)[declared.density] if declared.density else None

    assert report is not None
    achieved, total = report["achieved"]["density"], report["total"]
    assert achieved == mask_of(row.run).density == row.results["density"]
    assert report.get("is_outcome", False) == declared.mask_is_outcome
    assert row.requested_density == asked
    if asked is not None:
        assert report["requested"]["density"] == pytest.approx(asked, abs=1 / total)
        assert -1 / total <= asked - achieved <= WHOLE_UNITS.get(technique, 1 / total)


@pytest.mark.parametrize("technique", [*MASKING, *(f"branch {name}" for name in BRANCHES)])
def test_lists_and_tables_have_both_and_name_an_outcome(technique: str, computed: Computed) -> None:
    row, name = computed.rows[technique], technique.removeprefix("branch ")
    sparsity, asked = row.sparsity or 0.0, row.requested_density
    wanted = "" if asked is None else f", where {1 - asked:.2%} was requested"
    note = f"The sparsity of {name} is an outcome: {sparsity:.2%}{wanted}."

    text = listed([row], (), None)
    found = make_table([row], TableOptions(rows="technique,requested_density,density", columns="data"))

    assert f"{sparsity:.2%}" in text
    assert (note in text) == (note in found.notes) == TECHNIQUES.find(name).mask_is_outcome
    assert ("is an outcome" in text) == (note in text)
    keys = [line.keys for line in found.lines]
    assert keys == [(name, *("-" if each is None else level_text("density", each) for each in (asked, 1 - sparsity)))]


def test_a_technique_without_a_mask_reports_none(computed: Computed) -> None:
    for technique in set(TECHNIQUES.spellings()) - {*MASKING, "bias_masks"}:
        row = computed.rows[technique]

        assert (row.run.sparsity(), row.sparsity, row.requested_density) == (None, None, None), technique


def test_a_run_is_shown_without_a_requested_density_where_nothing_asks_for_one(computed: Computed) -> None:
    free, asked = (computed.terminal.run("show", computed.rows[name].address).out for name in ("str", "edge_popup"))

    assert "requested" not in free
    assert "the outcome of training" in free
    assert "(requested " in asked
    assert "the outcome of training" in asked
