"""Named random streams: all randomness of a run comes from here, so that a run is a function of its description.

A stream is named by its purpose and by what it varies with (the replicate or the seed that pins it, the epoch, ...).
Nothing in open_prune reads or advances the global generators.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream_seed(purpose: str, *keys: int | str) -> int:
    """Return the seed of a stream: the first 8 bytes of the SHA-256 of its name, as an unsigned integer below 2**63.

    torch's CPU generator uses the lowest 32 bits of it.
    """
    name = json.dumps([purpose, *keys]).encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 1


def generator(purpose: str, *keys: int | str) -> torch.Generator:
    """Return a new CPU generator at the start of a stream.

    Streams are generated on the CPU whatever the device, so that they do not depend on where the job runs.
    """
    import torch

    return torch.Generator().manual_seed(stream_seed(purpose, *keys))


@contextlib.contextmanager
def global_generator_from(purpose: str, *keys: int | str) -> Iterator[None]:
    """Inside the block, let the global generators of torch's CPU, NumPy and Python follow a stream; restore them after.

    Only for code that takes no generator as an argument, such as the constructors of torch.nn's modules.
    """
    import random

    import numpy as np
    import torch

    seed = stream_seed(purpose, *keys)
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
