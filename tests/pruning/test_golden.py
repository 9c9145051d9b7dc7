"""Scores and masks against those that published code computed. Each source is named by the case.

Ours removes exactly the number of weights that is asked for. Where a reference removes another number, the test follows
the reference's counts and accounts for the weights at the threshold, one by one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pruning.connectivity import channel_mask
from pruning.graph import trace
from pruning.mask import Mask
from pruning.prune import prune
from tests.pruning.golden import Case, assert_scores_agree, difference

pytestmark = pytest.mark.filterwarnings("ignore::pruning.prune.CollapseWarning")


def every_batch_alike(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return a loss with which batches are summed whatever their size, as Synaptic-Flow does."""
    return F.cross_entropy(outputs, y) / len(y)


def pruned(case: Case, strategy: str, counts: list[int], **options: Any) -> tuple[Mask, list[dict[str, torch.Tensor]]]:
    """Prune to each of `counts` in turn; return the mask and the scores of every round."""
    model = case.model()
    if (case.folder / "inputs.safetensors").exists():
        options |= {"examples": case.examples, "batch_size": case.batch_size}
    mask, scores = None, []
    for keep in counts:
        if mask is not None and case.description["method"] == "synflow_l2":
            silence_units_without_weights(model, mask, case.input_shape)
        mask = prune(
            model,
            strategy,
            keep=keep,
            mask=mask,
            input_shape=case.input_shape,
            on_iteration=lambda _number, _mask, found: scores.append(found),
            **options,
        )
    assert mask is not None
    return mask, scores


def silence_units_without_weights(model: nn.Module, mask: Mask, input_shape: tuple[int, ...]) -> None:
    """Zero the biases of units that no kept weight leads into, as the PHEW repository does between iterations."""
    channels = channel_mask(trace(model, input_shape), mask)
    Mask({name: kept for name, kept in channels.items() if name.endswith(("conv.bias", "fc.bias"))}).apply_(model)


def kept_counts(case: Case) -> list[int]:
    """Return the counts that came out of the reference, iteration by iteration."""
    description = case.description
    for key in ("kept_after_each_iteration", "kept_after_each_epoch"):
        if key in description:
            return description[key]
    if description["method"] == "synflow_l2":  # a percentile of all scores, as `counting_rule` says
        total, density = description["mask_counts"]["total"], description["options"]["density"]
        return [total - 1 - int((1 - density ** (step / 100)) * (total - 1)) for step in range(1, 101)]
    if isinstance(description.get("steps"), list):
        return [step["kept_after"] for step in description["steps"]]
    return [description["mask_counts"]["kept"]]


ONE_SHOT_OF_THE_FORK = [
    ("fork_magnitude_p020_lenet", "magnitude", {}),
    ("fork_magnitude_p050_vgg", "magnitude", {}),
    ("fork_magnitude_p090_resnet20", "magnitude", {}),
    ("fork_snip_p050_lenet", "snip10", {"score_per_batch": True}),
    ("fork_snip_p090_resnet20", "snip2", {"score_per_batch": True}),
    ("fork_graspabs_p090_vgg", "graspabs3", {"score_per_batch": True}),
    ("fork_synflow_p090_iter1_lenet", "synflow", {}),
]


@pytest.mark.parametrize(("name", "strategy", "options"), ONE_SHOT_OF_THE_FORK)
def test_ours_keeps_exactly_the_one_weight_at_the_forks_threshold_besides_the_forks_mask(
    name: str, strategy: str, options: dict[str, Any]
) -> None:
    case = Case(name)
    (step,) = case.description["steps"]
    mask = prune(
        case.model(),
        strategy,
        fraction=case.description["options"]["prune_fraction"],
        examples=case.examples if "inputs.safetensors" in case.description["files"] else None,
        batch_size=case.batch_size if "batch_sizes" in case.description["options"] else None,
        input_shape=case.input_shape,
        **options,
    )
    assert mask.pruned == step["m"]
    only_ours = mask.intersection(case.mask().invert())
    assert difference(mask, case.mask()) == (1, 0)
    weights_at_threshold = {(weight, index) for weight, index in case.description["weights_exactly_at_last_threshold"]}
    (weight,) = [weight for weight, kept in only_ours.kept_per_layer().items() if kept]
    assert (weight, int(only_ours[weight].flatten().nonzero())) in weights_at_threshold


def test_of_the_ties_that_the_fork_prunes_all_ours_prunes_as_many_as_are_asked_for() -> None:
    case = Case("fork_magnitude_p050_ties_lenet")
    (step,) = case.description["steps"]
    mask = prune(case.model(), "magnitude", fraction=0.5)
    only_ours, only_theirs = difference(mask, case.mask())
    assert mask.pruned == step["m"]
    assert (only_ours, only_theirs) == (mask.kept - case.mask().kept, 0)
    ties = mask.intersection(case.mask().invert())
    model = dict(case.model().named_parameters())
    assert {model[name][kept].abs().unique().tolist()[0] for name, kept in ties.items() if kept.any()} == {0.03125}


SCORES = [
    ("fork_snip_p050_lenet", "snip10", {"score_per_batch": True}),
    ("fork_snip_p090_resnet20", "snip2", {"score_per_batch": True}),
    ("fork_snip_p095_iter5_resnet20", "snip2", {"score_per_batch": True}),
    ("fork_grasp_highest_p080_resnet20", "grasp2", {"score_per_batch": True}),
    ("fork_grasp_highest_p090_iter3_lenet", "grasp4", {"score_per_batch": True}),
    ("fork_graspabs_p090_vgg", "graspabs3", {"score_per_batch": True}),
    ("synapticflow_snip_d010_resnet20", "snip2", {"score_in_eval_mode": True, "loss": every_batch_alike}),
    ("grasp_original_p080_resnet20", "grasp2", {}),
    ("tost_taylor_p080_resnet20", "taylor2", {}),
]


@pytest.mark.parametrize(("name", "strategy", "options"), SCORES)
def test_scores_and_masks_are_those_of_the_published_code(name: str, strategy: str, options: dict[str, Any]) -> None:
    case = Case(name)
    mask, scores = pruned(case, strategy, kept_counts(case), **options)
    assert_scores_agree(scores[-1], case.tensors("scores"), case.tolerance)
    assert difference(mask, case.mask()) == (0, 0)


@pytest.mark.parametrize("name", ["fork_snip_p095_iter5_resnet20", "fork_grasp_highest_p090_iter3_lenet"])
def test_first_scores_of_an_iterative_case_are_those_of_the_published_code(name: str) -> None:
    case = Case(name)
    strategy = "snip2" if "snip" in name else "grasp4"
    _, scores = pruned(case, strategy, kept_counts(case)[:1], score_per_batch=True)
    assert_scores_agree(scores[0], case.tensors("scores_first_iteration"), case.tolerance)


def test_grasp_of_synaptic_flow_has_the_opposite_sign_and_the_same_mask() -> None:
    case = Case("synapticflow_grasp_d020_vgg")
    mask, scores = pruned(case, "grasp3", kept_counts(case), score_in_eval_mode=True, loss=every_batch_alike)
    negated = {name: -score for name, score in case.tensors("scores").items()}
    assert_scores_agree(scores[0], negated, case.tolerance)
    assert difference(mask, case.mask()) == (0, 0)


FLOWS = [
    ("fork_synflow_p099_iter100_resnet20", "synflow", {}),
    ("fork_synflow_p090_iter100_vgg_shifted", "synflow", {"synflow_means": "stored"}),
    ("synapticflow_synflow_d001_100epochs_resnet20", "synflow", {}),
    ("synapticflow_synflow_d010_100epochs_lenet", "synflow", {}),
    ("synapticflow_synflow_d010_100epochs_vgg_shifted", "synflow", {}),
    ("phewrepo_synflowl2_p095_100iter_resnet20", "synflowl2", {"synflowl2_as_published": True}),
    (
        "phewrepo_synflowl2_p090_100iter_vgg_warm",
        "synflowl2",
        {"synflowl2_as_published": True, "synflow_means": "stored"},
    ),
]


@pytest.mark.parametrize(("name", "strategy", "options"), FLOWS)
def test_100_iterations_end_at_the_mask_of_the_published_code(
    name: str, strategy: str, options: dict[str, Any]
) -> None:
    case = Case(name)
    mask, scores = pruned(case, strategy, kept_counts(case), **options)
    noise = case.description["float32_noise_measured"]
    tolerance = case.tolerance if "max_abs_difference_over_max_abs_score" in noise else 1e-9
    assert_scores_agree(scores[-1], case.tensors("scores"), tolerance)
    assert difference(mask, case.mask()) == (0, 0)


def test_the_forks_means_of_both_signs_keep_other_weights_than_absolute_ones() -> None:
    case = Case("fork_synflow_p090_iter100_vgg_shifted")
    mask, _ = pruned(case, "synflow", kept_counts(case)[-1:])
    assert difference(mask, case.mask())[0] > 0


@pytest.mark.parametrize("name", ["openlth_imp_3rounds_lenet", "openlth_imp_3rounds_resnet8"])
def test_each_round_of_iterative_magnitude_pruning_is_openlths_but_for_the_weight_at_its_threshold(name: str) -> None:
    case = Case(name)
    ignored = case.description["options"]["pruning_layers_to_ignore"]
    start = Mask.ones(case.model())
    for number, step in enumerate(case.description["rounds"], start=1):
        model = case.model(f"weights_round{number}")
        ranked = Mask({name: tensor for name, tensor in start.items() if name != ignored})
        mask = prune(model, "magnitude", keep=ranked.kept - step["m"], mask=ranked)
        theirs = Mask({name: tensor for name, tensor in case.mask(f"mask_round{number}").items() if name != ignored})
        assert difference(mask, theirs) == (1, 0)
        start = case.mask(f"mask_round{number}")


def test_the_kept_count_of_iterative_magnitude_pruning_is_exact_where_the_forks_falls_short_by_one_an_iteration() -> (
    None
):
    case = Case("fork_magnitude_p080_iter4_lenet")
    mask = prune(case.model(), "magnitude", fraction=0.8, iterations=4)
    assert mask.kept == 32360 // 5
    assert difference(mask, case.mask()) == (32360 // 5 - case.mask().kept, 0)


def test_random_pruning_spreads_over_the_layers_as_the_forks_does() -> None:
    case = Case("fork_random_p080_lenet")
    mask = prune(case.model(), "random", fraction=0.8, seed=7)
    for name, tensor in mask.items():
        spread = (tensor.numel() * 0.2 * 0.8) ** 0.5
        assert abs(mask.kept_per_layer()[name] - case.mask().kept_per_layer()[name]) < 6 * spread


def test_a_layerwise_shuffle_keeps_the_counts_of_every_layer() -> None:
    case = Case("fork_shuffle_layerwise_p090_resnet20")
    mask = prune(case.model(), "magnitude", keep=case.mask().kept)
    assert mask.shuffled_layerwise(3).kept_per_layer() == case.mask().kept_per_layer()


def test_magnitude_of_synaptic_flow() -> None:
    case = Case("synapticflow_magnitude_d020_lenet")
    assert difference(prune(case.model(), "magnitude", density=0.2), case.mask()) == (0, 0)
