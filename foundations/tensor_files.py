"""Tensors on disk: safetensors, never pickles, each file carrying a digest of its own content.

Neither torch nor safetensors notices a flipped bit. So every file written here has, in its metadata, the SHA-256 of its
facts and tensors (names, types, shapes and bytes), and reading checks it. The bytes of a file are a function of its
content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundations.errors import DamagedError, EnvironmentFailure

if TYPE_CHECKING:
    from torch import Tensor

# One key, since safetensors writes several in no fixed order.
_KEY = "open_prune"


def to_bytes(tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> bytes:
    """Return the content of a file that holds `tensors` (any device, layout and dtype) and json-able `facts`."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    text = json.dumps(dict(facts or {}), sort_keys=True, allow_nan=False)
    return save(plain, {_KEY: json.dumps({"sha256": _digest(plain, text), "facts": text}, sort_keys=True)})


def read(path: Path, how_to_mend: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (on the CPU) and the facts of a file that `to_bytes` made.

    Raises: EnvironmentFailure if there is no such file, or if it cannot be read; DamagedError, ending with
    `how_to_mend`, if it is not whole, not of this form (a pickle, say: it is not executed), or not what was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[_KEY])
            # Clones, so that the tensors do not follow the file, which is mapped into memory.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        recorded, text = metadata["sha256"], metadata["facts"]
        found = _digest(tensors, text)
    except FileNotFoundError as error:
        raise EnvironmentFailure(f"There is no file {path}. {how_to_mend}") from error
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {path}: {error.strerror or error}.") from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(
            f"{path} is damaged: it is not a whole safetensors file of open_prune.\n{how_to_mend}"
        ) from error
    if found != recorded:
        raise DamagedError(
            f"{path} is damaged: its content does not have the SHA-256 it was written with.\n{how_to_mend}"
        )
    facts: dict[str, Any] = json.loads(text)
    return tensors, facts


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    import torch

    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
