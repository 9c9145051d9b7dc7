"""Batches of tokens: streams that are cut into sequences, and documents that are padded."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.formats.source_files import Arrays, SourceFiles
from datasets.hparams import DatasetHparams
from datasets.loading import tokens as token_loaders
from datasets.loading.batches import Loader, LoaderConfig
from datasets.loading.loader import open_loader
from datasets.prepared import ensure_prepared
from datasets.registry import DATASETS, TASKS
from datasets.spec import DatasetSpec

SEPARATOR, LENGTH = 50, 4
DOCUMENTS = [[1, 2, 3, 4, 5], [6], [7, 8, 9, 10, 11, 12, 13], [14, 15]]


def read(_: SourceFiles) -> dict[str, Arrays]:
    joined = np.concatenate([np.array(each, np.uint8) for each in DOCUMENTS])
    places = np.cumsum([0, *map(len, DOCUMENTS)])
    part = Arrays({"tokens": joined, "documents": places}, "made up")
    return {"train": part, "test": part}


STREAM = DatasetSpec(
    spelling="made_stream",
    task=TASKS.find("language_modelling"),
    inputs="tokens",
    num_train=4,
    num_test=4,
    train_tokens=15,
    test_tokens=15,
    vocabulary=51,
    separator=SEPARATOR,
    input_shape=(LENGTH,),
    read=read,
    origin="made up",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    entries = [*DATASETS, STREAM]
    monkeypatch.setattr(DATASETS, "_entries", entries)
    monkeypatch.setattr(DATASETS, "_found", {})
    ensure_prepared("made_stream", tmp_path, allow_download=False, report=lambda _: None)
    return tmp_path


def opened(folder: Path, config: LoaderConfig | None = None, **values: Any) -> Loader:
    hparams = DatasetHparams.of({"dataset_name": "made_stream", "batch_size": 2, **values})
    return open_loader(hparams, folder, config)


def counted(batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> list[int]:
    """Return the targets that count, in order."""
    return [token for _, targets in batches for token in targets.flatten().tolist() if token != -100]


STORED = [token for each in DOCUMENTS for token in (SEPARATOR, *each)]


@pytest.mark.parametrize("stride", [None, 1, 2, 3, 4])
@pytest.mark.parametrize("length", [1, 3, 4, 7, 30])
def test_every_test_token_but_the_first_counts_once(folder: Path, length: int, stride: int | None) -> None:
    if stride is not None and stride > length:
        pytest.skip("refused")
    loader = opened(folder, sequence_length=length, stride=stride)

    assert counted(loader.test_batches()) == STORED[1:]
    assert sum(len(targets) for _, targets in loader.test_batches()) == loader.num_test


def test_targets_are_the_next_tokens_and_context_comes_before_those_that_count(folder: Path) -> None:
    for inputs, targets in opened(folder, stride=2).test_batches():
        for tokens, next_tokens in zip(inputs.tolist(), targets.tolist(), strict=True):
            kept = [place for place, token in enumerate(next_tokens) if token != -100]
            for place in kept:
                start = STORED.index(tokens[0]) if tokens[0] != SEPARATOR else None
                assert place == LENGTH - 1 or tokens[place + 1] == next_tokens[place]
                assert start is None or STORED[start + place + 1] == next_tokens[place]


def test_an_epoch_has_every_token_once_and_documents_in_an_order_of_its_own(folder: Path) -> None:
    loader = opened(folder)
    epochs = [counted(loader.train_batches(epoch)) for epoch in range(6)]

    assert len({tuple(each) for each in epochs}) > 1
    assert epochs[0] == counted(loader.train_batches(0))
    for each in epochs:
        assert len(each) == len(STORED) - 1
        assert set(each) >= set(range(1, 16))
    assert loader.num_train == 5


def test_an_epoch_resumes_at_any_batch_and_processes_share_its_batches(folder: Path) -> None:
    whole = list(opened(folder).train_batches(3))
    later = list(opened(folder).train_batches(3, first=1))
    parts = [list(opened(folder, LoaderConfig(rank=rank, world_size=2)).train_batches(3)) for rank in range(2)]

    for (x, y), (z, w) in zip(whole[1:], later, strict=True):
        assert torch.equal(x, z) and torch.equal(y, w)
    for number, (x, y) in enumerate(whole):
        assert torch.equal(x, torch.cat([part[number][0] for part in parts]))
        assert torch.equal(y, torch.cat([part[number][1] for part in parts]))


def test_held_out_sequences_are_the_first_of_the_stream_and_not_trained_on(folder: Path) -> None:
    loader = opened(folder, validation_examples=2)

    assert counted(loader.validation_batches()) == STORED[1 : 2 * LENGTH]
    assert set(counted(loader.train_batches(0))) <= set(STORED[2 * LENGTH :])


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_short_test_sequences_are_evaluated_in_few_batches_of_which_every_process_gets_some(
    folder: Path, world_size: int
) -> None:
    parts = [
        list(opened(folder, LoaderConfig(rank=rank, world_size=world_size), batch_size=1).test_batches())
        for rank in range(world_size)
    ]

    assert [len(part) for part in parts] == [1] * world_size
    assert [token for part in parts for token in counted(iter(part))] == STORED[1:]


def test_test_batches_are_as_large_as_those_of_training_or_bounded_by_their_logits(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_loaders, "_EVALUATION_LOGITS", 3 * LENGTH * 51)
    sizes = {
        size: [len(targets) for _, targets in opened(folder, batch_size=size).test_batches()] for size in (1, 2, 4)
    }

    assert sizes == {1: [3, 2], 2: [3, 2], 4: [4, 1]}


def test_a_subsample_has_its_fraction_of_the_tokens(folder: Path) -> None:
    loader = opened(folder, subsample_fraction=0.5)

    assert len(counted(loader.train_batches(0))) == -(-len(STORED) // 2) - 1
    assert set(counted(loader.train_batches(0))) <= set(STORED)


def test_a_text_without_separators_is_one_stream(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = dataclasses.replace(STREAM, separator=None)
    monkeypatch.setattr(DATASETS, "_entries", [*(each for each in DATASETS if each is not STREAM), plain])
    monkeypatch.setattr(DATASETS, "_found", {})

    assert counted(opened(folder).test_batches()) == list(range(2, 16))


@pytest.mark.parametrize("separator", [SEPARATOR, None])
@pytest.mark.parametrize("length", [1, 2, 3, 6, 30])
def test_sequences_are_cut_from_the_joined_documents_wherever_these_begin(
    folder: Path, monkeypatch: pytest.MonkeyPatch, length: int, separator: int | None
) -> None:
    changed = dataclasses.replace(STREAM, separator=separator)
    monkeypatch.setattr(DATASETS, "_entries", [*(each for each in DATASETS if each is not STREAM), changed])
    monkeypatch.setattr(DATASETS, "_found", {})
    loader = opened(folder, sequence_length=length, batch_size=3)
    before = [] if separator is None else [separator]

    for epoch in range(4):
        rows = [
            [*x.tolist(), y.tolist()[-1]]
            for inputs, targets in loader.train_batches(epoch)
            for x, y in zip(inputs, targets, strict=True)
        ]
        joined = (
            [token for each in order for token in (*before, *each)] for order in itertools.permutations(DOCUMENTS)
        )
        assert any(sorted(rows) == sorted(cut(stream, length)) for stream in joined)


def cut(stream: list[int], length: int) -> list[list[int]]:
    """Return sequences of a length with the token after each; -100 after the last, where there is none."""
    last = max(1, -(-(len(stream) - 1) // length)) * length
    filled = [*stream, *[stream[0] if stream[0] == SEPARATOR else 0] * (last - len(stream))]
    after = [*stream, *[-100] * (last + 1 - len(stream))]
    return [[*filled[start : start + length], after[start + length]] for start in range(0, last, length)]


@pytest.mark.parametrize("length", [1, 2, 4, 20])
@pytest.mark.parametrize("world_size", [1, 2])
def test_sequences_are_those_of_the_joined_documents_however_many_batches_are_read_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, length: int, world_size: int
) -> None:
    def read(most: int) -> list[Any]:
        monkeypatch.setattr(token_loaders, "_READ_TOKENS", most)
        parts = [
            opened(folder, LoaderConfig(rank=rank, world_size=world_size), sequence_length=length).train_batches(1)
            for rank in range(world_size)
        ]
        return [(x.tolist(), y.tolist()) for batches in zip(*parts, strict=True) for x, y in batches]

    assert read(1) == read(3 * length) == read(2**17)
    sequences = sorted(pair for batch in read(1) for pair in zip(*batch, strict=True))
    assert sequences in [_cut(order, length) for order in itertools.permutations(DOCUMENTS)]


def _cut(documents: Iterable[list[int]], length: int) -> list[tuple[list[int], list[int]]]:
    """Return the sequences of joined documents and their targets, sorted, by a plain loop."""
    joined = [token for each in documents for token in (SEPARATOR, *each)]
    starts = range(0, len(joined) - 1, length)
    inputs = [(joined + [SEPARATOR] * length)[start : start + length] for start in starts]
    targets = [(joined + [-100] * length)[start + 1 : start + length + 1] for start in starts]
    return sorted(zip(inputs, targets, strict=True))
