from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from branches.kinds import load_desc
from branches.lottery.randomly_prune import RANDOMLY_PRUNE
from branches.lottery.randomly_reinitialize import RANDOMLY_REINITIALIZE
from branches.named.branch import Branch
from branches.openlth.experiment import ImportedRun, import_experiment, log_of
from branches.openlth.files import export_openlth
from branches.openlth.log import read_log, read_metrics
from foundations.description.desc import Desc, RunRef, StateOf
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.storage.run import Run
from foundations.storage.store import all_runs
from pruning.hparams import PruningHparams
from tests.branches.openlth_directory import (
    OF_LOTTERY,
    OF_REWOUND_LOTTERY,
    OF_TRAINING,
    lottery,
    write_logger,
    write_lottery,
)
from tests.branches.small_branches import Counter, branch, mask_of
from tests.training.small_runs import context, oneshot_desc, run_of, train_desc
from training.context import Context
from training.desc import TrainDesc
from training.jobs.compute import complete

LAST = 2


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> tuple[Path, dict[int, Run]]:
    """A lottery as OpenLTH wrote it, and the runs of ours that it was made of, by level."""
    folder = tmp_path_factory.mktemp("openlth") / "lottery_23b644efaef60c49ca88fc5e37e2595a"
    return folder, write_lottery(folder, context(tmp_path_factory.mktemp("runs"), digits), LAST)


def imported(folder: Path, place: Context) -> list[ImportedRun]:
    log = log_of(folder)
    assert log is not None
    return import_experiment(folder, TrainDesc.of(log.training), log, place)


def test_every_level_comes_with_its_states_mask_metrics_and_hyperparameters(
    experiment: tuple[Path, dict[int, Run]], tmp_path: Path, digits: Path
) -> None:
    folder, ours = experiment

    found = imported(folder, context(tmp_path, digits))

    assert [(each.replicate, each.level) for each in found] == [(1, 0), (1, 1), (1, 2)]
    start, end = train_desc().step("4it"), train_desc().end
    for each in found:
        own, theirs = ours[each.level or 0], each.run
        for step in (start, end):
            expected, state = own.load_state(step), theirs.load_state(step)
            assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
        assert theirs.metrics().last("test_accuracy") == own.metrics().last("test_accuracy")
        mine, other = own.manifest(), theirs.manifest()
        assert mine is not None
        assert other is not None
        assert other.results["test_accuracy"] == mine.results["test_accuracy"]
        if each.level:
            assert mask_of(theirs) == mask_of(own)
            assert other.results["sparsity"] == mine.results["sparsity"]
            record = own.record()["hyperparameters"], theirs.record()["hyperparameters"]
            assert record[0]["pruning"] == record[1]["pruning"]
            assert record[0]["branch"] == record[1]["branch"]
    assert found[0].run.load_state(train_desc().start)["fc.weight"].shape == (10, 16)


def test_importing_again_finds_the_same_runs(
    experiment: tuple[Path, dict[int, Run]], tmp_path: Path, digits: Path
) -> None:
    place = context(tmp_path, digits)
    first, second = (imported(experiment[0], place) for _ in range(2))
    assert [str(each.run) for each in first] == [str(each.run) for each in second]


def test_a_level_is_a_parent_of_branches_like_any_other(
    experiment: tuple[Path, dict[int, Run]], tmp_path: Path, digits: Path
) -> None:
    folder, ours = experiment
    place, other = context(tmp_path, digits), context(ours[LAST].root, digits)
    level = imported(folder, place)[LAST].run

    flags = {"prune_step": "18it", "state_step": "4it", "start_step": "4it", "density": 0.1}
    of_theirs, of_ours = branch(place, "oneshot", level, **flags), branch(other, "oneshot", ours[LAST], **flags)

    assert mask_of(of_theirs.run) == mask_of(of_ours.run)
    assert load_desc(of_theirs.run).main.digest == load_desc(level).main.digest


def test_a_level_that_is_not_finished_is_left_out_and_named(
    experiment: tuple[Path, dict[int, Run]], tmp_path: Path, digits: Path
) -> None:
    folder = tmp_path / "lottery_x"
    shutil.copytree(experiment[0], folder)
    (folder / "replicate_1" / "level_2" / "main" / "model_ep3_it0.pth").unlink()
    (folder / "replicate_1" / "level_1" / "lottery_branch_retrain_722d7815").mkdir()
    heard = Counter()

    found = imported(folder, context(tmp_path / "runs", digits, reporter=heard))

    assert [each.level for each in found] == [0, 1]
    assert any("lottery_branch_retrain" in line and "did not end" in line for line in heard.said)
    assert any("level_2" in line and "did not end" in line for line in heard.said)


def test_branches_of_levels_are_branches_of_what_their_files_show(
    experiment: tuple[Path, dict[int, Run]], tmp_path: Path, digits: Path
) -> None:
    folder, place = tmp_path / "lottery_x", context(experiment[1][0].root, digits)
    shutil.copytree(experiment[0], folder)
    made = lottery(LAST)
    level = made.as_parent(dict(made.levels(LAST))[1])

    def describe(found: Branch, **flags: Any) -> Desc:
        return found.describe(level, PruningHparams(), found.flags.of(flags))

    branches = {
        "randomly_prune_722d7815": describe(RANDOMLY_PRUNE),
        "randomly_prune_0e": describe(RANDOMLY_PRUNE, randomize="identity"),
        "randomly_reinitialize_1f": describe(RANDOMLY_REINITIALIZE),
    }
    runs = [complete(desc, place).run for desc in branches.values()]
    for name, run in zip(branches, runs, strict=True):
        out = folder / "replicate_1" / "level_1" / f"lottery_branch_{name}"
        for step in run.kept_states(6):
            export_openlth(run, step, out)
        write_logger(run, out)

    found = imported(folder, context(tmp_path / "runs", digits))

    assert [(each.level, each.branch) for each in found] == [
        *((0, None), (1, None)),
        *((1, f"lottery_branch_{name}") for name in ("randomly_prune", "randomly_prune", "randomly_reinitialize")),
        (2, None),
    ]
    loaded: list[Any] = [load_desc(each.run) for each in found[:5]]
    dense, parent, same, permuted, redrawn = loaded
    for run, theirs in zip((runs[1], runs[0], runs[2]), found[2:5], strict=True):
        assert mask_of(run) == mask_of(theirs.run)
        assert run.metrics().last("test_accuracy") == theirs.run.metrics().last("test_accuracy")
    for desc in (same, permuted, redrawn):
        assert desc.main == dense
        assert desc.mask is not None
        assert desc.mask.run.desc.digest == parent.digest
        assert desc.start == train_desc().step("4it")
    assert same.state == permuted.state == StateOf(RunRef(dense), train_desc().step("4it"))
    assert redrawn.state is None
    assert [desc.branch.randomize_layerwise for desc in (same, permuted, redrawn)] == [False, True, False]


def test_a_branch_of_the_fork_is_imported_with_its_training(tmp_path: Path, digits: Path) -> None:
    place, folder = context(tmp_path / "runs", digits), tmp_path / "train_x"
    main, oneshot = complete(train_desc(), place).run, complete(oneshot_desc("random", density=0.3), place).run
    for run, name in ((main, "main"), (oneshot, "train_branch_oneshot_experiments_8df967e2afc55058b744b4c1f8dab80d")):
        for step in run.kept_states(6):
            export_openlth(run, step, folder / "replicate_1" / name)
        write_logger(run, folder / "replicate_1" / name)
    (folder / "replicate_1" / "main" / "hparams.log").write_text(OF_TRAINING)

    dense, theirs = imported(folder, context(tmp_path / "away", digits))

    desc: Any = load_desc(theirs.run)
    manifest = theirs.run.manifest()
    assert manifest is not None
    assert theirs.branch == desc.origin.name == "train_branch_oneshot_experiments"
    assert desc.state == StateOf(RunRef(load_desc(dense.run)), train_desc().start)
    assert desc.mask is None
    assert mask_of(theirs.run) == mask_of(oneshot)
    assert manifest.results["density"] == pytest.approx(0.3, abs=1e-3)


def test_a_training_of_several_replicates_is_imported_under_their_numbers(tmp_path: Path, digits: Path) -> None:
    place, folder = context(tmp_path / "runs", digits), tmp_path / "train_71bc92a970b64a76d7ab7681764b0021"
    for replicate in (1, 2):
        own = replace(place, replicate=replicate)
        run, out = complete(train_desc(), own).run, folder / f"replicate_{replicate}" / "main"
        for step in (train_desc().start, train_desc().end):
            export_openlth(run, step, out)
        write_logger(run, out)
        (out / "hparams.log").write_text(OF_TRAINING)

    found = imported(folder, context(tmp_path / "away", digits))

    assert [(each.replicate, each.level) for each in found] == [(1, None), (2, None)]
    accuracies = [each.run.metrics().last("test_accuracy") for each in found]
    runs = [run_of(train_desc(), replace(place, replicate=replicate)) for replicate in (1, 2)]
    assert accuracies == [run.metrics().last("test_accuracy") for run in runs]


def test_a_log_is_read_into_this_projects_hyperparameters(tmp_path: Path) -> None:
    path = tmp_path / "hparams.log"
    text = OF_REWOUND_LOTTERY + "\n    * milestone_steps => 1ep,2ep\n    * gamma => 0.1\n    * apex_fp16 => True"
    path.write_text(text.replace("    * batch_size => 256\n", "    * batch_size => 256\n    * subset_stride => 1\n"))

    log = read_log(path)

    assert log.training["precision"] == "fp16"
    assert (log.training["lr"], log.training["batch_size"], log.training["gamma"]) == (0.1, 256, 0.1)
    assert log.pruning == {"strategy": "magnitude", "pruning_layers_to_ignore": "fc.weight"}
    assert log.pruning_fraction == 0.5
    assert log.start_step == "4it"
    assert not log.rewinds  # its rewinding has no milestones
    path.write_text(OF_REWOUND_LOTTERY)
    assert read_log(path).rewinds


def test_what_cannot_be_read_is_named(tmp_path: Path, digits: Path) -> None:
    log, logger = tmp_path / "hparams.log", tmp_path / "logger"
    log.write_text("nothing of the kind")
    logger.write_text("test_loss,0")
    with pytest.raises(DamagedError, match="names no dataset"):
        read_log(log)
    with pytest.raises(DamagedError, match="logger"):
        read_metrics(logger)
    log.write_text(OF_TRAINING.replace("digits\n", "digits\n    * subset_start => 5\n"))
    with pytest.raises(EnvironmentFailure, match="sets subset_start to 5"):
        read_log(log)
    log.write_text(OF_TRAINING)
    (tmp_path / "train_x" / "replicate_1" / "main").mkdir(parents=True)
    log.rename(tmp_path / "train_x" / "replicate_1" / "main" / "hparams.log")
    with pytest.raises(EnvironmentFailure, match="no finished run"):
        imported(tmp_path / "train_x", context(tmp_path / "runs", digits))
    (tmp_path / "lottery_x" / "replicate_1").mkdir(parents=True)
    with pytest.raises(EnvironmentFailure, match=r"no hparams\.log in"):
        log_of(tmp_path / "lottery_x")


def test_a_pretraining_of_another_kind_becomes_a_run_of_its_own(
    experiment: tuple[Path, dict[int, Run]], tmp_path: Path, digits: Path
) -> None:
    folder = tmp_path / "lottery_x"
    shutil.copytree(experiment[0], folder)
    log = folder / "replicate_1" / "level_0" / "main" / "hparams.log"
    before, after = OF_REWOUND_LOTTERY.split("Pretraining Training Hyperparameters")
    log.write_text(f"{before}Pretraining Training Hyperparameters{after.replace('lr => 0.1', 'lr => 0.05', 1)}")

    place = context(tmp_path / "runs", digits)
    found = imported(folder, place)

    dense, level = found[0].run, found[1].run
    start = train_desc().step("4it")
    assert load_desc(level).start == start
    assert not dense.has_state(train_desc().start)
    others = [run for run in all_runs(place.root) if run.location not in [each.run.location for each in found]]
    (pretraining,) = others
    assert pretraining.record()["hyperparameters"]["training"]["lr"] == 0.05
    assert pretraining.kept_states(6) == [train_desc().start, start]


@pytest.mark.parametrize("setting", ["lr => 0.x1", "batch_size => 1e400", "pruning_fraction => much"])
def test_a_setting_that_should_be_a_number_is_refused_with_its_name(tmp_path: Path, setting: str) -> None:
    name = setting.partition(" ")[0]
    lines = OF_LOTTERY.splitlines()
    text = "\n".join(f"    * {setting}" if f"* {name} " in line else line for line in lines)
    (tmp_path / "hparams.log").write_text(text)

    with pytest.raises(DamagedError, match=rf"hparams\.log sets {name}"):
        read_log(tmp_path / "hparams.log")
