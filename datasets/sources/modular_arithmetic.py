"""`modular_arithmetic`: a op b = ? modulo a number, of which a share of all pairs is for training.

Networks that are trained on it long after they know the training pairs learn the others late and suddenly (A. Power et
al., Grokking, 2022). An example is the four tokens `a op b =`, and its class is the result: classification of
sequences, where the answer is expected at the last position. The tokens are the numbers from 0 to modulus - 1, then the
operation and `=`. It is computed; pairs are in a random order by `split_seed`, and the first are for training.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from datasets.formats.source_files import Arrays, SourceFiles
from datasets.hparams import TokenHparams
from datasets.registry import DATASETS
from datasets.spec import DatasetSpec
from datasets.tasks.sequence_classification import SEQUENCE_CLASSIFICATION
from foundations.description.hparams import hparam
from foundations.errors import UsageError
from foundations.inputs import TOKENS

NAME = "modular_arithmetic"
_WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided"}
"""The operations, in names of folders."""
_MOST = 1024
"""The largest modulus; there are a million pairs then."""


@dataclass(frozen=True, kw_only=True)
class ModularHparams(TokenHparams):
    """Modular arithmetic, and the share of its pairs that is for training."""

    modulus: int = hparam(97, at_least=3, at_most=_MOST)
    """The modulus; of a division, a prime."""

    operation: str = hparam("+", choices=tuple(_WORDS))
    """The operation. Divisions leave out pairs with b = 0."""

    train_share: float = hparam(0.5, above=0, below=1)
    """The share of all pairs that is for training; the others are for testing."""

    split_seed: int = hparam(0, at_least=0, at_most=2**32 - 1)
    """The seed by which pairs are chosen for training."""

    @property
    def spec(self) -> DatasetSpec:
        """The dataset of these hyperparameters. Raises: UsageError where there is none."""
        if self.dataset_name != NAME:
            raise UsageError(f"'{self.dataset_name}' has its parameters in its name; write {NAME}.", "dataset_name")
        if self.operation == "/" and any(self.modulus % each == 0 for each in range(2, int(self.modulus**0.5) + 1)):
            raise UsageError(f"{self.modulus} is not a prime, so there is no division.", "modulus")
        words = (self.modulus, _WORDS[self.operation], self.train_share, self.split_seed)
        return DATASETS.find("_".join(map(str, (NAME, *words))))


def read(modulus: int, operation: str, num_train: int, split_seed: int) -> dict[str, Arrays]:
    """Return both splits: tokens of four each, and labels."""
    import numpy as np

    a, b = np.divmod(np.arange(modulus * modulus), modulus)
    if operation == "/":
        a, b = a[b > 0], b[b > 0]
    inverses = np.array([0, *(pow(each, -1, modulus) for each in range(1, modulus))]) if operation == "/" else b
    results = {"+": a + b, "-": a - b, "*": a * b, "/": a * inverses[b]}[operation] % modulus
    order = np.random.RandomState(split_seed).permutation(len(a))
    rows = np.stack([a, np.full_like(a, modulus), b, np.full_like(a, modulus + 1)], 1)[order].astype(np.uint16)
    names = tuple(map(str, range(modulus)))
    metadata = {"vocabulary": str(modulus + 2), "tokenizer": f"0 to {modulus - 1}, {operation}, ="}

    def split(part: slice) -> Arrays:
        chosen = rows[part]
        tensors = {
            "tokens": chosen.reshape(-1),
            "documents": np.arange(len(chosen) + 1) * 4,
            "labels": results[order][part],
        }
        return Arrays(tensors, "computed", names, metadata)

    return {"train": split(slice(num_train)), "test": split(slice(num_train, None))}


@functools.cache
def variant(modulus: int, operation: str, train_share: float, split_seed: int) -> DatasetSpec:
    """Return the dataset of given parameters. Raises: UsageError where training or testing has no pairs."""
    pairs = modulus * (modulus - (operation == "/"))
    num_train = round(train_share * pairs)
    if not 0 < num_train < pairs:
        raise UsageError(
            f"{train_share} of {pairs} pairs leaves none for {'testing' if num_train else 'training'}.", "train_share"
        )

    def read_variant(_: SourceFiles) -> Mapping[str, Arrays]:
        return read(modulus, operation, num_train, split_seed)

    return DatasetSpec(
        spelling="_".join(map(str, (NAME, modulus, _WORDS[operation], train_share, split_seed))),
        task=SEQUENCE_CLASSIFICATION,
        inputs=TOKENS,
        num_train=num_train,
        num_test=pairs - num_train,
        train_tokens=4 * num_train,
        test_tokens=4 * (pairs - num_train),
        num_classes=modulus,
        input_shape=(4,),
        vocabulary=modulus + 2,
        read=read_variant,
        origin="computed: a op b = ? (Power et al. 2022)",
        hparams=ModularHparams,
    )


def _named(groups: Mapping[str, str]) -> DatasetSpec:
    """Return the dataset with the parameters in a name; those of the hyperparameters' defaults if it has none."""
    if not groups:
        return MODULAR_ARITHMETIC
    operation = next(sign for sign, word in _WORDS.items() if word == groups["operation"])
    return variant(int(groups["modulus"]), operation, float(groups["share"]), int(groups["seed"]))


MODULAR_ARITHMETIC = DatasetSpec(
    spelling=NAME,
    pattern=rf"{NAME}(?:_(?P<modulus>\d+)_(?P<operation>{'|'.join(_WORDS.values())})_(?P<share>[\d.e-]+)_(?P<seed>\d+))?",
    named=_named,
    task=SEQUENCE_CLASSIFICATION,
    inputs=TOKENS,
    num_train=4704,
    num_test=4705,
    train_tokens=4 * 4704,
    test_tokens=4 * 4705,
    num_classes=97,
    input_shape=(4,),
    vocabulary=99,
    read=lambda _: read(97, "+", 4704, 0),
    origin="computed: a op b = ? (Power et al. 2022)",
    hparams=ModularHparams,
)
"""The dataset of the default hyperparameters, for lists."""
