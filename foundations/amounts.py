"""Amounts with units, as people write them: `200GB`, `500k`, `14d`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from foundations.errors import UsageError

SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
"""Units of durations."""
_POWERS = {"k": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_BYTES = {"": 1, "B": 1}
_BYTES |= {f"{letter}{end}": 1000**power for letter, power in _POWERS.items() for end in ("", "B")}
_BYTES |= {f"{letter}iB": 1024**power for letter, power in _POWERS.items()}
_COUNTS = {"": 1, **{letter: 1000**power for letter, power in _POWERS.items()}}
_AMOUNT = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[A-Za-z]*)", re.ASCII)


def as_seconds(text: str) -> float | None:
    """Return the seconds of a duration such as `2h`; None for another text."""
    return _read(text, SECONDS)


def parse_bytes(text: str, name: str) -> int:
    """Return a number of bytes, such as that of `200GB` or `1.5TiB`. Raises: UsageError about `name`."""
    return _parse(text, _BYTES, name, "a number of bytes, such as 200GB, 1.5TiB or 0")


def parse_count(text: str, name: str) -> int:
    """Return a number of things, such as that of `500k`. Raises: UsageError about `name`."""
    return _parse(text, _COUNTS, name, "a number of files, such as 20000 or 500k")


def parse_seconds(text: str, name: str) -> int:
    """Return the seconds of a duration, such as `14d`; `0` needs no unit. Raises: UsageError about `name`."""
    return _parse(text, {**SECONDS, **({"": 1} if text.strip() == "0" else {})}, name, "a duration, such as 14d or 2h")


def bytes_text(size: float) -> str:
    """Return a number of bytes in the unit that a person would use: `1.2 GB`."""
    for letter, power in reversed(_POWERS.items()):
        if size >= 1000**power:
            return f"{size / 1000**power:.1f} {letter}B"
    return f"{size:.0f} B"


def _parse(text: str, units: Mapping[str, int], name: str, words: str) -> int:
    found = _read(text, units)
    if found is None:
        raise UsageError(f"'{text}' is not {words}.", name)
    return math.floor(found)


def _read(text: str, units: Mapping[str, int]) -> float | None:
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        return None
    lower = {unit.lower(): size for unit, size in units.items()}
    size = units.get(match["unit"], lower.get(match["unit"].lower()))
    return None if size is None else float(match["number"]) * size
