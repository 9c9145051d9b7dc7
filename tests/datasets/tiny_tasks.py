"""A plug-in: a tiny dataset of each task, and tiny networks in float64 that learn them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datasets.formats.source_files import Arrays, SourceFiles
from datasets.registry import TASKS
from datasets.spec import DatasetSpec
from datasets.tasks.task import Facts, Reduction, Task
from foundations.metrics import Metric
from models.family import Family, NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

FEATURES, LENGTH, WORDS, PADDING, SEPARATOR = 5, 6, 9, 0, 8
TRAIN, TEST = 61, 23


def _split(count: int, seed: int, *, kind: str, targets: str) -> Arrays:
    import numpy as np

    random = np.random.RandomState(seed)
    lengths = random.randint(1, 2 * LENGTH, size=count)
    hidden = random.randn(count, FEATURES).astype(np.float32)
    if kind == "tokens":
        tokens = np.cumsum(random.randint(0, 2, size=lengths.sum())) % (WORDS - 2) + 1
        inputs: dict[str, Any] = {"tokens": tokens.astype(np.uint8), "documents": np.cumsum([0, *lengths])}
    elif kind == "series":
        inputs = {"inputs": (hidden[:, None] + random.randn(count, 2, FEATURES)).astype(np.float32)}
    elif kind == "images":
        inputs = {"images": random.randint(256, size=(count, 1, 4, 4)).astype(np.uint8)}
    else:
        inputs = {"inputs": hidden * 3 + 7}
    if targets == "real":
        inputs["targets"] = (hidden @ np.linspace(1, 2, 2 * FEATURES).reshape(FEATURES, 2) * 10 + 50).astype(np.float32)
    elif targets == "labels":
        inputs["labels"] = (lengths % 3 if kind == "tokens" else hidden.argmax(1) % 3).astype(np.int64)
    elif targets == "several":
        inputs["targets"] = (hidden[:, :3] > 0).astype(np.uint8)
    else:
        inputs["token_bytes"] = np.arange(WORDS) % 3 + 1
    return Arrays(inputs, "made up", ("a", "b", "c") if targets == "labels" else ())


def _dataset(name: str, kind: str, targets: str, task: str, **more: Any) -> DatasetSpec:
    def read(_: SourceFiles) -> dict[str, Arrays]:
        return {
            split: _split(count, seed, kind=kind, targets=targets)
            for seed, (split, count) in enumerate((("train", TRAIN), ("test", TEST)))
        }

    values: dict[str, Any] = {
        "inputs": kind,
        "num_classes": 3 if targets == "labels" else 0,
        "num_outputs": {"real": 2, "several": 3}.get(targets, 0),
    }
    if kind == "tokens":
        tokens = [
            len(read_of["tokens"])
            for read_of in (_split(n, s, kind=kind, targets=targets).tensors for s, n in enumerate((TRAIN, TEST)))
        ]
        values |= {"vocabulary": WORDS, "padding": PADDING, "separator": SEPARATOR, "input_shape": (LENGTH,)}
        values |= {"train_tokens": tokens[0], "test_tokens": tokens[1]}
    else:
        shape = {"vectors": (FEATURES,), "series": (2, FEATURES), "images": (1, 4, 4)}[kind]
        constants = {"vectors": (7.0, 3.0), "series": (0.0, 1.4), "images": (0.5, 0.3)}[kind]
        values |= {"input_shape": shape, "mean": constants[:1] * shape[0], "std": constants[1:] * shape[0]}
    return DatasetSpec(
        spelling=name,
        task=TASKS.find(task),
        num_train=TRAIN,
        num_test=TEST,
        read=read,
        origin="made up",
        **{**values, **more},
    )


ROWS = _dataset("tiny_rows", "vectors", "labels", "classification")
PRICES = _dataset("tiny_prices", "vectors", "real", "regression", target_mean=(50.0, 50.0), target_std=(30.0, 33.0))
TAGS = _dataset("tiny_tags", "vectors", "several", "multi_label")
WAVES = _dataset("tiny_waves", "series", "labels", "classification")
TAGGED = _dataset("tiny_tagged_images", "images", "several", "multi_label")
TEXT = _dataset("tiny_text", "tokens", "none", "language_modelling")
REVIEWS = _dataset("tiny_reviews", "tokens", "labels", "sequence_classification")

ABSOLUTE = Metric(spelling="absolute_error", label="absolute error", higher_is_better=False)


class AbsoluteError(Task):
    """Regression by the mean absolute error."""

    def loss(
        self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        from torch.nn import functional as F

        found = F.l1_loss(outputs, targets.to(outputs.dtype), reduction=reduction)
        return found if reduction == "mean" else found / outputs.shape[-1]

    def sums(self, outputs: Tensor, targets: Tensor, facts: Facts) -> list[Tensor]:
        return []

    def measured(
        self, loss: float, count: float, sums: Sequence[float], rows: Tensor | None, facts: Facts
    ) -> dict[str, float]:
        return {ABSOLUTE.spelling: loss}


ABSOLUTE_ERROR = AbsoluteError(
    spelling="absolute_regression", summary="least absolute errors", metrics=(ABSOLUTE,), stored_targets="targets"
)
OWN = replace(PRICES, spelling="tiny_own", task=ABSOLUTE_ERROR)


def _network(spec: NetworkSpec) -> nn.Module:
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            inputs = spec.inputs
            self.embedding = nn.Embedding(inputs.vocabulary, 8, dtype=torch.float64) if inputs.vocabulary else None
            width = (
                8 * (1 if inputs.per_token else inputs.shape[0]) if self.embedding else torch.Size(inputs.shape).numel()
            )
            self.hidden = nn.Linear(width, spec.width, dtype=torch.float64)
            self.relu = nn.ReLU()
            self.output = nn.Linear(spec.width, spec.outputs, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            if self.embedding is not None:
                x = self.embedding(x)
                if spec.inputs.per_token:  # a mean over the tokens so far
                    x = x.cumsum(-2) / torch.arange(1, x.shape[-2] + 1, device=x.device)[:, None]
                    return self.output(self.relu(self.hidden(x)))
            return self.output(self.relu(self.hidden(x.flatten(1).double())))

    return Network()


TINY = Family(
    spelling="tiny_W",
    pattern=r"tiny_(?P<width>\d+)",
    builder=_network,
    source="made up",
    examples=("tiny_16",),
    batchnorm=False,
    inputs=frozenset({"vectors", "series", "tokens", "images"}),
    per_token=frozenset({True, False}),
)
