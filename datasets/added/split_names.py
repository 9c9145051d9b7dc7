"""The usual names of the splits of a dataset, for folders and for arrays."""

from __future__ import annotations

import re

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation", "dev", "development", "eval", "evaluation", "holdout")
"""Names of test sets, in order of preference."""
_FILLERS = frozenset({"set", "data", "dataset", "images", "image", "imgs", "img", "split", "folder", "seg"})
"""Words that stand beside these names, as in `test_set` or `seg_train`."""
_BOUNDARY = re.compile(r"(?<=[a-z])(?=[A-Z])|[\W\d_]+")


def split_of(name: str) -> tuple[str, int] | None:
    """Return the split that a name stands for, train or test, and its rank among the names for it, best first.

    Ignores case, numbers and words such as `set`. Returns None for any other name.
    """
    words = [word for word in words_in(name) if word not in _FILLERS]
    if len(words) != 1:
        return None
    word = next((words[0].removesuffix(end) for end in ("set", "data", "images") if words[0].endswith(end)), words[0])
    for split, names in (("train", _TRAIN), ("test", _TEST)):
        if word in names:
            return split, names.index(word)
    return None


def is_general(name: str) -> bool:
    """Return whether a folder's name is generic, such as `images`."""
    return set(words_in(name)) <= _FILLERS


def words_in(name: str) -> list[str]:
    """Return the words of a name such as `x_train`, `trainImages` or `val2017`, in lower case."""
    return [word.casefold() for word in _BOUNDARY.split(name) if word]
