"""Runs that `complete` and `ensure_states` compute, reuse, replay and refuse."""

from __future__ import annotations

import json
import math
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
import torch

from foundations.errors import DamagedError, EnvironmentFailure
from foundations.storage.upkeep import mend, verify
from tests.foundations.toy_descriptions import rewrite_state
from tests.training.small_runs import FORK, Listener, context, oneshot_desc, run_of, tensor_digests, train_desc
from training.desc import TrainDesc
from training.jobs.compute import complete, ensure_states


def files_under(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


# Complete runs.


def test_a_complete_run_keeps_its_first_and_last_state_and_what_was_measured(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()

    outcome = complete(desc, context(tmp_path, digits))

    assert not outcome.reused
    assert [step.iteration for step in outcome.run.kept_states(6)] == [0, 18]
    assert {iteration for _, iteration in outcome.run.metrics().values} == {0, 6, 12, 18}
    assert outcome.manifest.results["test_accuracy"] == outcome.run.metrics().values["test_accuracy", 18]
    assert outcome.manifest.results["test_accuracy"] > 0.5
    assert set(outcome.manifest.dataset) == {"digits"}
    assert {"python", "torch", "open_prune"} <= set(outcome.manifest.versions)
    assert outcome.manifest.device.startswith("cpu")
    assert outcome.run.load_checkpoint() is None


def test_a_run_that_does_not_end_with_an_epoch_is_measured_at_its_end(tmp_path: Path, digits: Path) -> None:
    outcome = complete(train_desc(training_steps="1ep2it"), context(tmp_path, digits))

    assert {iteration for _, iteration in outcome.run.metrics().values} == {0, 6, 8}


def test_examples_that_are_held_out_choose_the_accuracy_to_report(tmp_path: Path, digits: Path) -> None:
    outcome = complete(train_desc(validation_examples=157), context(tmp_path, digits))

    values, results = outcome.run.metrics().values, outcome.manifest.results
    validation = {step: value for (name, step), value in values.items() if name == "validation_accuracy"}
    best = max(sorted(validation), key=validation.__getitem__)
    assert sorted(validation) == [0, 5, 10, 15]  # 1,280 of the 1,437 examples are left
    assert results["validation_accuracy"] == validation[15] > 0.5
    assert results["selected_test_accuracy"] == values["test_accuracy", best]


def test_a_run_can_have_no_iterations(tmp_path: Path, digits: Path) -> None:
    outcome = complete(train_desc(training_steps="0it"), context(tmp_path, digits))

    assert [step.iteration for step in outcome.run.kept_states(6)] == [0]
    test_loss = outcome.manifest.results["test_loss"]
    assert test_loss is not None
    assert test_loss > 0


def test_a_complete_run_is_reused_and_no_byte_changes(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()
    complete(desc, context(tmp_path, digits))
    before = files_under(tmp_path)

    assert complete(desc, context(tmp_path, digits)).reused
    assert files_under(tmp_path) == before


def test_two_runs_of_one_description_have_the_same_bytes(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()
    digests = [tensor_digests(complete(desc, context(tmp_path / name, digits)).run) for name in "ab"]

    assert digests[0] == digests[1]


def test_the_global_generator_neither_matters_nor_moves(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc("random")
    torch.manual_seed(1)
    complete(desc, context(tmp_path / "a", digits))
    torch.manual_seed(2)
    before = torch.get_rng_state()

    complete(desc, context(tmp_path / "b", digits))

    assert torch.equal(torch.get_rng_state(), before)
    first, second = (tensor_digests(run_of(desc, context(tmp_path / name, digits))) for name in "ab")
    assert first == second


def test_replicates_differ_and_lie_side_by_side(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()
    runs = [complete(desc, context(tmp_path, digits, replicate=n)).run for n in (1, 2)]

    assert runs[0].folder.parent.parent == runs[1].folder.parent.parent
    assert tensor_digests(runs[0])["state_ep0_it0.safetensors"] != tensor_digests(runs[1])["state_ep0_it0.safetensors"]
    assert tensor_digests(runs[0])["state_ep3_it0.safetensors"] != tensor_digests(runs[1])["state_ep3_it0.safetensors"]


def test_a_pinned_data_order_is_shared_by_replicates_and_the_initialization_is_not(
    tmp_path: Path, digits: Path
) -> None:
    from training.job import initialized_model
    from training.loop.trainer import Trainer

    desc = train_desc(data_order_seed=5)
    labels, weights = [], []
    for replicate in (1, 2):
        place = context(tmp_path, digits, replicate=replicate)
        model = initialized_model(desc, replicate)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        trainer = Trainer(model, desc, place, place.platform, replicate)
        labels.append(next(trainer.loader.train_batches(0))[1].tolist())
        weights.append(state["fc.weight"])

    assert labels[0] == labels[1]
    assert not torch.equal(weights[0], weights[1])


def test_a_training_that_diverges_completes_and_says_that_its_loss_is_no_number(tmp_path: Path, digits: Path) -> None:
    desc = train_desc(lr=1e30)

    outcome = complete(desc, context(tmp_path, digits))

    assert outcome.manifest.results["test_loss"] is None
    assert math.isnan(outcome.run.metrics().values["test_loss", 18])
    json.loads((outcome.run.folder / "manifest.json").read_text(), parse_constant=pytest.fail)
    assert complete(desc, context(tmp_path, digits)).reused


def test_evaluating_only_at_the_end_measures_the_first_and_last_step(tmp_path: Path, digits: Path) -> None:
    outcome = complete(train_desc(), context(tmp_path, digits, evaluate_only_at_end=True))

    measured = outcome.run.metrics().values
    assert {iteration for name, iteration in measured if name.startswith("test_")} == {0, 18}
    assert {iteration for name, iteration in measured if name.startswith("train_")} == {6, 12, 18}


def test_evaluating_every_few_epochs_measures_the_last_step_too(tmp_path: Path, digits: Path) -> None:
    outcome = complete(train_desc(), context(tmp_path, digits, evaluate_every=2))

    measured = outcome.run.metrics().values
    assert {iteration for name, iteration in measured if name.startswith("test_")} == {0, 12, 18}
    assert {iteration for name, iteration in measured if name.startswith("train_")} == {6, 12, 18}


@pytest.mark.parametrize("changes", [{"evaluate_only_at_end": True}, {"evaluate_every": 2}, {"checkpoint_seconds": 0}])
def test_how_a_job_is_done_does_not_change_its_states(tmp_path: Path, digits: Path, changes: dict[str, Any]) -> None:
    desc = train_desc(model_name="digits_resnet_8_4")
    plain = complete(desc, context(tmp_path / "a", digits)).run
    other = complete(desc, context(tmp_path / "b", digits, **changes)).run

    assert plain.folder.relative_to(tmp_path / "a") == other.folder.relative_to(tmp_path / "b")
    name = "state_ep3_it0.safetensors"
    assert tensor_digests(plain)[name] == tensor_digests(other)[name]


def complete_and_report(desc: TrainDesc, root: Path, digits: Path, queue: Queue[tuple[bool, list[str]]]) -> None:
    listener = Listener()
    outcome = complete(desc, context(root, digits, reporter=listener))
    queue.put((outcome.reused, listener.said))


def test_of_two_processes_one_trains_and_the_other_waits_and_reuses(tmp_path: Path, digits: Path) -> None:
    desc = train_desc(training_steps="400ep")
    queue: Queue[tuple[bool, list[str]]] = FORK.Queue()
    processes = [FORK.Process(target=complete_and_report, args=(desc, tmp_path, digits, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    reports = sorted(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()

    assert [reused for reused, _ in reports] == [False, True]
    assert any(line.startswith("Starting") for line in reports[0][1])
    assert len(reports[1][1]) == 1
    assert reports[1][1][0].startswith("Waiting for process ")
    assert verify(run_of(desc, context(tmp_path, digits))) == []


# States on demand.


def test_the_initialization_is_made_without_training_or_data(tmp_path: Path) -> None:
    desc = train_desc()
    listener = Listener()

    run = ensure_states(desc, context(tmp_path, tmp_path / "no data", reporter=listener), [desc.start])

    assert [step.iteration for step in run.kept_states(6)] == [0]
    assert run.manifest() is None
    assert listener.iterations == {}
    assert listener.said == []


def test_a_state_is_made_by_training_no_further_than_needed(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()
    listener = Listener()

    run = ensure_states(desc, context(tmp_path, digits, reporter=listener), [desc.start.at(7)])

    assert listener.iterations == {"train": 7}
    assert run.has_state(desc.start.at(7))
    assert run.manifest() is None


def test_a_run_goes_on_from_the_states_that_were_made_before(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()
    keep = [desc.start.at(7)]
    whole = complete(desc, context(tmp_path / "whole", digits), keep).run
    ensure_states(desc, context(tmp_path / "parts", digits), keep)
    listener = Listener()

    parts = complete(desc, context(tmp_path / "parts", digits, reporter=listener), keep).run

    assert any("Resuming" in line and "at 7it" in line for line in listener.said)
    assert tensor_digests(parts) == tensor_digests(whole)


def test_a_state_that_is_kept_is_not_made_again(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()
    complete(desc, context(tmp_path, digits))
    before = files_under(tmp_path)

    ensure_states(desc, context(tmp_path, digits), [desc.start, desc.end])

    assert files_under(tmp_path) == before


# Replays.


def test_a_state_that_was_not_kept_is_replayed_with_the_bytes_it_would_have_had(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc("snip1", {"optimizer_name": "adam"})
    keep = [desc.start.at(7), desc.start.at(11)]
    at_once = complete(desc, context(tmp_path / "at once", digits), keep).run
    complete(desc, context(tmp_path / "later", digits))
    listener = Listener()

    later = complete(desc, context(tmp_path / "later", digits, reporter=listener), keep).run

    assert listener.iterations == {"replay": 11}
    assert tensor_digests(later) == tensor_digests(at_once)
    assert verify(later) == []
    assert complete(desc, context(tmp_path / "later", digits), keep).reused


def test_a_replay_leaves_the_progress_of_an_incomplete_run_alone(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()
    ensure_states(desc, context(tmp_path, digits), [desc.start.at(15)])
    run = run_of(desc, context(tmp_path, digits))
    before = run.load_checkpoint()
    listener = Listener()

    ensure_states(desc, context(tmp_path, digits, reporter=listener), [desc.start.at(4)])

    assert listener.iterations == {"replay": 4}
    assert run.has_state(desc.start.at(4))
    after = run.load_checkpoint()
    assert before is not None
    assert after is not None
    assert after[1] == before[1]


def test_a_replay_that_does_not_meet_the_kept_states_is_refused_and_keeps_nothing(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()
    run = complete(desc, context(tmp_path, digits), [desc.start.at(9)]).run
    state = run.load_state(desc.start.at(9))
    state["fc.bias"] += 1e-3
    rewrite_state(run, desc.start.at(9), state)
    before = tensor_digests(run)

    with pytest.raises(EnvironmentFailure, match="does not reproduce the state that was kept at 9it"):
        complete(desc, context(tmp_path, digits), [desc.start.at(5), desc.start.at(12)])

    assert tensor_digests(run) == before


def test_a_replay_that_was_killed_leaves_nothing_that_another_would_trust(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()
    run = complete(desc, context(tmp_path, digits)).run
    state = run.load_state(desc.end)
    run.save_state(desc.start.at(5), state)  # as if half a replay on another machine had kept it

    complete(desc, context(tmp_path, digits), [desc.start.at(8)])

    assert run.has_state(desc.start.at(8))
    assert not run.has_state(desc.start.at(5))


# Refusals.


def test_the_results_of_other_data_are_refused(tmp_path: Path, digits: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file

    from datasets.formats.source_files import Split
    from datasets.prepared import write_split

    desc = train_desc()
    complete(desc, context(tmp_path / "root", digits))
    for split in ("train", "test"):
        content = load_file(digits / "digits" / f"{split}.safetensors")
        (tmp_path / "data" / "digits").mkdir(parents=True, exist_ok=True)
        images = content["images"] ^ np.uint8(1)
        names = tuple(map(str, range(10)))
        write_split("digits", split, Split(images, content["labels"], names, "elsewhere"), tmp_path / "data")

    with pytest.raises(DamagedError, match="was computed from other data"):
        complete(desc, context(tmp_path / "root", tmp_path / "data"))


def test_a_run_is_reused_where_its_data_are_not_there(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()
    complete(desc, context(tmp_path, digits))

    assert complete(desc, context(tmp_path, tmp_path / "nowhere")).reused


def test_a_damaged_checkpoint_stops_the_job_and_is_neither_trusted_nor_overwritten(
    tmp_path: Path, digits: Path
) -> None:
    desc = train_desc()
    run = ensure_states(desc, context(tmp_path, digits), [desc.start.at(7)])
    flip_a_bit(run.folder / "checkpoint.safetensors")
    before = files_under(run.folder)

    with pytest.raises(DamagedError, match=r"checkpoint\.safetensors is damaged"):
        complete(desc, context(tmp_path, digits))

    assert files_under(run.folder) == before


def test_a_mended_state_of_a_complete_run_is_replayed_to_its_bytes(tmp_path: Path, digits: Path) -> None:
    desc = train_desc()
    run = complete(desc, context(tmp_path, digits), [desc.start.at(7)]).run
    before = tensor_digests(run)
    for name in ("state_ep1_it1.safetensors", "state_ep0_it0.safetensors", "state_ep3_it0.safetensors"):
        flip_a_bit(run.folder / name)
    assert len(mend(run)) == 3

    complete(desc, context(tmp_path, digits), [desc.start.at(7)])

    after = tensor_digests(run)
    assert {name: after[name] for name in before} == before
    assert verify(run) == []


def test_a_mended_mask_of_an_incomplete_branch_is_made_again_and_obeyed(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc("random", prune_fraction=0.9)
    whole = complete(desc, context(tmp_path / "whole", digits)).run
    run = ensure_states(desc, context(tmp_path / "mended", digits), [desc.start.at(7)])
    flip_a_bit(run.folder / "mask.safetensors")
    assert mend(run) == ["mask.safetensors"]

    complete(desc, context(tmp_path / "mended", digits))

    (run.folder / "damaged_mask.safetensors").unlink()
    (run.folder / "state_ep1_it1.safetensors").unlink()
    assert tensor_digests(run) == tensor_digests(whole)


def test_a_mended_report_on_the_mask_is_made_again(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc("random", prune_fraction=0.9)
    run = complete(desc, context(tmp_path, digits)).run
    before = tensor_digests(run)
    (run.folder / "sparsity.json").write_text("{")
    assert mend(run) == ["sparsity.json"]

    complete(desc, context(tmp_path, digits))

    (run.folder / "damaged_sparsity.json").unlink()
    assert tensor_digests(run) == before


def test_a_state_that_was_swapped_for_another_valid_one_is_not_used(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    run = complete(train_desc(), place).run
    first, last = (run.folder / run.state_name(step) for step in (train_desc().start, train_desc().end))
    first.write_bytes(last.read_bytes())

    with pytest.raises(DamagedError, match="not the one of its manifest"):
        run.load_state(train_desc().start)
