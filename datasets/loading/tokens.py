"""Batches of tokens: padded documents with a target each, or sequences cut from joined documents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.hparams import TokenHparams
from datasets.loading.arrays import NumberedLoader
from datasets.loading.batches import Batch, Loader, LoaderConfig, Part
from datasets.loading.sequences import Sequences
from datasets.loading.stream import Stream
from datasets.prepared import load_tensors
from datasets.tasks.language_modelling import IGNORED
from foundations.errors import UsageError
from foundations.examples import Rows
from foundations.random_streams import generator

_READ_TOKENS = 2**17
"""The most tokens of training batches that are read at once (1 MB), unless one batch has more."""
_EVALUATION_LOGITS = 2**22
"""The most logits in a batch of evaluation (16 MB), unless a training batch has more."""


class DocumentLoader(NumberedLoader):
    """A loader of documents with a target each: cut to the length of a sequence, or padded at their ends."""

    def __init__(self, hparams: TokenHparams, folder: Path, config: LoaderConfig) -> None:
        """Load a prepared dataset. Raises: UsageError if documents are short and there is no padding token."""
        super().__init__(hparams, folder, config)
        self._length, padding = hparams.length, hparams.spec.padding
        shortest = min(int(tensors["documents"].diff().min()) for tensors in self._splits.values())
        if padding is None and shortest < self._length:
            raise UsageError(
                f"a document of '{hparams.dataset_name}' has {shortest} tokens, fewer than {self._length}, and there "
                "is no padding token.",
                "sequence_length",
            )
        self._padding = 0 if padding is None else padding
        self._positions = torch.arange(self._length, device=self._device)

    def _read(self, tensors: dict[str, Tensor], numbers: Tensor) -> Tensor:
        starts, ends = tensors["documents"][numbers], tensors["documents"][numbers + 1]
        places = starts[:, None] + self._positions
        tokens = tensors["tokens"][places.clamp(max=len(tensors["tokens"]) - 1)].long()
        return tokens.where(places < ends[:, None], self._padding)

    def _finished(self, inputs: Tensor, *, is_train: bool) -> Tensor:
        return inputs


class StreamLoader(Loader):
    """A loader for language modelling: documents in an order by (key, epoch), joined to a stream, cut into sequences.

    Sequences come in a random order too. The last one of a stream is filled; what fills it counts for nothing. Test
    and validation sequences are cut from the stored order.
    """

    def __init__(self, hparams: TokenHparams, folder: Path, config: LoaderConfig) -> None:
        """Load a prepared dataset from the folder of all datasets."""
        super().__init__(hparams, config)
        self._length, self._stride = hparams.length, hparams.stride or hparams.length
        whole, test = (self._stream(split, folder) for split in ("train", "test"))
        held_out = hparams.validation_examples * self._length
        self._streams: dict[Part, Stream] = {
            "train": self._subsample(whole.part(held_out, len(whole)), hparams),
            "validation": whole.part(0, held_out),
            "test": test,
        }

    def _stream(self, split: str, folder: Path) -> Stream:
        tensors = load_tensors(self._hparams.spec.spelling, split, folder)
        if "token_bytes" in tensors:
            self.token_bytes = tensors["token_bytes"].to(self._device)
        tokens, documents = (tensors[name].to(self._device) for name in ("tokens", "documents"))
        return Stream.of(tokens, documents, self._hparams.spec.separator)

    @staticmethod
    def _subsample(stream: Stream, hparams: TokenHparams) -> Stream:
        """Return documents in a random order until they have the fraction of the tokens; the last one is cut."""
        if hparams.subsample_fraction is None or hparams.train_stream == len(stream):
            return stream
        order = np.random.RandomState(hparams.transformation_seed + 1).permutation(stream.documents)
        return stream.in_order(torch.from_numpy(order)).part(0, hparams.train_stream)

    @property
    def num_train(self) -> int:
        """Training sequences in an epoch, after holding out and subsampling."""
        return self._hparams.num_train

    @property
    def num_test(self) -> int:
        """Test sequences."""
        return len(self._starts("test"))

    def train_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield this process's slices of the batches of an epoch, from batch `first` on."""
        key = self._config.order_key
        stream = self._streams["train"].in_order(
            torch.randperm(self._streams["train"].documents, generator=generator("document order", key, epoch))
        )
        order = torch.randperm(self.num_train, generator=generator("data order", key, epoch)).to(self._device)
        own = [order[self._own_slice(batch)] for batch in self._batches(self.num_train, first)]
        starts = torch.cat([order[:0], *own]) * self._length
        sequences, read = Sequences(stream, starts, self._length + 1), 0
        for number in range(0, len(own), self._read_at_once):
            sizes = [len(each) for each in own[number : number + self._read_at_once]]
            some = slice(read, read + sum(sizes))
            yield from zip(*(torch.split(each, sizes) for each in self._read(sequences, some)), strict=True)
            read = some.stop

    @property
    def _read_at_once(self) -> int:
        """Training batches that are read at once: many, where they are small."""
        tokens = self._hparams.batch_size * self._length // self._config.world_size
        return max(1, _READ_TOKENS // max(1, tokens))

    def _in_order(self, which: Part) -> Iterator[Batch]:
        starts, is_train = self._starts(which), which == "train"
        batches = list(self._batches(len(starts), size=None if is_train else self._evaluation_size(len(starts))))
        sequences = Sequences(self._streams[which], starts, self._length + 1)
        for part in batches[self._config.rank :: self._config.world_size]:
            yield self._read(sequences, part, None if is_train else self._stride)

    def _evaluation_size(self, sequences: int) -> int:
        """Return the sequences in a batch of evaluation, many where they are short: training's may be slow to evaluate.

        It depends on no hardware, so that sums are rounded alike everywhere.
        """
        most = _EVALUATION_LOGITS // (self._length * self._hparams.num_outputs)
        return max(self._hparams.batch_size, min(most, math.ceil(sequences / self._config.world_size)))

    def examples(self, per_class: int, seed: int) -> Rows:
        """Return `Task.scoring_examples` training sequences, in the stored order of documents, drawn by a seed.

        Raises: UsageError where there are fewer.
        """
        return self.drawn_examples(per_class, seed)(0)

    def drawn_examples(self, per_class: int, seed: int, batch: int | None = None) -> Callable[[int], Rows]:
        """Return a function from the number of a pass to its sequences, as `Loader.drawn_examples` does."""
        order_of = self._scoring_order(per_class, seed, batch)

        def examples(number: int) -> Rows:
            starts = order_of(number).to(self._device) * self._length
            sequences = Sequences(self._streams["train"], starts, self._length + 1)
            return Rows.of(*self._read(sequences, slice(0, len(starts))))

        return examples

    def _starts(self, which: Part) -> Tensor:
        """Return the places in the stream where the sequences of a part begin, int64."""
        stride = self._length if which == "train" else self._stride
        last = max(0, len(self._streams[which]) - 1 - self._length)
        count = 0 if not len(self._streams[which]) else 1 - (-last // stride)
        return torch.arange(count, device=self._device) * stride

    def _read(self, sequences: Sequences, some: slice, new: int | None = None) -> Batch:
        """Return some sequences of a stream, and their next tokens.

        new: the number of last tokens of each sequence that count, but for the first sequence of a stream.
        """
        tokens, past = sequences.read(some), sequences.past_the_end(some)
        targets = tokens[:, 1:]
        if past is not None:
            targets = targets.masked_fill(past[:, 1:], IGNORED)
        if new is not None and new < self._length:
            is_context = torch.arange(self._length, device=self._device) < self._length - new
            targets = targets.masked_fill(is_context & (sequences.starts[some] > 0)[:, None], IGNORED)
        return tokens[:, :-1], targets
