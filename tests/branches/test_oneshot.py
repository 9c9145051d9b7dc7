from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foundations.description.desc import RunRef
from foundations.errors import DamagedError, UsageError
from foundations.files import sha256_of_file
from foundations.inputs import Inputs
from foundations.storage.upkeep import mend, verify
from models.build import build_model
from pruning.level import kept_of
from pruning.masks.mask import Mask
from tests.branches.small_branches import mask_of
from tests.training.small_runs import context, oneshot_desc, run_of, tensor_digests
from training.jobs.compute import complete

LAST = "state_ep3_it0.safetensors"


def test_magnitude_at_the_initialization_trains_no_parent(tmp_path: Path, digits: Path) -> None:
    desc, place = oneshot_desc("magnitude"), context(tmp_path, digits)

    complete(desc, place)

    parent = run_of(desc.main, place)
    assert [step.iteration for step in parent.kept_states(6)] == [0]
    assert parent.manifest() is None
    assert parent.metrics().values == {}


def test_a_state_in_the_middle_trains_the_parent_no_further(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc(state_step="7it", prune_step="4it")
    place = context(tmp_path, digits)

    complete(desc, place)

    parent = run_of(desc.main, place)
    assert [step.iteration for step in parent.kept_states(6)] == [4, 7]
    assert parent.manifest() is None


def test_a_state_that_a_complete_parent_did_not_keep_is_replayed(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc(state_step="7it", start_step="7it", prune_step="3ep")
    place = context(tmp_path, digits)
    before = tensor_digests(complete(desc.main, place).run)

    complete(desc, place)

    parent = run_of(desc.main, place)
    after = tensor_digests(parent)
    assert set(after) - set(before) == {"state_ep1_it1.safetensors"}
    assert {name: after[name] for name in before} == before
    assert verify(parent) == []


@pytest.mark.parametrize("strategy", ["magnitude", "random", "snip1"])
@pytest.mark.parametrize("level", [0.0, 0.5, 0.77, 0.99, 1.0])
def test_the_number_of_kept_weights_is_the_number_requested(
    tmp_path: Path, digits: Path, strategy: str, level: float
) -> None:
    desc = oneshot_desc(strategy, prune_fraction=level)
    outcome = complete(desc, context(tmp_path, digits))

    mask, report = mask_of(outcome.run), outcome.run.sparsity()
    assert report is not None
    assert mask.kept == report["achieved"]["kept"] == report["requested"]["kept"] == kept_of(mask.total, level)
    assert outcome.manifest.results["density"] == mask.density
    assert outcome.manifest.results["sparsity"] == 1 - mask.density


def test_the_report_of_a_branch_has_multiply_adds_and_the_statistics_of_its_scores(
    tmp_path: Path, digits: Path
) -> None:
    desc, place = oneshot_desc("magnitude", density=0.25), context(tmp_path, digits)

    report = complete(desc, place).run.sparsity()

    assert report is not None
    weights = run_of(desc.main, place).load_state(desc.main.start)
    for name, layer in report["layers"].items():
        scores = weights[name].double().abs()
        assert layer["scores"]["sum"] == layer["scores"]["abs_sum"] == pytest.approx(float(scores.sum()), rel=1e-12)
        assert layer["scores"]["variance"] == pytest.approx(
            float(scores.square().mean() - scores.mean() ** 2), rel=1e-9
        )
        assert layer["multiply_adds"] == {"total": layer["total"], "kept": layer["kept"]}  # all layers are linear
    assert report["multiply_adds"]["density"] == report["achieved"]["density"]


@pytest.mark.parametrize(
    "parent", [{}, {"optimizer_name": "adam", "lr": 0.01}, {"optimizer_name": "adamw", "lr": 0.01}]
)
def test_pruned_weights_are_zero_in_every_kept_state(tmp_path: Path, digits: Path, parent: dict[str, Any]) -> None:
    desc = oneshot_desc("random", {"model_name": "digits_resnet_8_8", **parent}, prune_fraction=0.9)
    run = complete(desc, context(tmp_path, digits), [desc.start.at(i) for i in range(19)]).run

    mask = mask_of(run)
    for step in run.kept_states(6):
        state = run.load_state(step)
        assert not any(state[name][~kept].any() for name, kept in mask.items())
        assert all(state[name][kept].all() for name, kept in mask.items())
    assert len(run.kept_states(6)) == 19


def test_training_starts_from_the_parents_state_under_the_mask(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc("magnitude", state_step="7it", start_step="7it", prune_step="3ep")
    place = context(tmp_path, digits)
    run = complete(desc, place).run

    parents, mask = run_of(desc.main, place).load_state(desc.start.at(7)), mask_of(run)
    for name, tensor in run.load_state(desc.start).items():
        expected = parents[name] * mask[name] if name in mask else parents[name]
        assert torch.equal(tensor, expected)


def test_training_runs_from_the_start_step_to_the_parents_end(tmp_path: Path, digits: Path) -> None:
    run = complete(oneshot_desc(start_step="7it"), context(tmp_path, digits)).run

    assert [step.iteration for step in run.kept_states(6)] == [7, 18]
    assert {iteration for _, iteration in run.metrics().values} == {12, 18}


def test_without_pruning_and_momentum_a_branch_repeats_its_parent(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc("magnitude", {"momentum": 0.0}, density=1, state_step="7it", start_step="7it")
    place = context(tmp_path, digits)
    parent = complete(desc.main, place).run

    run = complete(desc, place).run

    assert tensor_digests(run)[LAST] == tensor_digests(parent)[LAST]


def test_a_layerwise_shuffle_keeps_the_density_of_every_layer_and_other_weights(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    plain, shuffled = (
        mask_of(complete(oneshot_desc("magnitude", randomize_layerwise=shuffle), place).run)
        for shuffle in (False, True)
    )

    assert plain.kept_per_layer() == shuffled.kept_per_layer()
    assert plain != shuffled


def test_a_reinitialized_branch_keeps_the_mask_and_changes_the_weights(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    plain = complete(oneshot_desc("magnitude"), place).run
    new = complete(oneshot_desc("magnitude", reinitialize=True), place).run

    assert mask_of(plain) == mask_of(new)
    step = oneshot_desc().start
    assert not torch.equal(plain.load_state(step)["fc_layers.0.bias"], new.load_state(step)["fc_layers.0.bias"])


def test_a_seed_pins_what_replicates_would_draw_each_for_itself(tmp_path: Path, digits: Path) -> None:
    def mask(seed: int | None, replicate: int) -> Mask:
        return mask_of(complete(oneshot_desc("random", seed=seed), context(tmp_path, digits, replicate=replicate)).run)

    assert mask(5, 1) == mask(5, 2)
    assert mask(None, 1) != mask(None, 2)
    assert mask(5, 1) != mask(6, 1)


def test_the_manifest_names_the_parents_states_that_were_used(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc(state_step="7it", prune_step="4it")
    place = context(tmp_path, digits)
    outcome = complete(desc, place)

    parent = run_of(desc.main, place)
    names = ("state_ep0_it4.safetensors", "state_ep1_it1.safetensors")
    assert outcome.manifest.parents == {f"{parent}/{name}": sha256_of_file(parent.folder / name) for name in names}


def test_scores_leave_no_trace_in_the_state_to_train(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc("snip1", {"model_name": "digits_resnet_8_8"})
    place = context(tmp_path, digits)
    run = complete(desc, place).run

    fresh = build_model(desc.main.model, outputs=10, inputs=Inputs((1, 8, 8)), seed_keys=(1,)).state_dict()
    mask = mask_of(run)
    for name, tensor in run.load_state(desc.start).items():
        assert torch.equal(tensor, fresh[name] * mask[name] if name in mask else fresh[name])


# A branch as parent.


def test_a_branch_can_be_pruned_and_trained_on_from_another_branch(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    first = oneshot_desc("magnitude", density=0.5)
    first_run = complete(first, place).run
    parent = RunRef(first)

    second = oneshot_desc(
        "magnitude", density=0.25, prune_experiment=parent, prune_step="3ep", state_experiment=parent, state_step="3ep"
    )
    outcome = complete(second, place)

    assert set(outcome.manifest.parents) == {f"{first_run}/{name}" for name in ("mask.safetensors", LAST)}
    assert mask_of(outcome.run).intersection(mask_of(first_run)) == mask_of(outcome.run)


def test_a_state_that_a_branch_did_not_keep_is_replayed(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    desc = oneshot_desc("random", density=0.5)
    first = complete(desc, place).run

    complete(oneshot_desc(density=0.25, prune_experiment=RunRef(desc), prune_step="7it"), place)

    assert [step.iteration for step in first.kept_states(6)] == [0, 7, 18]
    assert verify(first) == []


@pytest.mark.parametrize("flags", [{"strategy": "snip1000"}, {"pruning_layers_to_ignore": "fc.wait"}])
def test_a_refused_branch_leaves_nothing_behind(tmp_path: Path, digits: Path, flags: dict[str, Any]) -> None:
    place = context(tmp_path, digits)

    with pytest.raises(UsageError):
        complete(oneshot_desc(**flags), place)

    assert {path.name for path in tmp_path.iterdir()} <= {".locks", "format.json"}


def test_a_refused_branch_leaves_what_was_there(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    parent = complete(oneshot_desc().main, place).run
    before = tensor_digests(parent)

    with pytest.raises(UsageError):
        complete(oneshot_desc(strategy="snip1000"), place)

    assert tensor_digests(parent) == before
    assert verify(parent) == []
    assert not list(tmp_path.rglob("branch_*"))


# Damage.


def test_a_damaged_state_of_the_parent_stops_the_branch_and_mending_puts_it_right(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc(prune_step="3ep")
    place = context(tmp_path, digits)
    parent = complete(desc.main, place).run
    path = parent.folder / "state_ep3_it0.safetensors"
    whole, damaged = path.read_bytes(), bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)

    with pytest.raises(DamagedError, match=r"state_ep3_it0\.safetensors is damaged"):
        complete(desc, place)
    assert path.read_bytes() == damaged
    assert mend(parent) == [path.name]
    complete(desc, place)

    assert path.read_bytes() == whole
