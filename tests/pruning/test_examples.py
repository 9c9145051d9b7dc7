"""`prune` scores with all kinds of examples that people pass, or names their faults."""

from __future__ import annotations

from collections import UserDict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from foundations.errors import UsageError
from pruning.compute_mask import TiesWarning
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.scoring.outputs import OutputsWarning

X, Y = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 10


def network(outputs: int = 10) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, outputs))


def snip(examples: Any, model: nn.Module | None = None, strategy: str = "snip2", **arguments: Any) -> Mask:
    return prune(model or network(), strategy, density=0.3, examples=examples, **arguments)


class Pairs(Dataset[Any]):
    def __init__(self, as_dict: bool) -> None:
        self.as_dict = as_dict

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Any:
        return {"input": X[index], "labels": Y[index]} if self.as_dict else (X[index], int(Y[index]))


class NoLength(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield X[0], Y[0]


SAME: dict[str, Any] = {
    "int32 labels": (X, Y.int()),
    "uint8 labels": (X, Y.to(torch.uint8)),
    "arrays": (X.numpy(), Y.numpy()),
    "int16 arrays": (X.numpy(), Y.numpy().astype(np.int16)),
    "float64 arrays": (X.double().numpy(), Y.numpy()),
    "a list of labels": (X, Y.tolist()),
    "a list of two": [X, Y],
    "one batch in a list": [(X, Y)],
    "batches": [(X[:30], Y[:30]), [X[30:], Y[30:]]],
    "a dictionary": {"input": X, "labels": Y},
    "a dictionary of another class": UserDict({"input": X, "label": Y}),
}


@pytest.mark.parametrize("kind", SAME)
def test_examples_of_every_kind_give_the_same_mask(kind: str) -> None:
    assert snip(SAME[kind]) == snip((X, Y))


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: DataLoader(d, batch_size=7)])
def test_of_a_dataset_and_a_loader_the_first_of_each_class_are_read(wrap: Callable[..., Any], as_dict: bool) -> None:
    assert snip(wrap(Pairs(as_dict))) == snip((X[:20], Y[:20]))  # two of each class


def test_a_shuffled_loader_is_read_in_an_order_of_the_seed_and_leaves_no_trace() -> None:
    own = torch.Generator().manual_seed(5)
    for loader in (
        DataLoader(TensorDataset(X, Y), batch_size=6, shuffle=True),
        DataLoader(TensorDataset(X, Y), batch_size=6, shuffle=True, generator=own),
    ):
        before, of_own = torch.get_rng_state(), own.get_state()
        found = [snip(loader, seed=seed) for seed in (0, 0, 1)]
        assert found[0] == found[1] != found[2]
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(own.get_state(), of_own)


def test_a_loader_without_an_end_is_refused() -> None:
    with pytest.raises(UsageError, match="examples: this loader has no length; pass a list of some of its batches"):
        snip(DataLoader(NoLength(), batch_size=2))


@pytest.mark.parametrize("labels", [Y + 10**9, Y * 7 - 3, torch.where(Y == 0, -1, Y), Y > 4])
def test_labels_may_have_any_values_where_the_loss_takes_them(labels: Tensor) -> None:
    numbers = labels.long().unique()

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs, torch.searchsorted(numbers, y.long()))

    classes = torch.searchsorted(numbers, labels.long())
    assert snip((X, labels), loss=loss) == snip((X, classes))


def test_bool_labels_are_two_classes() -> None:
    assert snip((X, Y > 4), network(2)) == snip((X, (Y > 4).long()), network(2))


@pytest.mark.parametrize(("loss", "ignored"), [(F.cross_entropy, -100), (nn.CrossEntropyLoss(ignore_index=3), 3)])
def test_the_label_that_is_ignored_is_no_class(loss: Any, ignored: int) -> None:
    labels = torch.where(Y == 3, ignored, Y)
    others = Y != 3
    sizes: list[int] = []
    mask = snip((X, labels), loss=loss, on_iteration=lambda *_: sizes.append(1))
    assert mask.kept == snip((X[others], Y[others])).kept
    with pytest.raises(UsageError, match="no label that counts"):
        snip((X, torch.full_like(Y, ignored)), loss=loss)


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)])
@pytest.mark.parametrize("size", [None, 2])
def test_parts_of_a_batch_count_by_the_targets_that_are_not_ignored(weight: Tensor | None, size: int | None) -> None:
    x, y = torch.randn(6, 1, 5, 5, dtype=torch.float64), torch.randint(0, 3, (6, 5, 5))
    y[0, :4] = y[3] = y[2] = -100
    model, loss, found = Segmenter(), nn.CrossEntropyLoss(weight=weight), []
    (expected,) = torch.autograd.grad(loss(model(x), y), [model.conv.weight])
    prune(
        model,
        "snip1",
        density=0.5,
        examples=(x, y),
        loss=loss,
        micro_batch_size=size,
        on_iteration=lambda _n, _m, scores: found.append(scores["conv.weight"]),
    )
    torch.testing.assert_close(found[0], (model.conv.weight * expected).abs().detach())


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 10), nn.Linear(8, 10)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.a(first) + self.b(second)


class OneDictionary(TwoInputs):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return super().forward(batch["first"], batch["second"])


@pytest.mark.parametrize("strategy", ["snip2", "grasp2", "fisher2", "synflow", "magnitude"])
def test_inputs_may_be_a_tuple_or_a_dictionary_of_arguments_or_an_argument(strategy: str) -> None:
    model = TwoInputs()
    whole = OneDictionary()
    whole.load_state_dict(model.state_dict())
    named = {"first": X, "second": -X}
    mask = snip(((X, -X), Y), model, strategy)
    assert mask.total == 160
    assert mask == snip((named, Y), model, strategy) == snip((named, Y), whole, strategy)


def test_several_inputs_cannot_be_followed_by_walks() -> None:
    with pytest.raises(UsageError, match="phew walks from one input"):
        snip(((X, -X), Y), TwoInputs(), "phew")


class Returns(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.wrap = network(), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.net(x))


@dataclass
class Answer:
    logits: Tensor
    note: str = ""


Named = namedtuple("Named", "hidden logits")
WRAPS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda out: (out, None),
    "list": lambda out: [out],
    "dictionary": lambda out: {"hidden": out * 2, "logits": out},
    "torchvision's dictionary": lambda out: {"out": out, "aux": out * 2},
    "dataclass": Answer,
    "named tuple": lambda out: Named(out * 2, out),
}


@pytest.mark.parametrize("strategy", ["snip2", "grasp2", "taylor2", "fisher2", "force2", "synflow", "synflowl2"])
@pytest.mark.parametrize("kind", WRAPS)
def test_logits_are_found_in_outputs_of_every_kind(kind: str, strategy: str) -> None:
    model = Returns(WRAPS[kind])
    mask, plain = snip((X, Y), model, strategy), snip((X, Y), model.net, strategy)
    assert mask == Mask({f"net.{name}": tensor for name, tensor in plain.items()})


def test_the_first_of_several_outputs_is_scored_and_a_function_chooses_others() -> None:
    model = Returns(lambda out: (out, out.flip(1)))
    with pytest.warns(OutputsWarning, match="returns 2 tensors, of which the first is scored"):
        assert snip((X, Y), model).kept == 108
    flipped = Returns(lambda out: out.flip(1))
    chosen = snip((X, Y), model, output=lambda outputs: outputs[1])
    assert chosen == snip((X, Y), flipped)
    both = snip((X, Y), model, loss=lambda outputs, y: sum(F.cross_entropy(part, y) for part in outputs))
    assert both.kept == 108


class ComputesItsLoss(nn.Module):
    """As Hugging Face's models: with labels, its outputs have a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(12, 8), nn.Linear(8, 12)

    def forward(self, tokens: Tensor, labels: Tensor | None = None) -> dict[str, Tensor | None]:
        logits = self.out(self.words(tokens))
        loss = None if labels is None else F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"loss": loss, "logits": logits}


@pytest.mark.filterwarnings("ignore::pruning.weights.left_out.UnprunedWarning")
def test_a_network_that_computes_its_loss_is_scored_by_it() -> None:
    tokens, model, found = torch.randint(0, 12, (6, 5)), ComputesItsLoss(), []
    (expected,) = torch.autograd.grad(model(tokens, tokens)["loss"], [model.out.weight])
    examples = {"tokens": tokens, "labels": tokens}
    for strategy in ("snip1", "fisher1", "taylor1"):
        prune(
            model,
            strategy,
            density=0.5,
            examples=examples,
            on_iteration=lambda _n, _m, scores: found.append(scores["out.weight"]),
        )
    torch.testing.assert_close(found[0], (model.out.weight * expected).abs().detach())
    with pytest.raises(UsageError, match="loss: the method divides logits by a temperature"):
        prune(model, "grasp1", density=0.5, examples=examples)
    assert prune(model, "synflow", density=0.5, examples=examples).kept == 48


class OfSequences(nn.Module):
    """Takes floats, beside them integers and booleans; with labels, its outputs have a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(
        self, x: Tensor, lengths: Tensor, order: Tensor, padded: Tensor, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        steps = torch.arange(x.shape[1]) < lengths[:, None]
        x = x.gather(1, order[..., None].expand_as(x)) * (steps & ~padded)[..., None]
        logits = self.out(self.hidden(x).relu().mean(1))
        return {"logits": logits} if labels is None else {"logits": logits, "loss": F.cross_entropy(logits, labels)}


class OfPixels(nn.Module):
    """Takes pixels of any type; with labels, its outputs have a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(6, 4)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.out(x.to(self.out.weight.dtype))
        return {"logits": logits, "loss": F.cross_entropy(logits, labels)}


def test_labels_of_a_network_that_takes_integers_are_no_numbers_to_synflow() -> None:
    examples = {"x": torch.ones(8, 6, dtype=torch.uint8), "labels": torch.arange(8) % 4}
    assert prune(OfPixels(), "synflow", density=0.5, examples=examples).kept == 12


def test_synflow_makes_ones_of_numbers_and_not_of_what_stands_beside_them() -> None:
    model, y = OfSequences(), torch.arange(8) % 4
    x = torch.randn(8, 5, 6)
    rest = {
        "lengths": torch.full((8,), 3),
        "order": torch.arange(5).flip(0).expand(8, 5),
        "padded": torch.zeros(8, 5, dtype=torch.bool),
    }
    found: list[dict[str, Tensor]] = []
    for labels in ({"labels": y}, None):
        examples = {"x": x, **rest, **labels} if labels else ((x, *rest.values()), y)
        prune(
            model, "synflow", density=0.5, examples=examples, on_iteration=lambda _n, _m, scores: found.append(scores)
        )
    copy = OfSequences().double()
    copy.load_state_dict({name: tensor.abs() for name, tensor in model.state_dict().items()})
    one = {name: part[:1] for name, part in rest.items()}
    (expected,) = torch.autograd.grad(copy(torch.ones(1, 5, 6).double(), **one)["logits"].sum(), [copy.hidden.weight])
    for scores in (found[0], found[-1]):
        torch.testing.assert_close(scores["hidden.weight"], (copy.hidden.weight * expected).abs().detach())


@pytest.mark.filterwarnings("ignore::pruning.weights.left_out.UnprunedWarning")
def test_synflow_of_a_network_of_tokens_has_ones_behind_the_embeddings() -> None:
    out, tokens = nn.Linear(40, 3), torch.randint(0, 12, (6, 5))
    model = nn.Sequential(nn.Embedding(12, 8), nn.Flatten(), out)
    found: list[Tensor] = []
    examples = (tokens, torch.arange(6) % 3)
    prune(
        model,
        "synflow",
        density=0.5,
        examples=examples,
        on_iteration=lambda _n, _m, scores: found.append(scores["2.weight"]),
    )
    torch.testing.assert_close(found[0], out.weight.detach().double().abs())
    with pytest.raises(UsageError, match=r"prunable_layers: nothing flows through '0\.weight'"):
        prune(model, "synflow", density=0.5, examples=examples, prunable_layers="all,Embedding")
    with pytest.raises(UsageError, match="this network takes tokens; pass examples"):
        prune(model, "synflow", density=0.5, input_shape=(5,))
    with pytest.raises(UsageError, match="this network takes tokens"):
        prune(model, "phew", density=0.5, examples=examples)


def test_a_network_that_writes_into_its_input_leaves_the_examples_alone() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), *network())  # type: ignore[misc]
    x, y = X.clone(), Y.clone()
    for strategy in ("snip2", "grasp2", "fisher2", "synflow"):
        snip((x, y), model, strategy, iterations=2)
    assert torch.equal(x, X)


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": ((), "it takes"),
    "inputs alone": (X, "it takes"),
    "a string": ("mnist", "it takes"),
    "a dictionary without labels": ({"x": X}, "no labels, but x"),
    "other numbers": ((X, Y[:-1]), "60 inputs and 59 targets"),
    "no examples": ((X[:0], Y[:0]), "there are none"),
    "column labels": ((X, Y[:, None]), "such as y[:, 0]"),
    "pixels": (((X * 100).to(torch.uint8), Y), "Pixels must be floats"),
    "another shape": ((X[:, :5], Y), "cannot run on inputs float32"),
    "labels from 1": ((X, Y + 1), "labels are 1 to 10, but the network has 10 outputs (classes 0 to 9)"),
    "labels of other classes": ((X, Y * 2 - 4), "labels are -4 to 14"),
    "float targets": ((X, Y.float()), "pass another loss, such as mse_loss"),
    "objects": ((np.array([object()] * 60), Y), "cannot be made a tensor"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_examples_that_cannot_be_scored_are_refused_in_one_line(kind: str) -> None:
    examples, sentence = REFUSED[kind]
    with pytest.raises(UsageError) as refused:
        snip(examples)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.hparams in (("examples",), ("loss",))


def test_probabilities_of_classes_are_targets_of_cross_entropy_and_other_floats_are_not() -> None:
    soft = torch.softmax(torch.randn(60, 10), 1)
    assert snip((X, soft)).kept == 108
    with pytest.raises(UsageError, match="takes class labels"):
        snip((X, torch.randn(60, 10)))


def test_one_output_has_no_cross_entropy() -> None:
    with pytest.raises(UsageError, match="cross-entropy needs an output for each class"):
        snip((X, Y % 2), network(1))
    mask = snip((X, Y % 2), network(1), loss=lambda out, y: F.binary_cross_entropy_with_logits(out[:, 0], y.float()))
    assert mask.kept == 54


LOSSES: dict[str, tuple[Any, str]] = {
    "not reduced": (nn.CrossEntropyLoss(reduction="none"), "it must return one number"),
    "a number": (lambda _outputs, _y: 1.0, "it must return a tensor"),
    "of no weight": (lambda _outputs, y: y.float().mean(), "do not depend on its prunable weights"),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_that_cannot_be_differentiated_is_refused(kind: str) -> None:
    loss, sentence = LOSSES[kind]
    for strategy in ("snip2", "grasp2") if kind == "not reduced" else ("snip2", "grasp2", "fisher2"):
        with pytest.raises(UsageError, match=sentence) as refused:
            snip((X, Y), strategy=strategy, loss=loss)
        assert refused.value.hparams == ("loss",)


def test_a_batch_of_one_with_batchnorm_is_refused_by_the_size() -> None:
    model = nn.Sequential(nn.Linear(8, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10))
    with pytest.raises(UsageError, match="score_batch_size: batchnorm cannot normalize one example"):
        snip((X, Y), model, batch_size=19)
    assert snip((X, Y), model, batch_size=18).kept == 108


def test_scores_that_are_all_equal_are_warned_of() -> None:
    model = nn.Linear(8, 10)
    nn.init.constant_(model.weight, 0.5)
    with pytest.warns(TiesWarning, match=r"all 80 scores are 0\.5: the order of the weights decides"):
        prune(model, "magnitude", density=0.5)


@pytest.mark.parametrize(
    ("wrong", "call"),
    [
        ({"sparsity": 0.9}, "fraction=0.9"),
        ({"amount": 0.9}, "fraction=0.9"),
        ({"amount": 20}, "keep=N - 20"),
        ({"prune_fraction": 0.9}, "fraction=0.9"),
        ({"prune_iterations": 3}, "iterations=3"),
    ],
)
def test_arguments_of_other_libraries_are_answered_with_the_same_call(wrong: dict[str, Any], call: str) -> None:
    with pytest.raises(UsageError) as refused:
        prune(network(), "magnitude", **wrong)
    assert call in str(refused.value)


def test_biases_and_batchnorm_are_pruned_where_they_are_asked_for() -> None:
    model = nn.Sequential(nn.Linear(8, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10))
    assert prune(model, "magnitude", density=0.5).total == 360
    assert prune(model, "magnitude", density=0.5, prune_bias=True).total == 390
    assert prune(model, "magnitude", density=0.5, prune_batchnorm=True).total == 380
    assert prune(model, "magnitude", density=0.5, prune_bias=True, prune_batchnorm=True).total == 430
    ignored = prune(model, "magnitude", density=0.8, pruning_layers_to_ignore="3.weight")
    assert (ignored.total, int(ignored["3.weight"].sum())) == (360, 200)
