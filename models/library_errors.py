"""Errors that other libraries raise while they build or run a network, as one sentence for users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from foundations.errors import OpenPruneError, UsageError


@contextmanager
def built_by_library(what: str, *hparams: str) -> Iterator[None]:
    """Turn whatever the constructor of a network raises into a UsageError: `what`, and the library's own message.

    what: a statement without its end, such as `timm_vgg11 cannot be built for images of 1 x 8 x 8`. hparams: flags.
    Too little memory stays an error of its own.
    """
    try:
        yield
    except (OpenPruneError, MemoryError):
        raise
    except Exception as error:
        if is_of_memory(error):
            raise
        raise UsageError(f"{what}: {sentence_of(error)}.", *hparams) from error


def is_of_memory(error: Exception) -> bool:
    """Return whether torch had too little memory. It has a class for devices alone."""
    return type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)


def sentence_of(error: Exception) -> str:
    """Return the first line of an error's message, without its end, or the kind of the error where that says little."""
    line = str(error).strip().split("\n")[0].rstrip(".!: ")
    if isinstance(error, KeyError | IndexError) or not line:
        line = f"{type(error).__name__}: {line}".rstrip(": ")
    return line if len(line) <= _MOST else f"{line[:_MOST]}..."


_MOST = 200
"""The most characters of another library's message."""
