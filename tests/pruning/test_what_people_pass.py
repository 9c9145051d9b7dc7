"""Arguments and examples in the forms that people have them: taken, or refused with a sentence that helps."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.wrapper.wrapper import PruningWrapper

X, Y = torch.randn(20, 8, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 10


def network(outputs: int = 10) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, outputs))


def pruned(examples: Any, strategy: str = "snip2", model: nn.Module | None = None, **options: Any) -> Mask:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of torch, too: it warns of arrays that cannot be written to
        return prune(model or network(), strategy, density=0.3, examples=examples, **options)


class Items(Dataset[Any]):
    def __init__(self, item: Callable[[int], Any]) -> None:
        self.item = item

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


def read_only(array: Any) -> Any:
    array.setflags(write=False)
    return array


FORMS: dict[str, Callable[[], Any]] = {
    "read-only arrays": lambda: (read_only(X.numpy().copy()), read_only(Y.numpy().copy())),
    "arrays of the other byte order": lambda: (X.numpy().astype(">f4"), Y.numpy().astype(">i8")),
    "arrays of negative strides": lambda: (X.flip(0).numpy()[::-1], Y.flip(0).numpy()[::-1]),
    "labels uint8": lambda: (X.numpy(), Y.numpy().astype(np.uint8)),
    "labels int16": lambda: (X, Y.to(torch.int16)),
    "labels uint64": lambda: (X, Y.to(torch.uint64)),
    "lists of numbers": lambda: (X.tolist(), Y.tolist()),
    "tuples of numbers as labels": lambda: (X, tuple(Y.tolist())),
    "lists of tensors": lambda: (list(X), list(Y)),
    "lists of arrays": lambda: (list(X.numpy()), list(Y.numpy())),
    "a list of examples": lambda: list(zip(X, Y, strict=True)),
    "a list of examples with int labels": lambda: [(x, int(y)) for x, y in zip(X, Y, strict=True)],
    "a list of examples, arrays": lambda: [[x.numpy(), y.numpy()] for x, y in zip(X, Y, strict=True)],
    "a list of batches": lambda: [(X[:3], Y[:3]), (X[3:], Y[3:])],
    "a loader without batches": lambda: DataLoader(TensorDataset(X, Y), batch_size=None),
    "a dataset of int labels": lambda: Items(lambda i: (X[i], int(Y[i]))),
    "a dataset of arrays": lambda: Items(lambda i: (X[i].numpy(), Y[i].numpy())),
    "sparse inputs": lambda: (X.to_sparse(), Y),
    "inputs with a gradient": lambda: (X.clone().requires_grad_(), Y),
    "float64": lambda: (X.double().numpy(), Y),
}


@pytest.mark.parametrize("form", FORMS)
def test_examples_of_any_form_give_the_same_mask(form: str) -> None:
    assert pruned(FORMS[form]()) == pruned((X, Y))


class ByName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@pytest.mark.parametrize(
    "examples",
    [
        collections.UserDict({"x": X, "labels": Y}),
        (collections.UserDict({"x": X}), Y),
        [collections.UserDict({"x": x, "label": y}) for x, y in zip(X, Y, strict=True)],
        [{"x": X[:5], "labels": Y[:5]}, {"x": X[5:], "labels": Y[5:]}],
        Items(lambda i: {"x": X[i], "label": int(Y[i])}),
        DataLoader(Items(lambda i: {"x": X[i], "labels": Y[i]}), batch_size=3),
    ],
)
def test_dictionaries_of_any_form_give_the_same_mask(examples: Any) -> None:
    assert pruned(examples, model=ByName()) == pruned((X, Y), model=ByName())


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        while True:
            yield X[0], Y[0]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (X, "examples: a Tensor; it takes"),
        (Endless(), "examples: this loader has no length; pass a list of some of its batches."),
        (iter([(X, Y)]), "examples: a list_iterator; it takes"),
        ((X.to("meta"), Y), "examples: a tensor on the meta device has no values."),
        ((X[:, :5], Y), r"examples: Sequential cannot run on inputs float32 \(20, 5\)"),
        (lambda _pass: (X, Y), "examples: it takes no function; pass the tuple that it returns."),
        ((X, [[1, 2], [3]]), "examples: lists must be rectangular"),
        ([(X[0], 1), (X[1, :3], 2)], "examples: the examples cannot be joined to a batch"),
        ((X, F.one_hot(Y, 10)), "examples: .* probabilities of classes are floats, such as y.float()"),
        ((X, Y + 1234567890), "examples: labels are 1234567890 to 1234567899, but the network has 10 outputs"),
    ],
)
def test_examples_that_are_none_are_refused(examples: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pruned(examples)


def test_arguments_that_a_network_does_not_take_are_named() -> None:
    with pytest.raises(UsageError, match="Its forward takes x, and the dictionary holds x, index."):
        pruned({"x": X, "index": Y, "labels": Y}, model=ByName())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0 is not a valid value; it takes a whole number of at least 1."),
        ({"batch_size": 2.5}, "batch_size: 2.5 is not a valid value"),
        ({"batch_size": True}, "batch_size: True is not a valid value"),
        ({"micro_batch_size": -1}, "micro_batch_size: -1 is not a valid value"),
        ({"input_shape": 8}, r"input_shape: 8 is not a valid value; it takes the shape of one example"),
        ({"input_shape": "8"}, r"input_shape: '8' is not a valid value"),
        ({"input_shape": (8, -1)}, r"input_shape: \(8, -1\) is not a valid value"),
        ({"loss": "mse"}, "loss: 'mse' is not a valid value; it takes a function of outputs and targets."),
        ({"loss": nn.CrossEntropyLoss}, "loss: the class CrossEntropyLoss is not a valid value"),
        ({"loss": None}, "loss: it takes a function of outputs and targets."),
        (
            {"output": "logits"},
            "output: 'logits' is not a valid value; it takes a function of what the network returns.",
        ),
        (
            {"loss": F.mse_loss},
            r"loss: mse_loss does not take these outputs and targets \(float32 \(20, 10\), int64 \(20,\)\): The size",
        ),
        ({"loss": nn.L1Loss()}, r"loss: L1Loss does not take these outputs and targets"),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_arguments_that_are_not_valid_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prune(network(), "snip2", density=0.3, examples=(X, Y), **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": nn.Linear}, "model: it must be a torch.nn.Module, and not the class Linear."),
        ({"model": network().state_dict()}, "model: it must be a torch.nn.Module, and not a OrderedDict."),
        ({"strategy": None}, "strategy: None is not a valid value; it takes the name of a method."),
        ({"keep": 3.5}, "keep: 3.5 is not a valid value; it takes a whole number."),
        ({"density": float("nan")}, "density: nan is not a valid value; it takes a finite number."),
    ],
)
def test_no_network_no_method_and_no_level_are_refused(arguments: dict[str, Any], message: str) -> None:
    defaults: dict[str, Any] = {"model": network(), "strategy": "magnitude"}
    with pytest.raises(UsageError, match=message):
        prune(**defaults | arguments)


@pytest.mark.parametrize(
    "options",
    [
        {"density": np.float32(0.25)},
        {"density": torch.tensor(0.25)},
        {"keep": np.int64(90)},
        {"keep": torch.tensor(90)},
    ],
)
def test_numbers_of_numpy_and_torch_are_numbers(options: dict[str, Any]) -> None:
    assert prune(network(), "magnitude", **options).kept == 90


@pytest.mark.parametrize("shape", [[8], torch.Size([8]), np.array([8])])
def test_any_sequence_of_whole_numbers_is_a_shape(shape: Any) -> None:
    assert prune(network(), "synflow", input_shape=shape) == prune(network(), "synflow", input_shape=(8,))


def test_an_error_in_a_loss_of_your_own_keeps_its_traceback() -> None:
    def loss(_outputs: Tensor, _targets: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pruned((X, Y), loss=loss)


def scripted_part() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(torch.jit.script(nn.Linear(8, 20)), nn.Linear(20, 10))


def with_weight(values: Tensor) -> nn.Module:
    model = network()
    model[0].weight = nn.Parameter(values, requires_grad=False)
    return model


@pytest.mark.parametrize("strategy", ["magnitude", "snip2", "synflow", "phew"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (scripted_part, "a TorchScript module cannot be pruned"),
        (lambda: with_weight(torch.ones(20, 8, dtype=torch.int8)), "'0.weight' holds numbers of type int8"),
        (lambda: with_weight(torch.ones(20, 8).to(torch.float8_e5m2)), "'0.weight' holds numbers of type float8_e5m2"),
        (lambda: with_weight(torch.ones(20, 8).to_sparse()), "'0.weight' is not one dense tensor"),
        (lambda: network().to("meta"), "'0.weight' is on the meta device and has no values"),
        (lambda: with_weight(torch.full((20, 8), torch.nan)), "'0.weight' are not"),
    ],
)
def test_weights_that_cannot_be_pruned_are_refused_by_name(
    make: Callable[[], nn.Module], message: str, strategy: str
) -> None:
    with pytest.raises(UsageError, match=message):
        prune(make(), strategy, density=0.3, examples=(X, Y))


def test_quantized_layers_are_said_to_be_quantized() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.ao.quantization.quantize_dynamic(network(), {nn.Linear})

    with pytest.raises(UsageError, match="Its layers are quantized: prune before quantizing."):
        prune(quantized, "magnitude")


class Spectral(nn.Module):
    """Real layers and a complex parameter, as a Fourier layer has."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.modes = network(), nn.Parameter(torch.randn(5, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.fft.irfft(torch.fft.rfft(x) * self.modes.to(torch.cfloat), n=8).to(x.dtype))


@pytest.mark.filterwarnings("ignore::pruning.weights.left_out.UnprunedWarning")
@pytest.mark.parametrize("strategy", ["magnitude", "random", "snip2", "synflow", "fisher2"])
def test_complex_weights_are_pruned_by_their_size_alone(strategy: str) -> None:
    mask = prune(Spectral(), strategy, density=0.3, examples=(X, Y))
    assert (mask.kept, mask.total) == (108, 360)
    if strategy in ("magnitude", "random"):
        assert prune(Spectral(), strategy, keep=2, prunable_layers="modes").total == 5
    else:
        with pytest.raises(UsageError, match="strategy: 'modes' is complex; choose magnitude or random"):
            prune(Spectral(), strategy, density=0.3, examples=(X, Y), prunable_layers="modes")


def test_a_module_without_a_type_of_its_own_is_asked_for_by_name() -> None:
    exported = torch.export.export(network(), (X,)).module()
    with pytest.raises(
        UsageError, match=r"It has parameters in 0\.\*, 2\.\*; ask for them with prunable_layers='0\.\*'"
    ):
        prune(exported, "magnitude")

    mask = prune(exported, "magnitude", density=0.3, prunable_layers="0.*,2.*")

    assert mask == prune(network(), "magnitude", density=0.3)


class Returns(nn.Module):
    def __init__(self, outputs: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.outputs = network(), outputs

    def forward(self, x: Tensor) -> Any:
        return self.outputs(self.net(x))


@pytest.mark.parametrize("strategy", ["snip2", "fisher2", "synflow"])
@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda y: ((y, y), y.mean(1, keepdim=True)), "output: the network returns a tuple"),
        (lambda y: ({"hidden": y}, y), "output: the network returns a tuple"),
        (lambda y: y.to(torch.complex64), "output: the outputs are complex numbers"),
        (lambda y: y.detach(), "do not depend on its prunable weights"),
    ],
)
def test_outputs_that_cannot_be_scored_are_refused(
    outputs: Callable[[Tensor], Any], message: str, strategy: str
) -> None:
    with pytest.raises(UsageError, match=message):
        pruned((X, Y), strategy, Returns(outputs))


@pytest.mark.parametrize("outputs", [lambda y: (None, y), lambda y: (y.argmax(1), y), lambda y: (y, {"hidden": y + 1})])
def test_the_logits_are_the_first_floats_of_a_tuple(outputs: Callable[[Tensor], Any]) -> None:
    assert pruned((X, Y), model=Returns(outputs)) == pruned((X, Y), model=Returns(lambda y: y))


@pytest.mark.parametrize("rate", ["0.2", None, [0.2], (), torch.ones(2), np.ones(2), True, float("nan"), 2, {}])
def test_a_prune_rate_that_is_no_number_within_0_and_1_is_refused(rate: Any) -> None:
    with pytest.raises(
        UsageError, match=r"^prune_rate: .* is not a valid value; it must be at least 0 and at most 1\.$"
    ):
        PruningWrapper(network(), prune_rate=rate, device="cpu", save_dir=None)
