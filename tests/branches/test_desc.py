from __future__ import annotations

from pathlib import Path

import pytest

from branches.kinds import load_desc
from foundations.description.address import Location
from foundations.description.desc import MaskOf, RunRef, StateOf
from foundations.errors import DamagedError, UsageError
from foundations.storage.run import Run
from tests.branches.small_branches import describe
from tests.training.small_runs import oneshot_desc, train_desc


@pytest.mark.parametrize("name", ["prune_step", "state_step", "start_step"])
def test_a_step_after_the_last_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^{name}: 19it is after the last step.*; choose 0it to 18it"):
        oneshot_desc("magnitude", None, **{name: "19it"})


def test_the_last_step_is_valid() -> None:
    desc = oneshot_desc(prune_step="3ep", state_step="3ep", start_step="3ep")

    assert desc.scored is not None
    assert desc.state is not None
    assert [str(step) for step in (desc.scored.step, desc.state.step, desc.start)] == ["18it"] * 3


def test_a_branch_lies_beside_its_parent() -> None:
    desc = oneshot_desc()
    location = desc.location(2)

    assert location.training == desc.main.location(2).training
    assert (location.replicate, location.name) == (2, f"branch_oneshot_{desc.digest}")


def test_a_new_initialization_takes_the_place_of_a_state() -> None:
    other = RunRef(oneshot_desc(density=0.5))

    assert oneshot_desc(reinitialize=True, state_step="7it", state_experiment=other).state is None


def test_a_seed_that_cannot_matter_is_dropped() -> None:
    assert oneshot_desc("magnitude", seed=3).branch.seed is None
    assert oneshot_desc("magnitude", seed=3, randomize_layerwise=True).branch.seed == 3
    assert oneshot_desc("magnitude", seed=3, randomize_layerwise=True, density=1).branch.seed is None


def test_a_branch_of_a_branch_draws_on_its_weights_and_mask() -> None:
    parent = RunRef(oneshot_desc(density=0.5))

    desc = describe("oneshot", parent, density=0.2, prune_step="3ep")

    assert desc.sources() == {
        "scored": StateOf(parent, parent.desc.end),
        "mask": MaskOf(parent),
        "state": StateOf(parent, parent.desc.start),
    }
    assert desc.main == train_desc()


@pytest.mark.parametrize("flags", [{}, {"state_experiment": RunRef(train_desc())}, {"reinitialize": True}])
def test_a_method_that_adds_weights_is_refused_the_weights_of_a_pruned_run(flags: dict[str, RunRef]) -> None:
    parent = RunRef(oneshot_desc(density=0.1))

    with pytest.raises(UsageError, match="^strategy: phew adds weights to the mask, but the scored weights are"):
        describe("oneshot", parent, strategy="phew", density=0.3, **flags)


def test_a_method_that_adds_weights_is_refused_the_state_of_a_pruned_run() -> None:
    parent, main = RunRef(oneshot_desc(density=0.1)), RunRef(train_desc())

    with pytest.raises(UsageError, match="^strategy: phew adds weights to the mask, but the state weights are"):
        describe("oneshot", parent, strategy="phew", density=0.3, prune_experiment=main, mask_experiment=parent)


def test_only_branches_whose_method_extends_a_mask_have_the_version_of_that() -> None:
    """Since version 2, walks that extend a mask draw other weights; addresses of masks from nothing stay."""
    parent = RunRef(train_desc())
    sparse = describe("oneshot", parent, strategy="phew", density=0.1)
    flags = {"prune_experiment": parent, "mask_experiment": RunRef(sparse), "state_experiment": parent}
    denser = describe("oneshot", parent, strategy="phew", density=0.2, **flags)
    random = describe("oneshot", parent, strategy="random", density=0.05, **flags)

    assert denser.canonical["versions"] == {"extension": 2}
    assert "versions" not in sparse.canonical
    assert "versions" not in random.canonical


def test_a_record_of_another_kind_than_its_parts_is_damage(tmp_path: Path) -> None:
    run = Run(tmp_path, Location("train_0", 1, "main"))

    with pytest.raises(DamagedError, match="cannot be read"):
        load_desc(run, lambda _: {**train_desc().record(), "kind": "oneshot", "sources": {}})
