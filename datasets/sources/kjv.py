"""`kjv`: the first nine books of the King James Bible, 1,156,192 bytes of English, shipped beside this file.

Source: the text of 1611, whose copyright has expired, from Debian's package bible-kjv, without its references of
chapter and verse. A verse is a line, and a book is a document. Tokens are bytes, and 256 stands between books.
Genesis to Judges are for training; Ruth and the first book of Samuel, about an eighth, for testing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets.augmentations.none import NONE
from datasets.formats.source_files import Arrays, SourceFiles
from datasets.spec import DatasetSpec
from datasets.tasks.language_modelling import LANGUAGE_MODELLING
from foundations.inputs import TOKENS

_SHIPPED = Path(__file__).with_name("kjv.txt.xz")
_TRAIN_BOOKS = 7
_SOURCE = "King James Bible (1611, public domain), Genesis to 1 Samuel"


def read(_: SourceFiles) -> dict[str, Arrays]:
    """Return both splits, from the shipped file."""
    import lzma

    import numpy as np

    from datasets.formats.tokens import ByteTokenizer

    books = [book.strip() + b"\n" for book in lzma.decompress(_SHIPPED.read_bytes()).split(b"\n\n")]
    tokenizer = ByteTokenizer()
    metadata = {"tokenizer": tokenizer.sha256, "vocabulary": str(tokenizer.vocabulary)}

    def split(chosen: list[bytes], **more: Any) -> Arrays:
        ends = np.cumsum([0, *map(len, chosen)], dtype=np.int64)
        tensors = {"tokens": np.frombuffer(b"".join(chosen), np.uint8), "documents": ends, **more}
        return Arrays(tensors, _SOURCE, metadata=metadata)

    train = split(books[:_TRAIN_BOOKS], token_bytes=tokenizer.token_bytes())
    return {"train": train, "test": split(books[_TRAIN_BOOKS:])}


KJV = DatasetSpec(
    spelling="kjv",
    task=LANGUAGE_MODELLING,
    inputs=TOKENS,
    num_train=_TRAIN_BOOKS,
    num_test=2,
    train_tokens=1_013_917,
    test_tokens=142_267,
    input_shape=(128,),
    vocabulary=257,
    separator=256,
    augmentation=NONE,
    read=read,
    origin="King James Bible, nine books (1611, public domain), shipped with open_prune",
)
