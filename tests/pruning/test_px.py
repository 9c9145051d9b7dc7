"""PX against the published code, and against its definition in float64, path by path."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.scoring.scoring import Scores
from tests.pruning.foreign_networks import SmallGPT, TransformerClassifier
from tests.pruning.golden import Case, assert_scores_agree, cases_where, difference
from tests.pruning.nets import TinyNet
from tests.pruning.test_ntk_sap import Recurrent, TwoInputs

pytestmark = [
    pytest.mark.filterwarnings("ignore::pruning.prune.CollapseWarning"),
    pytest.mark.filterwarnings("ignore::pruning.weights.left_out.UnprunedWarning"),
]


def scored(model: nn.Module, examples: Any, strategy: str = "px2", **options: Any) -> Scores:
    """Return the scores of the first iteration."""
    found: list[Scores] = []
    prune(model, strategy, examples=examples, on_iteration=lambda _n, _m, scores: found.append(scores), **options)
    return found[0]


@pytest.mark.parametrize("name", cases_where(lambda case: case.description["method"] == "px"))
def test_scores_and_masks_are_those_of_the_published_code(name: str) -> None:
    case, counts, scores = Case(name), [], []
    options = case.options

    def on_iteration(_number: int, kept: Mask, found: Scores) -> None:
        counts.append(kept.kept)
        scores.append(found)

    mask = prune(
        case.model(),
        f"px{options['examples_per_class']}",
        density=options["density"],
        iterations=options["rounds"],
        rounding="synaptic_flow",
        examples=case.examples,
        batch_size=options["batch_size"],
        px_as_published=True,
        score_in_train_mode="train" in options["mode"],
        on_iteration=on_iteration,
    )

    if case.has("scores_float64"):
        assert_scores_agree(scores[-1], case.tensors("scores_float64"), 1.0, 1e-9)
    assert_scores_agree(scores[-1], case.tensors("scores"), 1.0, case.tolerance)
    assert counts == case.description["kept_after_each_round"]
    assert difference(mask, case.mask()) == (0, 0)


def test_scores_are_the_sums_over_the_paths_of_the_definition() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(3, 4).double(), nn.Linear(4, 3).double(), nn.Linear(3, 2).double()]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.LeakyReLU(0.1), layers[2])
    x, labels = torch.randn(4, 3).double(), torch.tensor([0, 0, 1, 1])

    found = scored(model, (x, labels))

    first, second, third = (layer.weight.detach() for layer in layers)
    wanted = {f"{2 * place}.weight": torch.zeros_like(layer.weight) for place, layer in enumerate(layers)}
    squares = {output: torch.zeros(()).double() for output in range(2)}
    for example in x:
        one = layers[0](example)
        two = layers[1](one.relu())
        gates = (one > 0).double(), torch.where(two > 0, torch.ones(()).double(), 0.1)
        for i, j, k, output in itertools.product(range(3), range(4), range(3), range(2)):
            squares[output] += example[i] ** 2 * gates[0][j] * gates[1][k]
    for i, j, k, output in itertools.product(range(3), range(4), range(3), range(2)):
        path = first[j, i] ** 2 * second[k, j] ** 2 * third[output, k] ** 2
        for name, place in (("0.weight", (j, i)), ("2.weight", (k, j)), ("4.weight", (output, k))):
            wanted[name][place] += (squares[output] * path).item()
    assert_scores_agree(found, wanted, 1.0, 1e-12)


def test_batchnorm_in_eval_mode_is_a_weight_of_each_path() -> None:
    torch.manual_seed(0)
    linear, norm, out = nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    variance = norm.get_buffer("running_var").uniform_(0.5, 1.5)
    folded = nn.Linear(3, 4, bias=False)
    folded.weight.data = linear.weight * (norm.weight / (variance + norm.eps).sqrt())[:, None]
    x, labels = torch.randn(4, 3), torch.tensor([0, 0, 1, 1])

    ours = scored(nn.Sequential(linear, norm, nn.ReLU(), out), (x, labels))
    plain = scored(nn.Sequential(folded, nn.ReLU(), out), (x, labels))

    kept = 1 / (1 + norm.eps) ** 0.5  # of the network of ones, which divides by the deviation of a variance of 1
    assert_scores_agree(ours, {"0.weight": plain["0.weight"], "3.weight": plain["2.weight"]}, kept, 1e-6)


def test_parts_and_batches_of_examples_give_the_same_scores() -> None:
    model, x, labels = TinyNet(), torch.randn(6, 2, 6, 6), torch.arange(6) % 3
    whole = scored(model, (x, labels))
    assert_scores_agree(scored(model, (x, labels), micro_batch_size=1), whole, 1.0, 1e-12)
    assert_scores_agree(scored(model, (x, labels), batch_size=4), whole, 1.0, 1e-12)


def test_pruned_weights_score_nothing_and_the_model_stays_as_it_was() -> None:
    model, x, labels = TinyNet(), torch.randn(6, 2, 6, 6), torch.arange(6) % 3
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    mask = prune(model, "random", density=0.5)
    found = scored(model, (x, labels), mask=mask, density=0.2)
    assert all(not score[~mask[name]].any() for name, score in found.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training


def test_train_mode_scores_convolutions_by_rounding_errors_where_a_mean_follows_the_last_batchnorm() -> None:
    """Checks a sentence of the documentation."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
    )
    model.extend([nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)])
    nn.init.constant_(model.get_parameter("4.bias"), 0.3)
    examples = (torch.randn(6, 2, 8, 8), torch.arange(6) % 3)
    for in_train_mode in (True, False):
        found = scored(model, examples, px_as_published=True, score_in_train_mode=in_train_mode)
        ratio = max(found["0.weight"].max(), found["3.weight"].max()) / found["8.weight"].max()
        assert ratio < 1e-12 if in_train_mode else ratio > 1e-6


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.SiLU(inplace=True)),
            *(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6), nn.ReLU6(), nn.Flatten(), nn.Linear(96, 3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


TOKENS = torch.arange(36).view(6, 6) % 11
NETWORKS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "depthwise": (Depthwise, torch.randn(6, 3, 4, 4), {}),
    "transformer": (lambda: TransformerClassifier(0.1), TOKENS, {}),
    "tied decoder": (lambda: SmallGPT(0.1), TOKENS, {}),
    "two inputs": (TwoInputs, (torch.randn(6, 5), torch.randn(6, 3)), {}),
    "recurrent": (Recurrent, torch.randn(6, 4, 3), {"prunable_layers": "all,LSTM"}),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)), torch.randn(6, 6), {}),
    "biases": (TinyNet, torch.randn(6, 2, 6, 6), {"prune_bias": True, "prune_batchnorm": True}),
}


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_no_paper_keep_the_exact_number(name: str, published: bool) -> None:
    network, x, options = NETWORKS[name]
    labels = torch.arange(6) % 3
    mask = prune(
        network(), "px2", density=0.3, iterations=2, examples=(x, labels), px_as_published=published, **options
    )
    assert mask.kept == round(0.3 * mask.total)


def test_modes_that_exclude_each_other_are_refused_and_eval_mode_is_the_default() -> None:
    modes = {"score_in_train_mode": True, "score_in_eval_mode": True}
    with pytest.raises(UsageError, match="score_in_train_mode, score_in_eval_mode: give one of them"):
        PruningHparams.of({"strategy": "px10", **modes})
    named = PruningHparams.of({"strategy": "px10", "score_in_eval_mode": True})
    assert named.simplified() == PruningHparams.of({"strategy": "px10"}).simplified()
    with pytest.raises(UsageError, match="nothing flows through 'embed.weight'"):
        prune(
            TransformerClassifier(0.1), "px2", examples=(TOKENS, torch.arange(6) % 3), prunable_layers="all,Embedding"
        )
