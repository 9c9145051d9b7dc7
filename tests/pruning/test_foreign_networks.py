"""Every method on networks that are not ours: exact masks, the same with and without dropout, or a clear refusal."""

from __future__ import annotations

import copy
import functools
import itertools
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundations.errors import UsageError
from pruning.compute_mask import scores_from_hparams
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.registry import METHODS
from pruning.scoring.inputs import ScoringInputs
from pruning.scoring.linearized import linearized
from tests.pruning.foreign_networks import CLASSES, FOREIGN, LENGTH
from tests.pruning.prunable_rule import CONVOLUTIONAL_OR_LINEAR, PROJECTIONS

STRATEGIES = [method.spelling.replace("N", "1") for method in METHODS]
_TOKENS = "strategy: phew walks from inputs of numbers, and this network takes tokens."
_SEVERAL = "strategy: phew walks from one input, and this network takes several."
_OWN_LOSS = (
    "loss: the method divides logits by a temperature, but this network computes its loss by itself; pass a loss of "
    "outputs and targets."
)
_UNITS = (
    "the units of this network cannot be followed through {}, but only through layers, sums, flattening, "
    "concatenations of channels and operations on each channel."
)
REFUSED = {
    ("TransformerEncoder", "phew"): _TOKENS,
    ("GPT, tied, with loss", "phew"): _TOKENS,
    ("GPT, tied, with loss", "grasp1"): _OWN_LOSS,
    ("GPT, tied, with loss", "graspabs1"): _OWN_LOSS,
    ("LSTM", "phew"): _TOKENS,
    ("two inputs, tuple", "phew"): _SEVERAL,
    ("two inputs, dictionary", "phew"): _SEVERAL,
    ("attention", "phew"): _UNITS.format("torch.nn.functional.linear on dimension 2, where units are dimension 1"),
    ("timm vit_tiny", "phew"): _UNITS.format("torch.Tensor.transpose"),
}
"""Networks that cannot be pruned, with their error messages."""
_FAST, _SLOW = ("magnitude", "random", "snip1", "synflow"), ("timm resnet18", "phew")


def pairs(*, with_refused: bool) -> list[Any]:
    """Return the pairs of networks and methods; those that take longest are slow."""
    found = []
    for name, strategy in itertools.product(FOREIGN, STRATEGIES):
        is_slow = (name == "torchvision efficientnet" and strategy not in _FAST) or (name, strategy) == _SLOW
        if with_refused or (name, strategy) not in REFUSED:
            found.append(pytest.param(name, strategy, marks=[pytest.mark.slow] if is_slow else []))
    return found


@functools.cache
def network_of(name: str, p: float) -> nn.Module:
    return FOREIGN[name].network(p)


@functools.cache
def mask_of(name: str, strategy: str, p: float) -> Mask:
    """Return the mask of a tenth of a network's weights."""
    options: dict[str, Any] = {} if strategy == "phew" else {"prunable_layers": FOREIGN[name].layers}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prune(network_of(name, p), strategy, density=0.1, examples=FOREIGN[name].examples(), seed=3, **options)


def weights_of(name: str, strategy: str) -> dict[int, nn.Parameter]:
    """Return the prunable weights by identity: of convolutions, linear layers and attention; of LSTMs on request."""
    found = {}
    for module in network_of(name, 0.3).modules():
        for tensor, parameter in module.named_parameters(recurse=False):
            is_dense = isinstance(module, CONVOLUTIONAL_OR_LINEAR) and tensor == "weight"
            is_projection = isinstance(module, nn.MultiheadAttention) and tensor in PROJECTIONS
            is_asked_for = isinstance(module, nn.LSTM) and strategy != "phew" and tensor.startswith("weight")
            if is_dense or is_projection or is_asked_for:
                found[id(parameter)] = parameter
    return found


@pytest.mark.parametrize(("name", "strategy"), pairs(with_refused=True))
def test_a_network_is_pruned_to_the_exact_number_or_refused(name: str, strategy: str) -> None:
    if (name, strategy) in REFUSED:
        with pytest.raises(UsageError) as caught:
            mask_of(name, strategy, 0.3)
        assert str(caught.value) == REFUSED[name, strategy]
        return
    weights = weights_of(name, strategy)
    total = sum(weight.numel() for weight in weights.values())

    mask = mask_of(name, strategy, 0.3)

    parameters = {tensor: network_of(name, 0.3).get_parameter(tensor) for tensor in mask}
    assert {id(parameter) for parameter in parameters.values()} == weights.keys()
    assert len(parameters) == len(weights)
    assert all(mask[tensor].shape == parameter.shape for tensor, parameter in parameters.items())
    assert mask.total == total
    assert mask.pruned == (9 * total + 5) // 10  # a half rounds up
    assert int(sum(tensor.sum() for tensor in mask.values())) == mask.kept


@pytest.mark.parametrize(("name", "strategy"), pairs(with_refused=False))
def test_dropout_changes_no_entry_of_a_mask(name: str, strategy: str) -> None:
    assert mask_of(name, strategy, 0.3) == mask_of(name, strategy, 0.0)


@pytest.mark.parametrize("name", FOREIGN)
def test_dropout_changes_the_outputs_of_these_networks_in_training(name: str) -> None:
    example = FOREIGN[name].examples()
    inputs = example[0] if isinstance(example, tuple) else example
    outputs = []
    for p in (0.3, 0.3, 0.0, 0.0):
        network = copy.deepcopy(network_of(name, p)).train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0
        outputs.append(first_tensor(called(network, inputs)))

    assert not torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[2], outputs[3])


def called(network: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return network(**inputs)
    return network(*inputs) if isinstance(inputs, tuple) else network(inputs)


def first_tensor(outputs: Any) -> Tensor:
    if isinstance(outputs, dict):
        outputs = outputs["logits"]
    return outputs[0] if isinstance(outputs, tuple) else outputs


@pytest.mark.parametrize("strategy", ["grasp1", "graspabs1"])
def test_a_language_model_has_grasp_scores_by_a_loss_of_its_logits(strategy: str) -> None:
    def shifted(outputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs["logits"][:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    masks = []
    for p in (0.3, 0.0):
        with pytest.warns(UserWarning, match="places: 48 of 648 weights are not prunable by default"):
            network, examples = network_of("GPT, tied, with loss", p), FOREIGN["GPT, tied, with loss"].examples()
            masks.append(prune(network, strategy, density=0.1, examples=examples, loss=shifted))

    assert masks[0] == masks[1]
    assert (masks[0].kept, masks[0].total) == (60, 600)


def scores_of(name: str, strategy: str, network: nn.Module) -> dict[str, Tensor]:
    """Return the scores of a network by the library."""
    hparams = PruningHparams.of({"strategy": strategy, "prunable_layers": FOREIGN[name].layers})
    mask = Mask.to_prune(network, hparams)
    return scores_from_hparams(network, hparams, ScoringInputs(seed=0, examples=FOREIGN[name].examples()), mask)


def by_autograd(network: nn.Module, value: Tensor, names: Any) -> dict[str, Tensor]:
    parameters = {name: network.get_parameter(name) for name in names}
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=False)
    return {
        name: (weight * gradient).abs().detach()
        for (name, weight), gradient in zip(parameters.items(), gradients, strict=True)
    }


def in_double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: in_double(part) for name, part in value.items()}
    return tuple(in_double(part) for part in value)


@pytest.mark.parametrize(
    "name", ["TransformerEncoder", "GPT, tied, with loss", "LSTM", "two inputs, dictionary", "attention"]
)
def test_snip_is_the_weight_times_the_gradient_of_the_mean_loss(name: str) -> None:
    network = FOREIGN[name].network().double()
    examples, reference = in_double(FOREIGN[name].examples()), FOREIGN[name].network(0.0).double().eval()
    for module in reference.modules():
        module.train(isinstance(module, nn.BatchNorm2d))
    if isinstance(examples, dict):
        loss = reference(**examples)["loss"]
    else:
        loss = F.cross_entropy(first_tensor(called(reference, examples[0])), examples[1])

    found = scores_of(name, "snip1", network)

    assert_same(found, by_autograd(reference, loss, found))


@pytest.mark.parametrize("name", ["TransformerEncoder", "LSTM", "GPT, tied, with loss"])
def test_fisher_is_half_the_squared_weight_times_the_mean_of_squared_gradients(name: str) -> None:
    network, reference = FOREIGN[name].network().double(), FOREIGN[name].network(0.0).double().eval()
    examples = in_double(FOREIGN[name].examples())
    found = scores_of(name, "fisher1", network)

    squares: dict[str, Tensor] = {}
    for index in range(CLASSES):
        row = slice(index, index + 1)
        if isinstance(examples, dict):
            loss = reference(**{part: tensor[row] for part, tensor in examples.items()})["loss"]
        else:
            loss = F.cross_entropy(first_tensor(reference(examples[0][row])), examples[1][row])
        for tensor, product in by_autograd(reference, loss, found).items():
            squares[tensor] = squares.get(tensor, torch.zeros_like(product)) + product.square() / (2 * CLASSES)

    assert_same(found, squares)


@pytest.mark.parametrize("name", ["GPT, tied, with loss", "two inputs, tuple", "two inputs, dictionary", "attention"])
def test_synflow_is_the_weight_times_the_gradient_of_the_summed_outputs_of_ones(name: str) -> None:
    found = scores_of(name, "synflow", network_of(name, 0.3))

    reference = FOREIGN[name].network(0.0).double().eval()
    with torch.no_grad():
        for tensor in (*reference.parameters(), *reference.buffers()):
            tensor.abs_()
    if name.startswith("GPT"):  # the example of ones is behind the embedding
        tokens = reference.get_submodule("tokens")
        tokens.register_forward_hook(lambda _module, _inputs, output: torch.ones_like(output))
    with linearized(reference):
        if name.startswith("GPT"):
            outputs = reference(torch.zeros(1, LENGTH, dtype=torch.long))["logits"]
        else:
            outputs = called(reference, as_ones(FOREIGN[name].examples()[0]))

    assert_same(found, by_autograd(reference, outputs.sum(), found))


def as_ones(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: as_ones(part) for name, part in inputs.items()}
    return tuple(map(as_ones, inputs)) if isinstance(inputs, tuple) else torch.ones_like(inputs[:1]).double()


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert any(bool(score.any()) for score in found.values())
    for name, score in found.items():
        torch.testing.assert_close(score.double(), wanted[name], rtol=1e-9, atol=1e-15, msg=f"{name}: {{}}".format)


@pytest.mark.parametrize("inputs", ["tensor", "dictionary", "tuple"])
def test_phew_takes_one_input_however_it_is_passed(inputs: str) -> None:
    network, x = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), torch.randn(3, 4)
    passed = {"tensor": x, "dictionary": {"input": x}, "tuple": (x,)}[inputs]

    mask = prune(network, "phew", density=0.5, examples=(passed, torch.arange(3)))

    assert mask == prune(network, "phew", density=0.5, input_shape=(4,))


@pytest.mark.parametrize("inplace", [False, True])
def test_hard_sigmoids_have_second_derivatives(inplace: bool) -> None:
    torch.manual_seed(0)
    first = nn.Linear(4, 6)
    network = nn.Sequential(first, nn.Hardsigmoid(inplace), nn.Linear(6, 3)).double()
    reference = copy.deepcopy(network)
    x, y = torch.randn(3, 4, dtype=torch.float64), torch.arange(3)
    hparams = PruningHparams.of({"strategy": "graspabs1"})

    found = scores_from_hparams(network, hparams, ScoringInputs(seed=0, examples=(x, y)), Mask.ones(network))

    hidden = reference.get_submodule("0")(x)
    logits = reference.get_submodule("2")((hidden / 6 + 0.5).clamp(0, 1))
    weights = {name: reference.get_parameter(name) for name in found}
    gradients = torch.autograd.grad(F.cross_entropy(logits / 200, y), list(weights.values()), create_graph=True)
    product = sum((gradient * gradient.detach()).sum() for gradient in gradients)
    assert_same(found, by_autograd(reference, product, found))  # type: ignore[arg-type]
