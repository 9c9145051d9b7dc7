"""Gradual magnitude pruning."""

import pytest
import torch

from branches.lineage import job_of
from foundations.errors import UsageError
from pruning.mask import Mask
from tests.branches.small_branches import branch, describe
from tests.training.small_runs import context, train_desc
from training.execution import complete


def test_the_level_follows_the_cubic_of_zhu_and_gupta():
    desc = describe("gmp", gmp_begin="3it", gmp_end="15it", gmp_frequency="3it", prune_fraction=0.9)
    step = desc.training.step

    prunings = [t for t in range(19) if desc.prunes_at(step(f"{t}it"))]

    assert prunings == [3, 6, 9, 12, 15]
    expected = [0.9 + (0 - 0.9) * (1 - (t - 3) / 12) ** 3 for t in prunings]
    assert [desc.level_at(step(f"{t}it")) for t in prunings] == pytest.approx(expected, rel=1e-12)


def test_the_last_pruning_comes_at_the_end_even_off_the_beat():
    desc = describe("gmp", gmp_begin="0it", gmp_end="10it", gmp_frequency="4it")

    assert [t for t in range(19) if desc.prunes_at(desc.training.step(f"{t}it"))] == [0, 4, 8, 10]


def test_masks_only_shrink_and_end_at_the_exact_count_with_pruned_weights_at_zero(tmp_path, digits):
    place = context(tmp_path, digits)
    desc = describe("gmp", gmp_end="2ep", gmp_frequency="2it", density=0.1)
    steps = [desc.training.step(f"{t}it") for t in range(19)]

    run = complete(job_of(desc), place, steps).run

    mask = Mask.from_tensors(*run.load_mask())
    kept = [sum(int((run.load_state(step)[name] != 0).sum()) for name in mask) for step in steps]
    assert kept == sorted(kept, reverse=True)
    assert mask.kept == round(mask.total * 0.1)
    last = run.load_state(steps[-1])
    assert all(torch.equal(last[name] != 0, mask[name]) for name in mask)
    assert run.sparsity()["achieved"]["kept"] == run.sparsity()["requested"]["kept"] == mask.kept


def test_its_end_defaults_to_half_of_the_training():
    assert describe("gmp").digest == describe("gmp", gmp_end="9it").digest


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"gmp_frequency": "0it"}, "--gmp_frequency"),
        ({"gmp_begin": "9it", "gmp_end": "8it"}, "--gmp_begin, --gmp_end"),
        ({"gmp_end": "19it"}, "--gmp_begin, --gmp_end"),
    ],
)
def test_an_impossible_schedule_names_its_flags(flags, message):
    with pytest.raises(UsageError, match=message):
        describe("gmp", **flags)


def test_of_a_pruned_parent_nothing_goes_until_the_curve_has_passed_its_sparsity(tmp_path, digits):
    place = context(tmp_path, digits)
    parent = branch(place, "oneshot", density=0.5).run

    run = branch(place, "gmp", parent, gmp_end="2ep", density=0.2).run

    inherited, final = (Mask.from_tensors(*r.load_mask()) for r in (parent, run))
    assert final.intersection(inherited) == final
    assert final.kept == round(final.total * 0.2)


def test_a_state_is_replayed_with_the_mask_it_had(tmp_path, digits):
    kept, replayed = (context(tmp_path / name, digits) for name in ("kept", "replayed"))
    desc = describe("gmp", gmp_end="2ep", density=0.1)
    step = train_desc().step("7it")
    complete(desc, kept, [step])

    complete(desc, replayed)
    complete(desc, replayed, [step])

    name = run_of(desc, kept).state_name(step)
    assert (run_of(desc, kept).folder / name).read_bytes() == (run_of(desc, replayed).folder / name).read_bytes()
