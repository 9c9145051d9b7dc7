"""Pruning at once to N:M: every group of masks and of kept states, exact counts, and sentences of refusal."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.weights.left_out import UnprunedWarning
from tests.branches.small_branches import branch, describe, mask_of
from tests.pruning.foreign_networks import TransformerClassifier
from tests.training.small_runs import context
from tests.training.techniques.test_srste import Convolutions, places, plain_mask

pytestmark = pytest.mark.filterwarnings("ignore::pruning.weights.left_out.UnprunedWarning")
X, Y = torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3
DENSE = {"first.weight", "uneven.weight", "depthwise.weight"}
"""The layers of Convolutions that 2:4 leaves dense."""


def by_neuron(name: str, kept: Tensor) -> Tensor:
    """Return a mask of Convolutions with its neurons first."""
    return kept.transpose(0, 1) if name.startswith("up") else kept


def counts(kept: Tensor, m: int, *, flatten: bool = False) -> list[int]:
    """Return the numbers of kept weights of the groups of m inputs."""
    return [sum(bool(kept[index]) for index in group) for group in places(tuple(kept.shape), m, flatten=flatten)]


@pytest.mark.parametrize("uneven", ["skip", "pad", "flatten"])
@pytest.mark.parametrize("strategy", ["magnitude", "snip2", "grasp2", "synflow", "force2"])
def test_each_group_keeps_exactly_n(strategy: str, uneven: str) -> None:
    iterations = 4 if strategy in ("synflow", "force2") else 1

    mask = prune(
        Convolutions(), strategy, structure="2:4", structure_uneven=uneven, iterations=iterations, examples=(X, Y)
    )

    for name, kept in mask.items():
        rows = by_neuron(name, kept)
        if uneven == "skip" and name in DENSE:
            assert kept.all()
        else:
            sizes = [len(group) for group in places(tuple(rows.shape), 4, flatten=uneven == "flatten")]
            assert counts(rows, 4, flatten=uneven == "flatten") == [min(2, size) for size in sizes]


@pytest.mark.parametrize("structure", ["1:2", "2:4", "1:8", "3:8"])
def test_the_largest_weights_of_each_group_stay(structure: str) -> None:
    n, m = map(int, structure.split(":"))
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 5))

    mask = prune(model, "magnitude", structure=structure)

    for name, weight in model.named_parameters():
        if name in mask:
            assert mask[name].equal(plain_mask(weight.detach(), n, m))
    assert mask.kept * m == mask.total * n


def test_highest_scores_can_be_pruned_and_of_equal_ones_the_first_go() -> None:
    model = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2, 3, 4], [1, 1, 1, 1], [-4, 0, 0, 1]]))

    lowest = prune(model, "magnitude", structure="2:4")["weight"].int().tolist()
    highest = prune(model, "magnitude", structure="2:4", highest=True)["weight"].int().tolist()

    assert lowest == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1]]
    assert highest == [[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]]


def test_a_group_keeps_only_weights_of_the_starting_mask() -> None:
    model, start = nn.Linear(8, 16), torch.rand(16, 8, generator=torch.Generator().manual_seed(2)) < 0.4

    found = prune(model, "magnitude", structure="2:4", mask=Mask({"weight": start}))["weight"]

    assert not (found & ~start).any()
    assert counts(found, 4) == [min(2, count) for count in counts(start, 4)]


def test_the_inputs_of_unusual_layers_are_grouped() -> None:
    torch.manual_seed(0)
    shared, transformer = nn.Linear(8, 8), TransformerClassifier(0.0)
    tied = nn.Sequential(shared, nn.ReLU(), shared)
    wide = nn.Sequential(nn.Conv1d(4, 8, 3), nn.Conv1d(8, 4, 3), nn.Conv3d(4, 4, 1))

    for model in (tied, transformer, wide):
        mask = prune(model, "magnitude", structure="1:4", structure_uneven="pad")
        for name, kept in mask.items():
            sizes = [len(group) for group in places(tuple(kept.shape), 4)]
            assert counts(kept, 4) == [1] * len(sizes), name


def test_layers_without_the_structure_are_named_and_biases_stay() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UnprunedWarning)
        mask = prune(
            Convolutions(), "magnitude", structure="2:4", prune_bias=True, pruning_layers_to_ignore="last.weight"
        )

    words = " ".join(str(warning.message) for warning in said)
    assert "first.weight (the first convolution)" in words
    assert words.index("first.weight") < words.index("bias")
    assert "structure_uneven=pad" in words
    assert mask["hidden.bias"].all()
    assert mask["last.weight"].all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"density": 0.2}, "density: 2:4 keeps 2 of 4 weights of each group, a density of 0.5; leave the level out."),
        ({"fraction": 0.9}, "prune_fraction: 2:4 keeps 2 of 4"),
        ({"keep": 4}, "keep: 2:4 says how many weights each group keeps"),
        ({"effective_density": 0.5}, "effective_density: 2:4 says"),
        ({"allocation": "erk"}, "allocation: 2:4 says"),
        ({"rounding": "openlth"}, "rounding: 2:4 says"),
        ({"structure": "4:4"}, "structure: 4:4 prunes nothing"),
        ({"structure": "constant_fan_in"}, "structure: constant_fan_in does not say"),
        ({"structure": "1:64"}, "structure: no layer of this network can have 1:64. depthwise.weight is"),
        ({"structure": None, "structure_uneven": "pad"}, "structure_uneven, structure: it is for a structure"),
    ],
)
def test_other_levels_and_counts_are_refused_in_a_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        prune(Convolutions(), "magnitude", **{"structure": "2:4", **options})

    assert str(error.value).startswith(words)


def test_an_equal_level_is_the_same_pruning() -> None:
    alone = PruningHparams.of({"strategy": "magnitude", "structure": "1:3"})
    given = PruningHparams.of({"strategy": "magnitude", "structure": "1:3", "compression": 3})

    assert alone.simplified().canonical() == given.simplified().canonical()
    assert "structure" not in PruningHparams().simplified().canonical()


def test_every_kept_state_of_a_branch_has_the_structure_and_its_report_says_so(tmp_path: Path, digits: Path) -> None:
    run = branch(context(tmp_path, digits), "oneshot", strategy="snip1", structure="2:4").run

    mask, report = mask_of(run), run.sparsity()
    assert report is not None
    assert report["structure"]["name"] == "2:4"
    dense = report["structure"]["without"]
    assert report["requested"] == report["achieved"]
    states = run.kept_states(6)
    assert len(states) > 1
    for step, (name, kept) in itertools.product(states, mask.items()):
        weight = run.load_state(step)[name] != 0
        assert weight.equal(weight & kept)
        if name not in dense:
            assert set(counts(kept, 4)) == {2}
            assert max(counts(weight, 4)) <= 2
    assert dense.keys() < mask.keys()


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("oneshot", {"randomize_layerwise": True}, "a permuted mask is not 2:4"),
        ("gmp", {}, "^structure: the level grows from pruning to pruning"),
        ("chain", {"sparsities": "0.5,0.8"}, "2:4 is one; use oneshot"),
    ],
)
def test_branches_that_would_break_the_structure_are_refused(name: str, flags: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        describe(name, structure="2:4", **flags)
