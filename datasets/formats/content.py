"""A dataset that is about to be prepared: its parts, and the facts that its prepared files carry about them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundations.files import explain_os_errors
from foundations.inputs import IMAGES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datasets.formats.source_files import Arrays, Index, Split

_NUMBERS = ("input_shape", "mean", "std", "target_mean", "target_std")
_ABSENT: dict[str, tuple[int, ...]] = {"num_outputs": (0,), "vocabulary": (0,), "padding": (), "separator": ()}
"""The fields of `Content` with one number, and the value besides None that is not written."""

_IN_MEMORY = 1 << 26
"""The bytes from which an array of `scratch_array` is in a file."""


@dataclass(frozen=True)
class Content:
    """The parts of a dataset, and what `DatasetSpec` says about it, under the same names."""

    splits: Mapping[str, Split | Index | Arrays]
    """`train` and `test`."""
    task: str = "classification"
    inputs: str = IMAGES
    input_shape: tuple[int, ...] = ()
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    target_mean: Sequence[float] = ()
    target_std: Sequence[float] = ()
    num_outputs: int = 0
    vocabulary: int = 0
    padding: int | None = None
    separator: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further facts for people: names of features, values that were filled in, the tokenizer's hash."""

    def metadata(self) -> dict[str, str]:
        """Return the facts as texts: numbers separated by commas, and all but the texts in `more` as JSON."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        found = {name: ",".join(map(repr, values)) for name, values in numbers.items() if values}
        if (self.task, self.inputs) != ("classification", IMAGES):  # whose files are as they always were
            found |= {"task": self.task, "inputs": self.inputs}
        found |= {name: str(value) for name in _ABSENT if (value := getattr(self, name)) not in (None, *_ABSENT[name])}
        more = {name: json.dumps(value, ensure_ascii=False) for name, value in self.more.items()}
        return found | more | {name: value for name, value in self.more.items() if isinstance(value, str)}


def scratch_array(shape: tuple[int, ...], dtype: type[Any], folder: Path) -> NDArray[Any]:
    """Return an uninitialized array: in memory, or in a nameless file of a folder if it is large."""
    import numpy as np

    size = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
    if size < _IN_MEMORY:
        return np.empty(shape, dtype)
    with explain_os_errors("write a temporary file in", folder), tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype, "w+", shape=shape)  # the mapping keeps the file


def mean_and_std(columns: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """Return mean and deviation of each channel or feature of inputs float32 (N, F) or (N, C, T).

    The deviation of a feature that never changes is 1. Sums are taken in float64, over 100,000 examples at a time.
    """
    import numpy as np

    axes = (0, *range(2, columns.ndim))
    count = columns.shape[0] * int(np.prod(columns.shape[2:], dtype=np.int64))
    parts = [columns[start : start + 100_000] for start in range(0, len(columns), 100_000)]
    mean = sum(part.sum(axis=axes, dtype=np.float64) for part in parts) / count
    shape = (1, -1, *(1,) * (columns.ndim - 2))
    squares = sum(((part - mean.reshape(shape)) ** 2).sum(axis=axes, dtype=np.float64) for part in parts)
    std = np.sqrt(squares / count)
    std = np.where(std > 1e-12 * np.maximum(1, np.abs(mean)), std, 1.0)
    return mean.tolist(), std.tolist()
