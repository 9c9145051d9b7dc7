from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import pytest
import torch

from analysis.rows.run import StoredRun, open_run
from branches.desc import BranchDesc
from datasets.loading.batches import LoaderConfig
from datasets.loading.loader import open_loader
from foundations.description.step import Step
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from foundations.storage.run import Run
from foundations.storage.store import short_address
from tests.analysis.conftest import Family
from tests.analysis.foreign import make_foreign
from tests.branches.small_branches import mask_of
from tests.training.small_runs import oneshot_desc, run_of, tensor_digests, train_desc
from training.desc import TrainDesc
from training.jobs.compute import ensure_states
from training.loop.evaluation import evaluate

END = train_desc().end


def opened(family: Family, run: Run) -> StoredRun:
    return open_run(str(run), family.root, family.datasets)


def same(state: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return set(state) == set(other) and all(torch.equal(tensor, other[name]) for name, tensor in state.items())


def test_a_training_is_opened_with_what_it_computed(family: Family) -> None:
    run = opened(family, family.training)

    assert (run.status, run.problem, run.replicate) == ("complete", "", 1)
    assert (run.digest, run.folder) == (train_desc().digest, family.training.folder)
    assert run.description == train_desc()
    assert (run.hyperparameters["lr"], run.hyperparameters["model_name"]) == (0.1, "digits_lenet_16")
    assert 0.5 < (run.results["test_accuracy"] or 0) <= 1
    assert run.manifest is not None
    assert run.manifest.results == run.results
    assert run.mask() is None
    assert run.sparsity_report is None
    assert run.parents == {}
    assert run.main == run


def test_a_run_is_opened_by_its_folder_or_its_location(family: Family) -> None:
    run = opened(family, family.training)

    for address in (run.folder, PurePath(run.folder), PurePath(str(run.location)), run.location):
        assert open_run(address, family.root).location == run.location


@pytest.mark.parametrize("address", [5, None, b"1a2b3c4d"])
def test_anything_but_an_address_is_refused_in_a_sentence(family: Family, address: Any) -> None:
    with pytest.raises(UsageError, match="address: it takes a text"):
        open_run(address, family.root)


def test_a_branch_is_opened_with_its_mask_its_levels_and_its_trainings_hyperparameters(family: Family) -> None:
    run = opened(family, family.branch)

    mask = run.mask()
    assert mask == mask_of(family.branch)
    assert run.sparsity_report is not None
    assert run.sparsity_report["achieved"]["kept"] == mask.kept
    assert run.results["density"] == pytest.approx(0.2, abs=1e-3)
    assert isinstance(run.description, BranchDesc)
    assert run.hyperparameters["strategy"] == "magnitude"
    assert run.hyperparameters["lr"] == 0.1
    assert run.main.location == family.training.location


def test_a_run_is_found_by_any_unique_prefix_of_its_address(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    location, address = family.branch.location, short_address(family.branch)
    monkeypatch.setenv("OPEN_PRUNE_ROOT", str(family.root))

    for text in (address, location.digest[:10], location.name, str(location), str(family.branch.folder)):
        assert open_run(text).location == location
    with pytest.raises(UsageError, match="No run under .* is named 'nothing'"):
        open_run("nothing")


def test_a_model_has_the_weights_of_a_kept_step_and_is_in_eval_mode(family: Family) -> None:
    run = opened(family, family.branch)

    assert run.steps == [END.at(0), END]
    for step in (None, "0it", "18it", "3ep", END):
        model = run.model(step)
        kept = run.state(step)
        assert same(model.state_dict(), kept)
        assert not model.training
        assert all(parameter.requires_grad for parameter in model.parameters())
    assert same(run.state(), family.branch.load_state(END))
    assert same(run.state("0it"), family.branch.load_state(END.at(0)))
    mask = run.mask()
    assert mask is not None
    assert all(torch.equal(run.state()[name] != 0, kept) for name, kept in mask.items())


def test_a_model_computes_what_the_run_measured(family: Family) -> None:
    run = opened(family, family.branch)
    loader = open_loader(train_desc().dataset, family.datasets, LoaderConfig(device=torch.device("cpu")))

    measured = evaluate(run.model(), loader.test_batches(), outputs=10)

    assert measured["test_accuracy"] == run.results["test_accuracy"]


def test_opening_a_model_leaves_torchs_generator_alone(family: Family) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    opened(family, family.branch).model()

    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("step", ["7it", END.at(7)])
def test_a_step_that_was_not_kept_is_an_error_that_lists_those_that_were(family: Family, step: Step | str) -> None:
    with pytest.raises(UsageError, match="did not keep its state at 7it; it kept 0it, 18it. With replay=True") as error:
        opened(family, family.branch).model(step)
    assert error.value.hparams == ("step",)


@pytest.mark.parametrize(
    ("step", "words"), [("x", "is not a step"), (Step(7, 5), "5 iterations an epoch"), ("19it", "choose 0it to 18it")]
)
def test_what_is_no_step_of_the_run_is_refused(own_family: Family, step: Step | str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        opened(own_family, own_family.branch).state(step, replay=True)


def test_a_replayed_step_has_the_bytes_of_one_that_was_kept(own_family: Family, tmp_path: Path) -> None:
    run = opened(own_family, own_family.branch)
    before = tensor_digests(own_family.branch)
    fresh = replace(own_family.context, root=tmp_path / "fresh")
    kept = ensure_states(run.description, fresh, [END.at(7)]).load_state(END.at(7))

    state = run.state("7it", replay=True)

    assert same(state, kept)
    assert run.steps == [END.at(0), END.at(7), END]
    assert same(run.model("7it").state_dict(), state)
    assert run.status == "complete"
    after = tensor_digests(own_family.branch)
    assert {name: after[name] for name in before} == before


def test_a_step_of_an_import_that_it_does_not_hold_cannot_be_replayed(own_family: Family) -> None:
    run = opened(own_family, own_family.imported)

    with pytest.raises(EnvironmentFailure, match="was imported, so a state that it does not hold cannot be computed"):
        run.state("7it", replay=True)

    assert run.steps == [END.at(0)]


def test_a_level_of_a_lottery_has_the_level_before_it_and_the_rewound_training_as_parents(family: Family) -> None:
    first, second = (opened(family, level) for level in family.levels)
    training = opened(family, family.training)

    assert second.parents == {"scored": first, "mask": first, "state": training}
    assert first.parents == {"scored": training, "state": training}
    assert first.children() == [second]
    assert second.children() == []
    assert set(training.children()) == {first, second, opened(family, family.branch)}
    assert second.description.sources()["state"].step == END.at(4)  # type: ignore[union-attr]
    assert second.steps == [END.at(4), END]
    before, after = first.mask(), second.mask()
    assert before is not None
    assert after is not None
    assert after.intersection(before) == after
    assert after.density == pytest.approx(0.64, abs=1e-3)


def test_an_import_is_opened_with_its_state_and_mask(family: Family) -> None:
    run = opened(family, family.imported)

    assert run.status == "complete"
    assert run.folder.parent.parent.name.startswith("import_")
    assert run.steps == [END.at(0)]
    assert same(run.state(), family.levels[1].load_state(END))
    assert same(run.model().state_dict(), run.state())
    assert run.mask() == mask_of(family.levels[1])
    assert isinstance(run.description, TrainDesc)
    assert run.results["sparsity"] == pytest.approx(0.36, abs=1e-3)
    assert run.metrics.values == {}
    assert len(run.metrics_frame()) == 0


def test_metrics_are_typed_and_a_table(family: Family) -> None:
    run = opened(family, family.levels[0])

    frame = run.metrics_frame()

    assert list(frame.columns) == ["name", "iteration", "epoch", "value"]
    assert {name: kind.kind for name, kind in frame.dtypes.items() if name != "name"} == {
        "iteration": "i",
        "epoch": "f",
        "value": "f",
    }
    rows = {(row.name, row.iteration): row.value for row in frame.itertuples(index=False)}
    assert rows == run.metrics.values == family.levels[0].metrics().values
    assert len(rows) > 4
    assert (frame.epoch == frame.iteration / 6).all()
    last = frame[frame.name == "test_accuracy"].value.iloc[-1]
    assert last == run.results["test_accuracy"]


def test_a_run_that_is_not_complete_is_opened_and_says_so(own_family: Family) -> None:
    run = run_of(oneshot_desc(density=0.4), own_family.context)
    ensure_states(oneshot_desc(density=0.4), own_family.context, [END.at(6)])

    found = opened(own_family, run)

    assert (found.status, found.results, found.manifest) == ("incomplete", {}, None)
    assert found.steps == [END.at(6)]
    assert found.hyperparameters["prune_fraction"] == pytest.approx(0.6)
    assert found.mask() is not None
    assert same(found.model().state_dict(), run.load_state(END.at(6)))


def test_a_damaged_state_is_an_error_that_names_the_file_and_the_way_to_mend_it(own_family: Family) -> None:
    path = own_family.branch.folder / Run.state_name(END)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    run = opened(own_family, own_family.branch)

    with pytest.raises(DamagedError, match=r"state_ep3_it0.safetensors is damaged(.|\n)*--mend"):
        run.model()
    assert same(run.state("0it"), own_family.branch.load_state(END.at(0)))


def test_a_damaged_description_is_told_by_the_status_and_raised_where_it_is_needed(own_family: Family) -> None:
    (own_family.branch.folder / "description.json").write_text("{")
    run = opened(own_family, own_family.branch)

    assert run.status == "damaged"
    assert "description.json is damaged" in run.problem
    for read in (lambda: run.description, lambda: run.hyperparameters, lambda: run.parents, run.model):
        with pytest.raises(DamagedError, match="description.json is damaged"):
            read()


def test_a_parent_that_is_gone_is_missing(own_family: Family) -> None:
    shutil.rmtree(own_family.training.folder)

    run = opened(own_family, own_family.branch)

    assert run.status == "complete"
    assert run.parents["state"].status == "missing"
    assert "There is no description.json" in run.parents["state"].problem


def test_a_description_that_cannot_be_read_back_leaves_the_rest_readable(own_family: Family) -> None:
    location = make_foreign(own_family.branch, kind="sparkle")
    run = open_run(location, own_family.root)

    assert (run.status, run.hyperparameters["strategy"]) == ("complete", "magnitude")
    assert "'sparkle' is not a kind of run" in run.problem
    with pytest.raises(DamagedError, match="cannot be read"):
        _ = run.description
    assert run.mask() == mask_of(own_family.branch)
    assert json.loads((run.folder / "description.json").read_text())["kind"] == "sparkle"
