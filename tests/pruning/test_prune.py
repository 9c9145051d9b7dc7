from __future__ import annotations

import copy
import itertools
import re
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from foundations.errors import UsageError
from pruning.compute_mask import mask_from_hparams, scores_from_hparams
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.prune import CollapseWarning, prune
from pruning.registry import ALLOCATIONS, METHODS
from pruning.scoring.inputs import ScoringInputs
from tests.pruning.nets import LeNet, TinyNet

NAMES = [method.spelling.replace("N", "2") for method in METHODS]
SCORERS = [method.spelling.replace("N", "2") for method in METHODS if not method.is_constructive]


def examples(count: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(count) % 3


def pruned(model: nn.Module, strategy: str, **options: Any) -> Mask:
    arguments: dict[str, Any] = {"examples": examples(), "input_shape": (2, 6, 6), "batch_size": 4} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prune(model, strategy, **arguments)


@given(
    strategy=st.sampled_from(SCORERS),
    allocation=st.sampled_from(ALLOCATIONS.spellings()),
    schedule=st.sampled_from(["exponential", "linear"]),
    iterations=st.integers(1, 3),
    highest=st.sampled_from([None, True, False]),
    fraction=st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1)),
    seed=st.integers(0, 9),
    width=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_the_count_is_exact_and_masks_only_shrink(
    strategy: str,
    allocation: str,
    schedule: str,
    iterations: int,
    highest: bool | None,
    fraction: float,
    seed: int,
    width: int,
) -> None:
    model = TinyNet(seed, width)
    masks: list[Mask] = []
    options = {"schedule": schedule, "iterations": iterations, "highest": highest, "seed": seed}
    try:
        mask = pruned(
            model,
            strategy,
            fraction=fraction,
            allocation=allocation,
            on_iteration=lambda _number, found, _scores: masks.append(found),
            **options,
        )
    except UsageError as error:
        refusals = {"lamp": "prunes the lowest shares|negative or infinite", "uniform_plus": "the level leaves"}
        assert re.search(refusals[allocation], str(error))
        return
    level = round(fraction, 12)
    assert abs((mask.total - mask.kept) - mask.total * level) <= 0.5 + 1e-6
    if not strategy.startswith("force"):
        for earlier, later in itertools.pairwise(masks):
            assert earlier.union(later) == earlier


@pytest.mark.parametrize("strategy", NAMES)
def test_scoring_leaves_no_trace_in_the_model_nor_in_the_random_state(strategy: str) -> None:
    net = TinyNet()
    net.fc.weight.requires_grad_(False)
    net.block1.eval()
    model = nn.Sequential(net, nn.Dropout(0.5))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = copy.deepcopy(model)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    pruned(model, strategy, density=0.2, iterations=2)
    assert torch.equal(torch.get_rng_state(), state)
    for (name, mine), theirs in zip(model.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name
    for mine, theirs in zip(model.parameters(), before.parameters(), strict=True):
        assert mine.grad is not None
        assert torch.equal(mine.grad, torch.ones_like(mine))
        assert mine.requires_grad == theirs.requires_grad
    assert [module.training for module in model.modules()] == [module.training for module in before.modules()]


@pytest.mark.parametrize("strategy", NAMES)
def test_the_network_is_copied_once(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []
    original = nn.Module.__setstate__

    def counted(module: nn.Module, state: dict[str, Any]) -> None:
        copies.append(type(module))
        original(module, state)

    monkeypatch.setattr(nn.Module, "__setstate__", counted)
    pruned(TinyNet(), strategy, iterations=3, allocation="global" if strategy == "phew" else "smart_ratio")
    assert copies.count(TinyNet) == 1


def test_scoring_leaves_no_trace_when_the_loss_fails() -> None:
    model = TinyNet()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()

    def failing(*_: torch.Tensor) -> torch.Tensor:
        torch.rand(3)
        raise RuntimeError("no loss today")

    with pytest.raises(RuntimeError, match="no loss today"):
        pruned(model, "snip2", density=0.2, loss=failing)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("strategy", NAMES)
def test_neither_the_global_seed_nor_the_surrounding_modes_change_a_mask(strategy: str) -> None:
    model = TinyNet()
    first = pruned(model, strategy, density=0.2)
    torch.manual_seed(77)
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert pruned(model, strategy, density=0.2) == first
    with torch.inference_mode():
        assert pruned(model, strategy, density=0.2) == first


class Reordered(nn.Module):
    """TinyNet with its parts registered the other way round."""

    def __init__(self, net: TinyNet) -> None:
        super().__init__()
        for name, child in reversed(list(net.named_children())):
            self.add_module(name, child)

    forward = TinyNet.forward


@pytest.mark.parametrize("allocation", ["global", "erk", "smart_ratio"])
@pytest.mark.parametrize("strategy", SCORERS)
def test_the_order_in_which_layers_are_registered_changes_nothing(strategy: str, allocation: str) -> None:
    model = TinyNet()
    assert pruned(model, strategy, allocation=allocation) == pruned(Reordered(model), strategy, allocation=allocation)


@pytest.mark.parametrize("strategy", ["snip2", "grasp2", "graspabs2", "force2"])
def test_micro_batches_give_the_same_scores_where_nothing_couples_the_examples(strategy: str) -> None:
    model = LeNet([8, 6], 3, 72)
    scores = scores_with(model, strategy, None), scores_with(model, strategy, 2)
    assert_close(*scores)


@pytest.mark.parametrize("strategy", ["snip2", "grasp2"])
def test_micro_batches_give_the_same_scores_in_eval_mode(strategy: str) -> None:
    model = TinyNet()
    scores = (scores_with(model, strategy, size, score_in_eval_mode=True) for size in (None, 1))
    assert_close(*scores)


@pytest.mark.parametrize("strategy", ["snip2", "grasp2", "taylor2"])
def test_micro_batches_give_the_same_scores_where_batchnorm_couples_the_examples(strategy: str) -> None:
    """Blocks are recomputed instead of splitting the batch."""
    model = nn.Sequential(TinyNet(), nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 3))
    assert_close(scores_with(model, strategy, None), scores_with(model, strategy, 2))


def scores_with(model: nn.Module, strategy: str, size: int | None, **options: Any) -> dict[str, torch.Tensor]:
    found: list[dict[str, torch.Tensor]] = []
    pruned(
        model,
        strategy,
        density=0.2,
        micro_batch_size=size,
        on_iteration=lambda _number, _mask, scores: found.append(scores),
        **options,
    )
    return found[0]


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    largest = max(score.abs().max() for score in one.values())
    for name in one:
        assert (one[name] - other[name]).abs().max() <= 1e-6 * largest


@pytest.mark.parametrize("strategy", ["snip2", "synflow", "magnitude"])
def test_the_number_of_threads_changes_no_mask(strategy: str) -> None:
    model = TinyNet(width=16)
    one = pruned(model, strategy, density=0.1)
    torch.set_num_threads(2)
    try:
        assert pruned(model, strategy, density=0.1) == one
    finally:
        torch.set_num_threads(1)


def test_half_precision_weights_are_scored_in_float32() -> None:
    model = TinyNet().to(torch.bfloat16)
    scores = scores_with(model, "snip2", None)
    assert {score.dtype for score in scores.values()} == {torch.float32}


def test_the_batch_size_matters_to_batchnorm() -> None:
    whole = pruned(TinyNet(), "snip2", density=0.2, batch_size=None)
    assert whole != pruned(TinyNet(), "snip2", density=0.2, batch_size=2)


def test_n_examples_of_each_class_are_chosen_by_the_seed() -> None:
    seen: list[torch.Tensor] = []

    def loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(y)
        return F.cross_entropy(outputs, y)

    pruned(TinyNet(), "snip2", density=0.2, examples=examples(30), loss=loss)
    assert torch.cat(seen).bincount().tolist() == [2, 2, 2]


def test_targets_that_are_no_classes_are_taken_as_they_are() -> None:
    x, _ = examples()
    mask = pruned(TinyNet(), "snip2", density=0.2, examples=(x, torch.rand(9, 3)), loss=F.mse_loss)
    assert mask.kept == round(0.2 * mask.total)


def test_a_mask_to_start_from_only_shrinks() -> None:
    model = TinyNet()
    start = pruned(model, "random", density=0.5)
    mask = pruned(model, "magnitude", density=0.2, mask=start)
    assert mask.union(start) == start
    assert mask.kept == round(0.2 * mask.total)


def test_a_mask_of_some_layers_leaves_the_others_alone() -> None:
    model = TinyNet()
    mask = pruned(model, "snip2", density=0.5, mask=Mask.ones(model, (nn.Conv2d,)))
    assert "fc.weight" not in mask
    assert mask.kept == round(0.5 * mask.total)


def test_force_lets_weights_return() -> None:
    masks: list[Mask] = []
    pruned(TinyNet(width=8), "force2", density=0.1, iterations=6, on_iteration=lambda _n, mask, _s: masks.append(mask))
    assert any(later.intersection(earlier.invert()).kept for earlier, later in itertools.pairwise(masks))


def test_highest_keeps_what_lowest_prunes() -> None:
    model = TinyNet()
    lowest = pruned(model, "magnitude", density=0.5)
    highest = pruned(model, "magnitude", keep=lowest.pruned, highest=True)
    assert highest == lowest.invert()


def test_grasp_prunes_the_highest_scores_of_its_own_accord() -> None:
    model = TinyNet()
    assert pruned(model, "grasp2") == pruned(model, "grasp2", highest=True) != pruned(model, "grasp2", highest=False)


def test_static_scores_give_one_mask_in_any_number_of_iterations() -> None:
    model = TinyNet()
    for strategy in ("random", "magnitude"):
        assert pruned(model, strategy, iterations=7) == pruned(model, strategy)


def test_layers_of_which_nothing_is_left_are_named_in_a_warning() -> None:
    model = TinyNet()
    with torch.no_grad():
        model.block1.conv2.weight *= 1e-3
    with pytest.warns(CollapseWarning, match=r"nothing is left of block1\.conv2\.weight \(1 of 7 layers\)"):
        mask = prune(model, "magnitude", density=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prune(model, "magnitude", density=0.45, mask=mask).kept < mask.kept


def test_pruning_everything_warns() -> None:
    with pytest.warns(CollapseWarning, match="nothing is left of all layers"):
        assert prune(TinyNet(), "magnitude", density=0).kept == 0


def test_a_network_with_an_empty_layer_can_be_scored() -> None:
    model = TinyNet()
    start = Mask({n: torch.zeros_like(t) if n == "block2.conv1.weight" else t for n, t in Mask.ones(model).items()})
    for strategy in SCORERS:
        mask = pruned(model, strategy, density=0.2, mask=start)
        assert mask.kept == round(0.2 * mask.total)
        assert mask.intersection(start) == mask


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("snap", {}, "strategy: 'snap' is not a valid value. Did you mean 'snipN'"),
        ("magnitude", {"fraction": 1.5}, "fraction: 1.5 is not a valid value; it must be at least 0 and at most 1"),
        ("magnitude", {"density": 0.5, "keep": 3}, "keep: it excludes"),
        ("magnitude", {"density": 0.5, "fraction": 0.6}, "they are prune fractions of 0.6 and 0.5"),
        ("magnitude", {"keep": -1}, "cannot be kept"),
        ("magnitude", {"iterations": 0}, "iterations: 0 is not a valid value; it must be at least 1"),
        ("magnitude", {"schedule": "cubic"}, "prune_schedule: 'cubic'"),
        ("magnitude", {"allocation": "erd"}, "allocation: 'erd' is not a valid value. Did you mean 'er"),
        (
            "magnitude",
            {"allocation": "smart_ratio", "examples": None, "input_shape": None},
            "smart_ratio needs to run the network",
        ),
        ("magnitude", {"score_per_batch": True}, "score_per_batch: it is not an option of magnitude, which takes none"),
        ("synflow", {"examples": None, "input_shape": None}, "input_shape: synflow needs"),
        ("snip2", {"examples": None}, "pass examples="),
        ("snip4", {}, "strategy: 4 examples of each class are asked for, but class 0 of the examples has 3"),
        ("snip2", {"examples": (torch.ones(3, 2, 6, 6), torch.arange(2))}, "3 inputs and 2 targets"),
        ("phew", {"allocation": "erk"}, "allocation: phew spreads the weights by itself"),
        ("phew", {"highest": False}, "prune_lowest: phew builds its mask without scores"),
        ("snip2", {"score_per_bach": True}, "score_per_bach: .* Did you mean 'score_per_batch'"),
    ],
)
def test_mistakes_name_the_argument_and_what_is_valid(strategy: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pruned(TinyNet(), strategy, **options)


def test_a_network_that_overflows_is_named_by_its_tensor() -> None:
    model = TinyNet()
    nn.init.constant_(model.fc.bias, float("nan"))
    with pytest.raises(UsageError, match=r"the scores of '.*' are not numbers"):
        pruned(model, "snip2")


@pytest.mark.filterwarnings("ignore::pruning.prune.CollapseWarning")
def test_hyperparameters_describe_the_same_pruning() -> None:
    model, x_and_y = TinyNet(), examples()
    values = {"compression": 5, "prune_iterations": 3, "prune_schedule": "linear", "score_batch_size": 3}
    hparams = PruningHparams.of({"strategy": "snip3", **values})
    mask = mask_from_hparams(model, hparams.normalized(10), ScoringInputs(examples=x_and_y, batch_size=9, seed=4))
    same = prune(
        model,
        "snip3",
        density=0.2,
        iterations=3,
        schedule="linear",
        examples=x_and_y,
        batch_size=3,
        seed=4,
    )
    assert mask == same


@pytest.mark.parametrize("strategy", NAMES)
def test_normalized_hyperparameters_describe_the_mask_of_those_as_given(strategy: str) -> None:
    values = {"strategy": strategy, "density": 0.3, "prune_iterations": 2, "score_per_batch": True}
    as_given = PruningHparams.of(values)
    masks = [
        mask_from_hparams(
            TinyNet(), hparams, ScoringInputs(examples=examples(6), batch_size=4, seed=1, input_shape=(2, 6, 6))
        )
        for hparams in (as_given, as_given.normalized(10))
    ]
    assert masks[0] == masks[1]


@pytest.mark.parametrize("strategy", SCORERS)
@pytest.mark.parametrize("inverted", [False, True])
def test_scores_by_themselves_are_those_by_which_an_iteration_prunes(strategy: str, inverted: bool) -> None:
    model, found = TinyNet(width=8), list[dict[str, torch.Tensor]]()
    hparams = PruningHparams.of({"strategy": strategy, "density": 0.5, "invert_scores": inverted})
    inputs = ScoringInputs(seed=0, examples=examples(6), input_shape=(2, 6, 6), batch_size=4)
    mask_from_hparams(model, hparams, inputs, on_iteration=lambda _n, _m, scores: found.append(scores))

    scores = scores_from_hparams(model, hparams, inputs, Mask.ones(model))

    assert list(scores) == list(found[0])
    assert all(torch.equal(score, found[0][name]) for name, score in scores.items())


def test_what_builds_a_mask_without_scores_has_none() -> None:
    model = TinyNet(width=8)
    with pytest.raises(UsageError, match="without scores"):
        scores_from_hparams(model, PruningHparams.of({"strategy": "phew"}), ScoringInputs(seed=0), Mask.ones(model))
