"""The description behind the name of each branch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from branches.desc import BranchDesc
from branches.kinds import load_desc, load_ref
from foundations.description.desc import RunRef
from foundations.errors import DamagedError, UsageError
from foundations.plan import Target, plan
from foundations.storage.run import Run
from models.hparams import ModelHparams
from pruning.masks.mask import Mask
from pruning.paths.unit_groups import permuted, unit_groups
from pruning.paths.weight_matching import weight_matching
from tests.branches.small_branches import branch, describe, mask_of, ref_of
from tests.training.small_runs import context, oneshot_desc, run_of, train_desc
from training.context import Context
from training.job import initialized_model
from training.jobs.compute import complete

END = "18it"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Context:
    """A context in which the small training is complete and keeps its state at 4it."""
    place = context(tmp_path_factory.mktemp("runs"), digits)
    complete(train_desc(), place, [train_desc().step("4it")])
    return place


def state(run: Run, step: str) -> dict[str, torch.Tensor]:
    return run.load_state(train_desc().step(step))


@pytest.mark.parametrize(
    ("name", "flags", "same"),
    [
        ("lottery_rewind", {}, {"prune_step": "3ep"}),
        (
            "lottery_rewind",
            {"rewind_step": "4it"},
            {"prune_step": END, "state_step": "4it", "start_step": "4it"},
        ),
        ("lottery_rewind", {"rewind_step": "1ep", "start_step": "0ep"}, {"prune_step": "3ep", "state_step": "6it"}),
        ("lr_rewind", {}, {"prune_step": END, "state_step": END}),
        ("lr_rewind", {"rewind_step": "1ep"}, {"prune_step": END, "state_step": END, "start_step": "1ep"}),
        ("randomize_layerwise", {"prune_step": "3ep"}, {"prune_step": "3ep", "randomize_layerwise": True}),
        ("random_tickets", {}, {"randomize_layerwise": True}),
        ("reinitialize", {"state_step": "2ep"}, {"reinitialize": True}),
        ("invert", {}, {"prune_highest": True}),
    ],
)
def test_a_branch_that_equals_a_oneshot_with_flags_has_its_address(
    name: str, flags: dict[str, Any], same: dict[str, Any]
) -> None:
    assert describe(name, **flags).digest == oneshot_desc(**same).digest


@given(
    at=st.integers(0, 18),
    spelling=st.sampled_from(["it", "ep"]),
    level=st.integers(1, 99),
    kind=st.sampled_from(["prune_fraction", "density", "compression"]),
)
@settings(max_examples=40, deadline=None)
def test_any_spelling_of_step_and_level_gives_one_address(at: int, spelling: str, level: int, kind: str) -> None:
    step = f"{at}it" if spelling == "it" else f"{at // 6}ep{at % 6}it"
    value: Any = {"prune_fraction": level / 100, "density": (100 - level) / 100, "compression": 100 / (100 - level)}[
        kind
    ]

    by_name = describe("lottery_rewind", rewind_step=step, **{kind: value})

    plain = oneshot_desc(prune_fraction=level / 100, prune_step="3ep", state_step=f"{at}it", start_step=f"{at}it")
    assert by_name.digest == plain.digest


def test_lottery_rewind_prunes_the_last_weights_and_trains_on_from_the_rewound_ones(home: Context) -> None:
    run = branch(home, "lottery_rewind", rewind_step="4it", density=0.2).run

    main = run_of(train_desc(), home)
    kept = mask_of(run)
    magnitudes = torch.cat([state(main, END)[name].abs().flatten() for name in kept])
    chosen = torch.cat([kept[name].flatten() for name in kept])
    assert magnitudes[chosen].min() >= magnitudes[~chosen].max()
    for name, tensor in state(main, "4it").items():
        expected = tensor * kept[name] if name in kept else tensor
        assert torch.equal(state(run, "4it")[name], expected)


def test_lr_rewind_keeps_the_trained_weights(home: Context) -> None:
    run = branch(home, "lr_rewind", density=0.5).run

    kept = mask_of(run)
    trained = state(run_of(train_desc(), home), END)
    assert all(
        torch.equal(tensor, trained[name] * kept[name]) for name, tensor in state(run, "0it").items() if name in kept
    )


def test_finetune_trains_on_at_the_last_learning_rate() -> None:
    parent = train_desc(milestone_steps="2ep", gamma=0.1, warmup_steps="1it")

    desc = describe("finetune", RunRef(parent), finetune_steps="1ep")

    training = desc.as_trained.training
    assert (training.lr, training.training_steps) == (pytest.approx(0.01), "6it")
    assert (training.milestone_steps, training.warmup_steps) == (None, "0it")


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_finetune_after_a_schedule_that_ends_near_zero_asks_for_a_learning_rate(schedule: str) -> None:
    parent = RunRef(train_desc(lr_schedule=schedule, training_steps="300it"))

    with pytest.raises(UsageError, match="^finetune_lr: the schedule of the parent's training falls to zero"):
        describe("finetune", parent)
    desc = describe("finetune", parent, finetune_lr=0.02)
    assert desc.as_trained.training.lr == 0.02
    assert describe("finetune", RunRef(train_desc()), finetune_lr=0.1) == describe("finetune", RunRef(train_desc()))


def test_reinitialize_trains_other_weights_under_the_same_mask(home: Context) -> None:
    plain = branch(home, "oneshot", density=0.5).run
    other = branch(home, "reinitialize", density=0.5).run

    assert mask_of(plain) == mask_of(other)
    kept = mask_of(plain)
    name = next(iter(kept))
    assert not torch.equal(state(plain, "0it")[name], state(other, "0it")[name])


def test_invert_prunes_what_the_method_keeps(home: Context) -> None:
    plain = branch(home, "oneshot", density=0.5, strategy="snip2").run
    inverse = branch(home, "invert", density=0.5, strategy="snip2").run

    assert mask_of(plain).intersection(mask_of(inverse)).kept <= 1


def test_random_tickets_keep_the_layer_densities_of_the_strategy(home: Context) -> None:
    plain = branch(home, "oneshot", density=0.1).run
    random = branch(home, "random_tickets", density=0.1).run

    assert mask_of(plain).kept_per_layer() == mask_of(random).kept_per_layer()
    assert mask_of(plain) != mask_of(random)


def test_retrain_takes_the_parents_weights_and_mask_and_other_hyperparameters(home: Context) -> None:
    parent = branch(home, "oneshot", density=0.3).run

    run = branch(home, "retrain", parent, retrain_lr=0.01, retrain_batch_size=128).run

    assert mask_of(run) == mask_of(parent)
    first, theirs = state(run, "0it"), state(parent, "0it")
    assert all(torch.equal(first[name], tensor) for name, tensor in theirs.items())
    desc = load_desc(run)
    assert isinstance(desc, BranchDesc)
    assert (desc.as_trained.training.lr, desc.as_trained.dataset.batch_size) == (0.01, 128)


def test_retraining_with_the_parents_own_hyperparameters_has_no_other_address(home: Context) -> None:
    parent = ref_of(branch(home, "oneshot", density=0.3).run)

    assert describe("retrain", parent, retrain_lr=0.1).digest == describe("retrain", parent).digest


def test_transplant_puts_one_runs_mask_on_anothers_weights_of_any_replicate(home: Context) -> None:
    giver = branch(home, "oneshot", density=0.3).run
    elsewhere = context(home.root, home.datasets, replicate=2)
    complete(train_desc(), elsewhere)

    run = branch(elsewhere, "transplant", mask_of=load_ref(giver, 2)).run

    mask = mask_of(giver)
    assert mask_of(run) == mask
    theirs = state(run_of(train_desc(), elsewhere), "0it")
    assert all(
        torch.equal(tensor, theirs[name] * mask[name]) for name, tensor in state(run, "0it").items() if name in mask
    )


def test_transplant_aligns_a_mask_by_the_trained_weights_of_both_runs(home: Context) -> None:
    giver = branch(home, "oneshot", density=0.3).run
    elsewhere = context(home.root, home.datasets, replicate=2)
    complete(train_desc(), elsewhere)

    run = branch(elsewhere, "transplant", mask_of=load_ref(giver, 2), align=True).run

    mask, names = mask_of(giver), dict(initialized_model(train_desc(), 2).named_parameters())
    groups = unit_groups(initialized_model(train_desc(), 2), train_desc().dataset.inputs)
    own, other = (state(run_of(train_desc(), place), END) for place in (elsewhere, home))
    expected = permuted(mask, groups, weight_matching(own, other, groups, names))
    assert mask_of(run) == Mask(expected) != mask
    assert mask_of(run).kept_per_layer() == mask.kept_per_layer()
    theirs = state(run_of(train_desc(), elsewhere), "0it")
    assert all(
        torch.equal(each, theirs[name] * expected[name]) for name, each in state(run, "0it").items() if name in mask
    )
    assert load_desc(run).digest == describe("transplant", mask_of=load_ref(giver, 2), align=True).digest


def test_a_network_whose_units_cannot_be_permuted_is_refused_before_anything_is_computed(home: Context) -> None:
    main = replace(train_desc(), model=ModelHparams(model_name="vit_1_16_4"))
    giver = describe("oneshot", RunRef(main), density=0.3)
    desc = describe("transplant", RunRef(main), mask_of=RunRef(giver, 2), align=True)

    with pytest.raises(UsageError, match="align: the units of this network cannot be followed"):
        plan([Target(desc, 1)], home.root)


def test_a_mask_is_not_aligned_with_the_run_that_it_comes_from(home: Context) -> None:
    giver = ref_of(branch(home, "oneshot", density=0.3).run)

    assert describe("transplant", mask_of=giver, align=True).digest == describe("transplant", mask_of=giver).digest


def test_runs_to_align_by_are_refused_without_align(home: Context) -> None:
    giver = ref_of(branch(home, "oneshot", density=0.3).run)

    with pytest.raises(UsageError, match="--align") as caught:
        describe("transplant", mask_of=giver, units_to_experiment=giver)
    assert caught.value.hparams == ("units_to_experiment",)


def test_a_branch_of_a_branch_prunes_further_within_its_mask(home: Context) -> None:
    parent = branch(home, "lottery_rewind", density=0.5).run

    child = branch(home, "oneshot", parent, density=0.2, prune_step=END).run
    grandchild = branch(home, "oneshot", child, density=0.1, prune_step=END).run

    assert mask_of(child).intersection(mask_of(parent)) == mask_of(child)
    assert mask_of(grandchild).intersection(mask_of(child)) == mask_of(grandchild)
    assert mask_of(grandchild).density == pytest.approx(0.1, abs=1e-3)


def test_a_branch_by_address_and_by_flags_has_one_address(home: Context) -> None:
    parent = ref_of(branch(home, "oneshot", density=0.5).run)

    by_address = describe("oneshot", parent, density=0.2, prune_step=END)
    by_flags = describe("oneshot", density=0.2, prune_step=END, prune_experiment=parent, state_experiment=parent)

    assert by_address.digest == by_flags.digest


def test_every_branch_reads_back_from_its_directory(home: Context) -> None:
    branches: dict[str, dict[str, Any]] = {
        "oneshot": {},
        "gmp": {"density": 0.5},
        "finetune": {"finetune_steps": "1ep"},
        "retrain": {"retrain_lr": 0.05},
    }
    for name, flags in branches.items():
        run = branch(home, name, **flags).run
        assert load_desc(run).digest == describe(name, **flags).digest


def test_a_parent_that_lacks_the_state_says_which_there_are(home: Context) -> None:
    parent = branch(home, "finetune", finetune_steps="1ep").run

    with pytest.raises(UsageError, match="^prune_step: 12it is after the last step of the run; choose 0it to 6it"):
        branch(home, "oneshot", parent, density=0.1, prune_step="12it")


def test_a_branch_of_a_damaged_parent_names_the_file_and_leaves_nothing(home: Context) -> None:
    parent = branch(home, "oneshot", density=0.31).run
    path = parent.folder / parent.state_name(train_desc().step(END))
    path.write_bytes(path.read_bytes()[:-1])
    before = sorted(home.root.rglob("branch_*"))

    with pytest.raises(DamagedError, match=path.name):
        branch(home, "oneshot", parent, density=0.1, prune_step=END)

    assert sorted(home.root.rglob("branch_*")) == before


def test_layers_to_ignore_stay_whole_and_count_in_the_level(home: Context) -> None:
    run = branch(home, "oneshot", density=0.3, pruning_layers_to_ignore="fc.weight").run

    mask = mask_of(run)
    assert mask["fc.weight"].all()
    assert mask.kept == round(mask.total * 0.3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"pruning_layers_to_ignore": "fc.wait"}, "'fc.wait' is not a valid value. Did you mean 'fc.weight'"),
        ({"pruning_layers_to_ignore": "fc.weight", "density": 0.01}, "more than the level leaves"),
    ],
)
def test_wrong_layers_to_ignore_are_refused(home: Context, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        branch(home, "oneshot", **flags)


@pytest.mark.parametrize("strategy", ["phew", "synflow", "grasp2", "fisher2", "force2", "taylor2", "synflowl2"])
def test_every_kind_of_strategy_serves_a_branch(home: Context, strategy: str) -> None:
    mask = mask_of(branch(home, "oneshot", strategy=strategy, density=0.3).run)

    assert mask.kept == round(mask.total * 0.3)


def test_phew_adds_walks_to_the_mask_of_a_branch_on_the_dense_initialization(home: Context) -> None:
    parent = branch(home, "oneshot", density=0.1).run
    main = RunRef(train_desc())
    flags: dict[str, Any] = {"prune_experiment": main, "state_experiment": main, "mask_experiment": ref_of(parent)}

    run = branch(home, "oneshot", strategy="phew", density=0.3, **flags).run

    mask, dense = mask_of(run), state(run_of(train_desc(), home), "0it")
    assert mask.intersection(mask_of(parent)) == mask_of(parent)
    assert mask.kept == round(mask.total * 0.3)
    assert all(torch.equal(state(run, "0it")[name], dense[name] * mask[name]) for name in mask)
    assert all(dense[name][mask[name]].all() for name in mask)


def test_a_new_initialization_may_look_at_the_mask(home: Context) -> None:
    """Of the layer's 16 units, each has its own deviation: sqrt(2 / kept) by `evci`."""
    run = branch(home, "reinitialize", strategy="random", density=0.5, masked_init="evci", seed=4).run
    plain = branch(home, "reinitialize", strategy="random", density=0.5, seed=4).run
    name = next(name for name, tensor in mask_of(run).items() if tensor.shape[0] == 16)
    kept = mask_of(run)[name]
    weight, before = state(run, "0it"), state(plain, "0it")

    scaled = torch.cat([weight[name][unit][kept[unit]] * (kept[unit].sum() / 2).sqrt() for unit in range(16)])

    assert mask_of(run) == mask_of(plain)
    assert not weight[name][~kept].any()
    assert scaled.std().item() == pytest.approx(1, rel=0.15)
    assert not torch.equal(weight[name], before[name])
    biases = [key for key in weight if key.endswith("bias")]
    assert biases
    assert all(torch.equal(weight[key], before[key]) for key in biases)


def test_an_initialization_by_the_mask_needs_a_new_initialization_and_a_mask() -> None:
    with pytest.raises(UsageError, match="^masked_init, reinitialize: it is for a new initialization"):
        describe("oneshot", strategy="random", masked_init="liu")
    with pytest.raises(UsageError, match="^masked_init: the branch has no mask"):
        describe("reinitialize", prune_fraction=0.0, masked_init="liu")


def test_a_shuffle_over_the_whole_width_is_the_layerwise_one(home: Context) -> None:
    whole = describe("oneshot", strategy="synflow", randomize_width=1.0)
    assert whole.digest == describe("randomize_layerwise", strategy="synflow").digest
    assert (
        describe("oneshot", prune_fraction=0.0, randomize_width=0.5).digest == oneshot_desc(prune_fraction=0.0).digest
    )

    run = branch(home, "oneshot", strategy="synflow", density=0.1, randomize_width=0.3).run
    plain = branch(home, "oneshot", strategy="synflow", density=0.1).run
    assert mask_of(run) == mask_of(plain).shuffled_over_width(home.replicate, 0.3)
