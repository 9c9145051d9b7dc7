"""Mutations of bytes, texts and JSON trees. Each takes a random stream and returns something that is close to valid."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

_NUMBERS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 40), (1 << 63) - 1)
_PIECES = (
    b"",
    b"\0",
    b"\xff" * 8,
    b"\n",
    b",",
    b"{}",
    b"[[[[",
    b'"',
    b"\xed\xa0\x80",
    b"NaN",
    b"../",
    b"\x1b[2J",
    b"9" * 40,
)
TEXTS = (
    "",
    " ",
    "../../x",
    "/etc/passwd",
    "..",
    "x/../../y",
    "a" * 5000,
    "\ud800",
    "\udcff",
    "\0",
    "\n",
    "\x1b[2J\x1b]0;x\x07",
    "é\u202e\U0001f600",
    "NaN",
    "inf",
    "-1",
    "1e400",
    "9" * 4400,
    "٣",
    "²",
    "None",
    "True",
    "__class__",
    "{0.__class__}",
    "%s%n",
    "=1+1",
    "state_ep0_it0.safetensors",
    "0it",
    "99999999999999999ep",
)
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    3.5,
    -0.0,
    10**18,
    10**30,
    -(10**30),
    1e308,
    [],
    {},
    [[]],
    [None],
    {"": None},
)
"""Values of other types."""
_RAW = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e-999",
    "9" * 4400,
    "0." + "1" * 3000,
    "[" * 3000 + "]" * 3000,
    "[" * 100_000,
    '{"a":' * 2000 + "1" + "}" * 2000,
    '"\\ud800"',
    '{"a":1,"a":[2]}',
    "",
    "nul",
    "'x'",
)
"""Literal text in a JSON file in place of a value."""
_MARK = "@raw%d@"


class Pairs(list[tuple[str, Any]]):
    """A JSON object that may repeat keys."""


def flipped(data: bytes, stream: random.Random) -> bytes:
    """Return the bytes with one to a few bits flipped."""
    changed = bytearray(data)
    for _ in range(stream.choice((1, 1, 1, 2, 8)) if data else 0):
        changed[stream.randrange(len(changed))] ^= 1 << stream.randrange(8)
    return bytes(changed)


def truncated(data: bytes, stream: random.Random) -> bytes:
    """Return the beginning."""
    return data[: stream.randrange(len(data) + 1)]


def inserted(data: bytes, stream: random.Random) -> bytes:
    """Return the bytes with something between them."""
    at = stream.randrange(len(data) + 1)
    return data[:at] + stream.choice(_PIECES) * stream.choice((1, 1, 1, 50)) + data[at:]


def deleted(data: bytes, stream: random.Random) -> bytes:
    """Return the bytes without some in a row."""
    at = stream.randrange(len(data) + 1)
    return data[:at] + data[at + stream.choice((1, 2, 8, 64)) :]


def repeated(data: bytes, stream: random.Random) -> bytes:
    """Return the bytes with a part of them once more, somewhere."""
    first, at = stream.randrange(len(data) + 1), stream.randrange(len(data) + 1)
    return data[:at] + data[first : first + stream.choice((1, 8, 64, 1000))] + data[at:]


def overwritten(data: bytes, stream: random.Random) -> bytes:
    """Return the bytes with a number in the place of some, as a length or an offset may be wrong."""
    size = stream.choice((1, 2, 4, 8))
    number = (stream.choice(_NUMBERS) & ((1 << 8 * size) - 1)).to_bytes(size, stream.choice(("little", "big")))
    at = stream.choice((0, stream.randrange(len(data) + 1)))
    return data[:at] + number + data[at + size :]


def renumbered(data: bytes, stream: random.Random) -> bytes:
    """Return the text with another number in the place of one."""
    starts = [i for i in range(len(data)) if data[i : i + 1].isdigit()]
    if not starts:
        return inserted(data, stream)
    at = stream.choice(starts)
    end = at
    while data[end : end + 1].isdigit():
        end += 1
    return (
        data[:at]
        + stream.choice((b"-1", b"0", b"99999999999", b"1e400", b"9" * 4400, b"nan", b"0x10", b"1_0"))
        + data[end:]
    )


_OF_BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flipped,
    flipped,
    truncated,
    inserted,
    deleted,
    repeated,
    overwritten,
    renumbered,
)


def bytes_like(data: bytes, stream: random.Random, others: tuple[bytes, ...] = ()) -> bytes:
    """Return bytes that were valid, mutated one to a few times, or spliced with another file's."""
    if others and stream.random() < 0.1:
        other = stream.choice(others)
        return data[: stream.randrange(len(data) + 1)] + other[stream.randrange(len(other) + 1) :]
    for _ in range(stream.choice((1, 1, 1, 2, 4))):
        data = stream.choice(_OF_BYTES)(data, stream)
    return data


def text_like(text: str, stream: random.Random, words: tuple[str, ...] = ()) -> str:
    """Return a text that was valid, with characters or words changed."""
    for _ in range(stream.choice((1, 1, 2, 3))):
        at = stream.randrange(len(text) + 1)
        piece = (
            stream.choice((*words, *TEXTS))
            if stream.random() < 0.6
            else stream.choice("=,;:@^-.+*/0129eE x\t\"'[]{}%é")
        )
        cut = stream.choice((0, 0, 1, 3))
        text = text[:at] + piece + text[at + cut :]
    return text


def tree_like(tree: Any, stream: random.Random) -> Any:
    """Return a JSON tree with one to a few values, keys or parts changed. Keys may be repeated (see `to_json`)."""
    for _ in range(stream.choice((1, 1, 1, 2, 3))):
        tree = _changed(tree, stream)
    return tree


def to_json(tree: Any) -> bytes:
    """Return the JSON of a tree in which `Pairs` and marks of `tree_like` may stand."""
    text = _dumped(tree)
    for number, raw in enumerate(_RAW):
        text = text.replace(json.dumps(_MARK % number), raw)
    return text.encode()


def odd_value(stream: random.Random) -> Any:
    """Return a value of any type, or a mark that `to_json` replaces by something that no tree holds."""
    kind = stream.randrange(4)
    if kind == 0:
        return stream.choice(TEXTS)
    return _MARK % stream.randrange(len(_RAW)) if kind == 1 else stream.choice(ODD)


def _dumped(tree: Any) -> str:
    if isinstance(tree, Pairs):
        return "{" + ",".join(f"{json.dumps(name)}:{_dumped(value)}" for name, value in tree) + "}"
    if isinstance(tree, dict):
        return _dumped(Pairs(tree.items()))
    if isinstance(tree, list):
        return "[" + ",".join(map(_dumped, tree)) + "]"
    return json.dumps(tree)


def _changed(tree: Any, stream: random.Random) -> Any:
    """Return the tree with one thing changed: here, or further down."""
    if not isinstance(tree, dict | list) or not tree or stream.random() < 0.08:
        return odd_value(stream)
    found: Any = tree if isinstance(tree, Pairs) else tree.items() if isinstance(tree, dict) else enumerate(tree)
    pairs = Pairs(found)
    at = stream.randrange(len(pairs))
    name, value = pairs[at]
    action = stream.randrange(10)
    if action == 0:
        del pairs[at]
    elif action == 1:
        pairs.insert(stream.randrange(len(pairs) + 1), (name, odd_value(stream)))
    elif action == 2 and not isinstance(tree, list):
        pairs[at] = (stream.choice(TEXTS), value)
    elif action == 3:
        other = stream.randrange(len(pairs))
        pairs[at], pairs[other] = (name, pairs[other][1]), (pairs[other][0], value)
    elif action == 4:
        pairs.append((stream.choice(TEXTS), odd_value(stream)))
    else:
        pairs[at] = (name, _changed(value, stream))
    return [value for _, value in pairs] if isinstance(tree, list) and not isinstance(tree, Pairs) else pairs
