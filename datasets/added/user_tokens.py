"""Columns of token ids: lists of whole numbers in a table, as tokenizers leave them (`input_ids`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.added.options import AddOptions, Report
from datasets.added.user_tables import Tables
from datasets.added.user_texts import Document, Texts, read_columns
from datasets.formats.content import Content
from datasets.formats.tables import ARRAYS, TEXTS, Table, shortened
from datasets.formats.tokens import Tokenizer, read_tokenizer
from foundations.errors import UsageError

USUAL_COLUMN, MASK = "input_ids", "attention_mask"
"""The names that Hugging Face's tokenizers give to the ids of a text, and to their mask: 0 for what fills it."""
_IDS = re.compile(r"\d+(?:[\s,]+\d+)*")
_MOST = 1 << 24
"""The largest id that is believed to be one, and not another number."""


class IdTokenizer(Tokenizer):
    """Token ids as numbers in a text. One more token separates or fills documents, unless a tokenizer has one."""

    def __init__(self, column: str, largest: int, known: Tokenizer | None) -> None:
        """Take the largest id, and the tokenizer that made the ids, if it is known. Raises: UsageError."""
        if known is not None and largest >= known.vocabulary:
            raise UsageError(
                f"column '{column}' holds the id {largest:,}, and the tokenizer has {known.vocabulary:,} tokens.",
                "tokenizer",
            )
        self._known = known
        self.special = largest + 1 if known is None else known.special
        self.vocabulary = largest + 2 if known is None else known.vocabulary
        self.about = f"ids of the column {column}" + (f", of {known.about}" if known else "")
        own = json.dumps({"type": "ids", "vocabulary": self.vocabulary}).encode()
        self.content = own if known is None else known.content

    def encode(self, part: bytes, *, with_special: bool) -> NDArray[np.int64]:
        """Return the ids. They have the special tokens that they have."""
        return np.array(part.split(), np.int64)

    def token_bytes(self) -> NDArray[np.int64] | None:
        """Return the length of each token in bytes where the tokenizer is known, or None."""
        return None if self._known is None else self._known.token_bytes()


def ids_column(table: Table, options: AddOptions) -> str | None:
    """Return the column of token ids: the given one, or `input_ids`."""
    if options.tokens:
        table.need([options.tokens], "tokens")
        return options.tokens
    is_free = USUAL_COLUMN in table.columns and USUAL_COLUMN not in (*options.targets, *options.ignored)
    return USUAL_COLUMN if is_free and not options.text else None


def read_token_tables(tables: Tables, column: str, options: AddOptions, scratch: Path, report: Report) -> Content:
    """Return the documents of a column of token ids, with the targets of other columns if there are some.

    Raises: UsageError that names the row, for anything but lists of ids.
    """
    options.refuse("token ids", "text", "vocabulary")
    for table in tables.values():
        table.need([column], "tokens")
        kind = table.kinds()[column].name
        if kind not in (ARRAYS, TEXTS, "numbers", "numbers and texts"):
            raise UsageError(f"{table.path}: column '{column}' holds {kind}, not lists of token ids.", "tokens")
    is_masked = all(MASK in table.columns for table in tables.values()) and column != MASK
    report(f"tokens: {column}" + f", without those that {MASK} leaves out" * is_masked)
    masks = [MASK] if is_masked else []
    largest = max(int(ids.max()) for table in tables.values() for _, ids in _rows(table, column, masks))
    known = (
        read_tokenizer(Path(options.tokenizer).expanduser(), fills=bool(options.target)) if options.tokenizer else None
    )
    texts = {split: _texts(table, column, masks) for split, table in tables.items()}
    found = IdTokenizer(column, largest, known)
    return read_columns(tables, texts, [column, *masks], options, scratch, report, found)


def _texts(table: Table, column: str, masks: list[str]) -> Texts:
    def read() -> Iterator[Document]:
        for place, ids in _rows(table, column, masks):
            yield place, iter([" ".join(map(str, ids.tolist())).encode()])

    return Texts(sum(len(chunk.rows) for chunk in table.chunks([column], [column])), read)


def _rows(table: Table, column: str, masks: list[str]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield the place and the ids of each row, int64 (T,)."""
    names = [column, *masks]
    for chunk in table.chunks(names, names):
        for at, row in enumerate(chunk.rows):
            place = f"{table.path}, row {row}, column '{column}'"
            ids = _ids(chunk.cells[column][at], place)
            for mask in masks:
                kept = _ids(chunk.cells[mask][at], f"{table.path}, row {row}, column '{mask}'")
                if len(kept) != len(ids):
                    raise UsageError(f"{place}: {len(ids)} ids, and {len(kept)} numbers in '{mask}'.")
                ids = ids[kept > 0]
            if not len(ids):
                raise UsageError(f"{place}: no ids are left by '{masks[0]}'; remove the row.")
            yield place, ids


def _ids(cell: Any, place: str) -> NDArray[np.int64]:
    """Return the ids of a cell: a list, or a text such as `[1, 2]` or `1 2`. Raises: UsageError."""
    if isinstance(cell, str):
        inside = cell.strip().strip("[]()").strip()
        cell = re.split(r"[\s,]+", inside) if _IDS.fullmatch(inside) else [cell]
    values = [] if cell is None else list(cell)
    if not values:
        raise UsageError(f"{place}: there are no ids; remove the row.")
    wrong = [value for value in values if not _is_id(value)]
    if wrong:
        raise UsageError(f"{place}: {shortened(str(wrong[0]))} is not a token id, a whole number from 0 to {_MOST:,}.")
    return np.array([int(value) for value in values], np.int64)


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return value.isdecimal() and int(value) <= _MOST
    return isinstance(value, int | float) and 0 <= value <= _MOST and value == int(value)
