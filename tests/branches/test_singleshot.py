from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foundations.description.desc import RunRef
from foundations.errors import UsageError
from foundations.storage.run import Run
from tests.branches.small_branches import describe, mask_of
from tests.training.small_runs import context, run_of, tensor_digests, train_desc
from training.jobs.compute import complete

LAST = "state_ep3_it0.safetensors"


def computed(place: Any, name: str, keep: tuple[int, ...] = (), momentum: float = 0.9, **flags: Any) -> Run:
    """Compute a branch that prunes by SynFlow."""
    parent = RunRef(train_desc(momentum=momentum))
    desc = describe(name, parent, strategy="synflow", density=0.2, prune_iterations=5, **flags)
    return complete(desc, place, [desc.start.at(step) for step in keep]).run


def test_it_is_gradual_pruning_with_one_pruning() -> None:
    found = describe("singleshot", density=0.2, pre_epochs="1ep", seed=4)

    assert found == describe("gmp", density=0.2, gmp_begin="6it", gmp_end="6it", seed=4)


def test_the_state_of_the_dense_training_is_pruned_at_the_step(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    run = computed(place, "singleshot", keep=(7,), pre_epochs="7it")
    oneshot = computed(place, "oneshot", prune_step="7it", state_step="7it", start_step="7it")

    assert mask_of(run) == mask_of(oneshot)
    step = train_desc().start.at(7)
    pruned, dense = run.load_state(step), run_of(train_desc(), place).load_state(step)
    for name, kept in mask_of(run).items():
        assert torch.equal(pruned[name], dense[name] * kept)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_optimizer_goes_on_where_a_branch_from_the_state_begins_with_a_new_one(
    tmp_path: Path, digits: Path, momentum: float
) -> None:
    place = context(tmp_path, digits)
    run = computed(place, "singleshot", pre_epochs="7it", momentum=momentum)
    anew = computed(place, "oneshot", prune_step="7it", state_step="7it", start_step="7it", momentum=momentum)

    assert (tensor_digests(run)[LAST] == tensor_digests(anew)[LAST]) == (momentum == 0)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"pre_epochs": "4ep", "density": 0.5}, ("pre_epochs",)),
        ({"prune_fraction": 0.0}, ("prune_fraction",)),
        ({"strategy": "phew"}, ("strategy",)),
    ],
)
def test_mistakes_are_told_in_its_own_words(flags: dict[str, Any], named: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as refused:
        describe("singleshot", **flags)

    assert refused.value.hparams == named
