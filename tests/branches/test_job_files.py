from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from branches.desc import BranchDesc
from branches.job_files import read_job_file, write_job_file
from foundations.description.desc import RunRef
from foundations.description.step import Step
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.plan import Target, plan
from tests.branches.small_branches import describe
from tests.training.small_runs import oneshot_desc, train_desc


def test_a_job_file_holds_the_run_and_all_that_it_draws_on(tmp_path: Path) -> None:
    parent = oneshot_desc("random", density=0.3)
    desc = describe("lottery_rewind", RunRef(parent), density=0.1, rewind_step="4it")
    made = plan([Target(desc, 2, (Step(7, 6),))], tmp_path)
    for planned in made:
        write_job_file(planned, tmp_path / "job.json")

        target = read_job_file(tmp_path / "job.json", tmp_path)

        assert target.desc == planned.desc
        assert target.desc.digest == planned.desc.digest
        assert target.desc.location(target.replicate) == planned.run.location
        assert set(target.keep) == planned.keep
        assert (target.is_complete, target.needs_mask) == (planned.is_target, planned.needs_mask)
    assert len(made.to_do()) == 3
    assert isinstance(desc, BranchDesc)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: tree.pop("records"),
        lambda tree: tree["run"].__setitem__(0, "../../train_0"),
        lambda tree: tree["run"].__setitem__(1, "x"),
        lambda tree: tree["run"].__setitem__(1, "1/../../../x"),
        lambda tree: tree["run"].__setitem__(1, 1.5),
        lambda tree: tree["keep"].append("x"),
        lambda tree: tree["keep"].append(10**15),
        lambda tree: tree["keep"].append(math.inf),
        lambda tree: next(iter(tree["records"].values()))["hyperparameters"]["training"].update(lr=7.0),
        lambda tree: next(iter(tree["records"].values()))["canonical"].update(training={"lr": 7.0}),
    ],
)
def test_a_file_that_is_not_a_whole_job_file_is_refused(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "job.json"
    (planned,) = plan([Target(train_desc())], tmp_path)
    write_job_file(planned, path)
    tree = json.loads(path.read_text())
    damage(tree)  # type: ignore[operator]
    path.write_text(json.dumps(tree))

    with pytest.raises(DamagedError):
        read_job_file(path, tmp_path)


def test_a_job_file_that_is_missing_is_an_error_of_the_environment(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"missing\.json"):
        read_job_file(tmp_path / "missing.json", tmp_path)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DamagedError, match="not a job file"):
        read_job_file(tmp_path / "list.json", tmp_path)
