"""NTK-SAP against the published code by its recorded draws, and against its definition in float64."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.masks.selection import select
from pruning.methods.ntk_sap import Draws, NtkSapHparams, ntk_sap, set_last_draw
from pruning.prune import prune
from pruning.rounding import SYNAPTIC_FLOW, Counted, kept_as_published
from pruning.scoring.inputs import ScoringInputs
from pruning.scoring.scoring import Scores, open_scoring
from tests.pruning.foreign_networks import SmallGPT, TransformerClassifier
from tests.pruning.golden import Case, assert_scores_agree, cases_where, difference
from tests.pruning.nets import TinyNet, build

pytestmark = pytest.mark.filterwarnings("ignore::pruning.weights.left_out.UnprunedWarning")
SHAPE = (2, 6, 6)


class Recorded(Draws):
    """The draws of the published code: `<iteration>.<step>.<purpose>`."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def weight(self, iteration: int, step: int, name: str, like: Tensor) -> Tensor:
        return self.tensors[f"{iteration}.{step}.weight.{name}"]

    def noise(self, iteration: int, step: int, name: str, like: Tensor) -> Tensor:
        return self.tensors[f"{iteration}.{step}.noise.{name}"]

    def inputs(self, iteration: int, step: int, number: int, like: Tensor) -> Tensor:
        return self.tensors[f"{iteration}.{step}.input"]


def iterated(
    model: nn.Module, hparams: PruningHparams, shape: tuple[int, ...], draws: Draws
) -> tuple[Mask, list[Scores]]:
    """Prune with given draws, by Synaptic-Flow's counts; return the mask and the scores of each iteration."""
    assert isinstance(hparams, NtkSapHparams)
    mask, scores = Mask.ones(model), []
    counted = Counted(mask.total, mask.total)
    with open_scoring(model, hparams, mask, ScoringInputs(seed=0, input_shape=shape)) as scoring:
        for iteration in range(1, hparams.prune_iterations + 1):
            scoring.set_mask(mask)
            scoring.iteration = iteration
            scores.append(ntk_sap(scoring, hparams, draws))
            mask = select(scores[-1], mask, kept_as_published(hparams, counted, iteration, mask.kept), ties="pruned")
    return mask, scores


@pytest.mark.parametrize("name", cases_where(lambda case: case.description["method"] == "ntk_sap"))
def test_scores_and_masks_are_those_of_the_published_code(name: str) -> None:
    case = Case(name)
    model = build(case.description["model"]["spec"]).double()
    model.load_state_dict(case.tensors("weights"), strict=False)
    options = case.options
    hparams = PruningHparams.of(
        {
            "strategy": "ntk_sap",
            "density": options["density"],
            "prune_iterations": options["epochs"],
            "rounding": SYNAPTIC_FLOW,
            "ntk_repeats": options["R"],
            "ntk_batches": options["num_batches"],
            "ntk_batch_size": options["batch_size"],
            "ntk_epsilon": options["epsilon"],
            "ntk_start_in_eval_mode": not options["prune_train_mode"],
        }
    )

    mask, scores = iterated(model, hparams, tuple(options["input_shape"]), Recorded(case.tensors("draws")))

    assert_scores_agree(scores[-1], case.tensors("scores"), 1.0, case.tolerance)
    if case.has("scores_first_step"):
        noise = 10 * case.description["float32_noise_measured"]["first_round"]
        assert_scores_agree(scores[0], case.tensors("scores_first_step"), 1.0, noise)
    assert difference(mask, case.mask()) == (0, 0)


def by_definition(model: TinyNet, mask: Mask, hparams: NtkSapHparams, iteration: int, seed: int) -> Scores:
    """Return the scores with one network after the other, weights written in place, batchnorm set by hand."""
    draws, total = (
        Draws(seed, "kaiming_normal"),
        {name: torch.zeros(kept.shape).double() for name, kept in mask.items()},
    )
    for step in range(hparams.ntk_repeats * hparams.ntk_batches):
        x = draws.inputs(iteration, step, 0, torch.empty(hparams.ntk_batch_size, *SHAPE)).double()
        networks, weights = [], []
        for factor in (0.0, hparams.ntk_epsilon):
            network = TinyNet(width=3).double()
            network.load_state_dict(model.state_dict())
            named = dict(network.named_parameters())
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.ones_(module.weight)
                    nn.init.zeros_(module.bias)
                    module.reset_running_stats()
                    module.momentum = 1.0
            own = {}
            for name, kept in mask.items():
                z = draws.noise(iteration, step, name, kept).double()
                own[name] = draws.weight(iteration, step, name, named[name]).double() + factor * z
                named[name].data = own[name] * kept
            networks.append(network)
            weights.append(own)
        networks[0].train()(x)
        for ours, theirs in zip(networks[0].buffers(), networks[1].buffers(), strict=True):
            theirs.copy_(ours)
        outputs = [network.eval()(x) for network in networks]
        (outputs[0] - outputs[1]).square().sum().backward()
        for network, own in zip(networks, weights, strict=True):
            for name in mask:
                gradient = network.get_parameter(name).grad
                assert gradient is not None
                total[name] += gradient * own[name]
    return {name: score.abs() * mask[name] for name, score in total.items()}


def test_scores_are_those_of_the_definition_in_every_iteration() -> None:
    model, found = TinyNet(width=3).double(), []
    options: dict[str, Any] = {"ntk_repeats": 2, "ntk_batches": 2, "ntk_batch_size": 5, "ntk_epsilon": 0.02}

    prune(
        model,
        "ntk_sap",
        density=0.3,
        iterations=2,
        seed=4,
        input_shape=SHAPE,
        on_iteration=lambda _number, mask, scores: found.append((mask, scores)),
        **options,
    )

    hparams = PruningHparams.of({"strategy": "ntk_sap", **options})
    assert isinstance(hparams, NtkSapHparams)
    for iteration, mask in enumerate([Mask.ones(model), found[0][0]]):
        assert_scores_agree(found[iteration][1], by_definition(model, mask, hparams, iteration, 4), 1.0, 1e-9)


def test_the_mask_depends_on_the_seed_and_not_on_weights_or_scales_of_batchnorm() -> None:
    other = TinyNet(width=3, seed=1)
    other.load_state_dict(
        {
            name: tensor if "bias" in name and "bn" not in name and "shortcut" not in name else other.state_dict()[name]
            for name, tensor in TinyNet(width=3).state_dict().items()
        }
    )
    masks = [
        prune(model, "ntk_sap", density=0.3, seed=seed, input_shape=SHAPE, ntk_batch_size=4)
        for model, seed in ((TinyNet(width=3), 0), (other, 0), (TinyNet(width=3), 1))
    ]
    assert masks[0] == masks[1]
    assert masks[0] != masks[2]


def test_the_first_batch_in_eval_mode_gives_other_scores_to_the_first_iteration_alone() -> None:
    found: dict[bool, list[Scores]] = {False: [], True: []}
    for in_eval_mode, scores in found.items():
        hparams = PruningHparams.of(
            {
                "strategy": "ntk_sap",
                "density": 0.5,
                "prune_iterations": 2,
                "rounding": SYNAPTIC_FLOW,
                "ntk_batch_size": 4,
                "ntk_start_in_eval_mode": in_eval_mode,
            }
        )
        model = TinyNet(width=3).double()
        with open_scoring(model, hparams, Mask.ones(model), ScoringInputs(seed=0, input_shape=SHAPE)) as scoring:
            for iteration in (1, 2):
                scoring.iteration = iteration
                scores.append(ntk_sap(scoring, hparams))  # type: ignore[arg-type]
    first, second = zip(found[False], found[True], strict=True)
    assert not torch.allclose(first[0]["conv.weight"], first[1]["conv.weight"])
    assert_scores_agree(second[0], second[1], 1.0, 1e-12)


def test_the_last_draw_is_the_one_that_the_last_step_scored() -> None:
    model = TinyNet(width=3)
    hparams = PruningHparams.of({"strategy": "ntk_sap", "prune_iterations": 3, "ntk_repeats": 2, "ntk_batches": 2})

    set_last_draw(model, hparams, seed=5)  # type: ignore[arg-type]

    weight, bias = model.block1.conv2.weight, model.conv.bias
    assert bias is not None
    assert torch.equal(weight, Draws(5, "kaiming_normal").weight(2, 3, "block1.conv2.weight", weight))
    assert torch.equal(model.bn.weight, torch.ones(3))
    assert torch.equal(bias, TinyNet(width=3).get_parameter("conv.bias"))


@pytest.mark.parametrize(
    ("network", "shape", "options"),
    [
        (
            lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)),
            SHAPE,
            {},
        ),
        (lambda: Recurrent(), (4, 3), {"prunable_layers": "all,LSTM"}),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)), (6,), {}),
    ],
    ids=["depthwise", "recurrent", "weight norm"],
)
def test_networks_of_no_paper_keep_the_exact_number(network, shape, options) -> None:
    scores: list[Scores] = []
    mask = prune(
        network(),
        "ntk_sap",
        density=0.3,
        input_shape=shape,
        ntk_batch_size=4,
        on_iteration=lambda _number, _mask, found: scores.append(found),
        **options,
    )
    assert mask.kept == round(0.3 * mask.total)
    assert all(bool(score.any()) for score in scores[0].values())


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(3, 4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.lstm(x)[0][:, -1])
        return out


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(5, 8), nn.Linear(3, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.out(torch.relu(self.a(x) + self.b(y)))
        return out


def test_two_inputs_are_drawn_apart_and_tokens_behind_their_embeddings() -> None:
    tokens, labels = torch.randint(0, 11, (6, 6)), torch.arange(6) % 3
    both = (torch.randn(6, 5), torch.randn(6, 3))
    for model, x in ((TwoInputs(), both), (TransformerClassifier(0.1), tokens), (SmallGPT(0.1), tokens)):
        mask = prune(model, "ntk_sap", density=0.5, examples=(x, labels), ntk_batch_size=4)
        assert mask.kept == round(0.5 * mask.total)


def test_what_cannot_be_scored_is_refused_in_a_sentence() -> None:
    norm = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with pytest.raises(UsageError, match="ntk_batch_size: batchnorm cannot normalize batches of one"):
        prune(norm, "ntk_sap", density=0.3, input_shape=(4,), ntk_batch_size=1)
    with pytest.raises(UsageError, match="takes tokens; pass examples"):
        prune(TransformerClassifier(0.1), "ntk_sap", density=0.3, input_shape=(6,))
    with pytest.raises(UsageError, match="nothing flows through 'embed.weight'"):
        examples = (torch.randint(0, 11, (6, 6)), torch.arange(6) % 3)
        prune(TransformerClassifier(0.1), "ntk_sap", examples=examples, prunable_layers="all,Embedding")
    with pytest.raises(UsageError, match="ntk_keep_draw: prune returns a mask"):
        prune(TinyNet(), "ntk_sap", input_shape=SHAPE, ntk_keep_draw=True)
    for name, bad in itertools.product(("ntk_repeats", "ntk_batches", "ntk_batch_size", "ntk_epsilon"), (0, -1)):
        options: dict[str, Any] = {name: bad}
        with pytest.raises(UsageError, match=name):
            prune(TinyNet(), "ntk_sap", input_shape=SHAPE, **options)
