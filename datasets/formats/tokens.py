"""Tokens of texts: bytes, a byte-pair encoding that is trained here, or a tokenizer of Hugging Face.

Texts are encoded in parts that end with a line, so that files of any size can be read; a tokenizer whose tokens cross
the ends of lines finds others there.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from foundations.access import reason
from foundations.errors import EnvironmentFailure, UsageError
from foundations.extras import need_package
from foundations.files import explain_os_errors

PART_BYTES = 1 << 23
"""The size of the parts of a text that are encoded at once."""
_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")
_PADDINGS = ("[PAD]", "<pad>", "<|padding|>", "<|pad|>", "<|finetune_right_pad_id|>")
"""The usual names of the tokens that end and that fill texts."""
_BYTES = 256
_LENGTH_OF_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Tokenizer(ABC):
    """Turns texts into tokens."""

    vocabulary: int
    """The number of tokens, `special` included."""
    special: int
    """The token that separates texts, or that fills them."""
    about: str
    """The tokenizer in a few words."""
    content: bytes
    """The tokenizer as JSON, which a prepared file holds: so it is in the fingerprint."""

    @abstractmethod
    def encode(self, part: bytes, *, with_special: bool) -> NDArray[np.int64]:
        """Return the tokens of a text in UTF-8. with_special: with the tokens that the tokenizer adds to each text."""

    @abstractmethod
    def token_bytes(self) -> NDArray[np.int64] | None:
        """Return the length of each token in bytes, int64 (vocabulary,); 0 for special tokens. None if unknown."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the tokenizer."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def dtype(self) -> type[np.generic]:
        """The smallest stored type of the tokens."""
        return (
            np.uint8
            if self.vocabulary <= 257 and self.is_bytes
            else np.uint16
            if self.vocabulary <= 1 << 16
            else np.int32
        )

    is_bytes = False


class ByteTokenizer(Tokenizer):
    """Each byte is a token; 256 separates texts, or fills them."""

    vocabulary, special, about = _BYTES + 1, _BYTES, "bytes"
    content = json.dumps({"type": "bytes", "vocabulary": _BYTES + 1}).encode()
    is_bytes = True

    def encode(self, part: bytes, *, with_special: bool) -> NDArray[np.int64]:
        """Return the bytes."""
        return np.frombuffer(part, np.uint8).astype(np.int64)

    def token_bytes(self) -> NDArray[np.int64]:
        """Return 1 for each byte, and 0 for the separator."""
        return np.array([1] * _BYTES + [0], np.int64)


class LibraryTokenizer(Tokenizer):
    """A tokenizer of Hugging Face's `tokenizers`. A token that separates or fills texts is added where it has none."""

    def __init__(self, tokenizer: Any, about: str, *, fills: bool) -> None:
        """Take a `tokenizers.Tokenizer`. fills: whether the special token fills texts, rather than separates them."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self.about = tokenizer, about
        self.content = tokenizer.to_str().encode()
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        known = tokenizer.get_vocab(with_added_tokens=True)
        size = max(size, 1 + max(known.values(), default=0))
        self.special = next((known[name] for name in (_PADDINGS if fills else _ENDS) if name in known), size)
        self.vocabulary = max(size, self.special + 1)

    def encode(self, part: bytes, *, with_special: bool) -> NDArray[np.int64]:
        """Return the tokens of a text. Raises: UnicodeDecodeError; UsageError where the tokenizer has none for it."""
        text = part.decode()
        try:
            tokens = self._tokenizer.encode(text, add_special_tokens=with_special).ids
        except Exception as error:  # the library raises plain Exceptions
            raise UsageError(f"{self.about} cannot encode the text: {error}.", "tokenizer") from error
        return np.array(tokens, np.int64)

    def token_bytes(self) -> NDArray[np.int64]:
        """Return the length of each token in bytes, by the letters that its vocabulary writes it with."""
        lengths = np.zeros(self.vocabulary, np.int64)
        form = json.loads(self.content)
        is_byte_level = '"ByteLevel"' in json.dumps([form.get("pre_tokenizer"), form.get("decoder")])
        special = {entry["content"] for entry in form.get("added_tokens") or () if entry.get("special")}
        for token, number in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if token in special:
                continue
            plain = token.removeprefix("##").replace("▁", " ")
            is_byte = is_byte_level or _LENGTH_OF_BYTE_TOKEN.fullmatch(token) is not None
            lengths[number] = (len(token) if is_byte_level else 1) if is_byte else len(plain.encode(errors="replace"))
        return lengths


def read_tokenizer(path: Path, *, fills: bool) -> Tokenizer:
    """Return a tokenizer of a tokenizer.json. fills: as above. Raises: UsageError for another file."""
    need_package("tokenizers", "text", "tokenizers of Hugging Face")
    from tokenizers import Tokenizer as Loaded

    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {path}: {reason(error)}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a tokenizer.json: it is not text.", "tokenizer") from error
    try:
        return LibraryTokenizer(Loaded.from_str(text), path.name, fills=fills)
    except Exception as error:  # the library raises plain Exceptions
        raise UsageError(f"{path} is not a tokenizer.json of Hugging Face: {str(error)[:200]}.", "tokenizer") from error


def train_bpe(texts: Iterable[bytes], vocabulary: int) -> Tokenizer:
    """Return a byte-level byte-pair encoding of a number of tokens, one of which separates or fills texts.

    texts: in UTF-8, read once. Raises: UsageError where the texts give fewer tokens.
    """
    need_package("tokenizers", "text", "byte-pair encodings")
    from tokenizers import Tokenizer as Trained
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = Trained(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[_ENDS[0]],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text.decode() for text in texts), trainer)
    size = tokenizer.get_vocab_size()
    if size < vocabulary:
        raise UsageError(f"the training texts give a vocabulary of {size} tokens at most.", "vocabulary")
    return LibraryTokenizer(tokenizer, f"a byte-pair encoding of {vocabulary:,} tokens", fills=False)


@dataclass
class TokenFile:
    """Tokens of documents, appended to a nameless file, so that they need no memory."""

    tokenizer: Tokenizer
    folder: Path
    with_special: bool = False
    ends: list[int] = field(default_factory=lambda: [0])
    _file: IO[bytes] | None = None

    def append(self, parts: Iterable[bytes]) -> int:
        """Append a document, given in parts, and return the number of its tokens."""
        total = self.ends[-1]
        for part in parts:
            tokens = self.tokenizer.encode(part, with_special=self.with_special).astype(self.tokenizer.dtype)
            with explain_os_errors("write a temporary file in", self.folder):
                self._file = self._file or tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 (it stays open)
                self._file.write(tokens.tobytes())
            total += len(tokens)
        self.ends.append(total)
        return total - self.ends[-2]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the tensors of a prepared file: `tokens`, mapped, and `documents`."""
        dtype = self.tokenizer.dtype
        tokens: NDArray[Any] = np.zeros(0, dtype)
        if self._file is not None and self.ends[-1]:
            self._file.flush()
            tokens = np.memmap(self._file, dtype, "r")
        return {"tokens": tokens, "documents": np.array(self.ends, np.int64)}


def parts_of(file: IO[bytes], size: int | None = None) -> Iterator[bytes]:
    """Yield a file, or its next bytes, in parts that end with a line, or with a letter where lines are long."""
    left, rest = size, b""
    while True:
        wanted = PART_BYTES if left is None else min(PART_BYTES, left)
        block = file.read(wanted) if wanted else b""
        if left is not None:
            left -= len(block)
        if not block:
            if rest:
                yield rest
            return
        rest += block
        cut = rest.rfind(b"\n") + 1
        if not cut and len(rest) >= 4 * PART_BYTES:
            cut = letter_start(rest, len(rest))
        if cut:
            yield rest[:cut]
            rest = rest[cut:]


def letter_start(text: bytes, end: int) -> int:
    """Return the last place up to `end` where a letter of UTF-8 begins or the text ends."""
    for at in range(end, max(end - 4, 0), -1):
        last = text[at - 1]
        if last < 0x80:
            return at
        if last >= 0xC0:
            return at - 1
    return end
