"""Tensors on disk: safetensors, never pickles, each file carrying a digest of its own content.

Neither torch nor safetensors notices a flipped bit. So every file written here has, in its metadata, the SHA-256 of its
facts and tensors (names, types, shapes and bytes), and reading checks it. The bytes of a file are a function of its
content.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundations import packs
from foundations.access import reason
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import check_readable, check_regular

if TYPE_CHECKING:
    from torch import Tensor

# One key, since safetensors writes several in no fixed order.
_KEY = "open_prune"


def to_bytes(tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None, owner: str = "") -> bytes:
    """Return the content of a file that holds `tensors` (any device, layout and dtype) and json-able `facts`.

    owner: recorded in the file for `read` to check, such as a run's location and the file's name.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    text = json.dumps(dict(facts or {}), sort_keys=True, allow_nan=False)
    stated = {"sha256": _digest(plain, text, owner), "facts": text, **({"owner": owner} if owner else {})}
    return save(plain, {_KEY: json.dumps(stated, sort_keys=True)})


def read(
    path: Path, how_to_mend: str, owner: str = "", *, is_checked: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (on the CPU) and the facts of a file that `to_bytes` made.

    owner: the owner that the file must record; a file without an owner is read as well.
    is_checked: every byte of the file was compared with a digest before, so its own is not computed again.

    Raises: EnvironmentFailure if there is no such file, or if it cannot be read; DamagedError, ending with
    `how_to_mend`, if it is not whole, not of this form (a pickle, say: it is not executed), not what was written, or of
    another owner.
    """
    from safetensors import SafetensorError, safe_open

    def damaged(why: str) -> DamagedError:
        return DamagedError(f"{path} is damaged: {why}.\n{how_to_mend}")

    try:
        check_readable(path)
        if packs.is_inside(path):
            metadata, tensors = _read_packed(path)
        else:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {})[_KEY])
                # Clones, so that the tensors do not follow the file, which is mapped into memory.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        recorded, text, written_as = metadata["sha256"], metadata["facts"], metadata.get("owner", "")
        found = recorded if is_checked else _digest(tensors, text, written_as)
        facts = json.loads(text)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise damaged("it is a link to nothing") from error
        raise EnvironmentFailure(f"There is no file {path}. {how_to_mend}") from error
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise damaged(str(error.strerror)) from error
        raise EnvironmentFailure(f"Cannot read {path}: {reason(error, path)}.") from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged("it is not a whole safetensors file of open_prune") from error
    except RuntimeError as error:  # torch opens the file once more, when it may be gone
        raise EnvironmentFailure(f"Cannot read {path}: {error}.") from error
    if found != recorded:
        raise damaged("its content does not have the SHA-256 it was written with")
    if owner and written_as not in ("", owner):
        raise damaged(f"it was written as {written_as}")
    return tensors, facts


def _read_packed(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the metadata and the tensors of a file in a pack."""
    from safetensors.torch import load

    with packs.opened(path) as file:
        data = file.read()
    return _metadata(data), load(data)


def _metadata(data: bytes) -> dict[str, Any]:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    found: dict[str, Any] = json.loads(header["__metadata__"][_KEY])
    return found


def owner(path: Path) -> str:
    """Return the owner that a file records; empty where it records none or cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
        if packs.is_inside(path):
            with packs.opened(path) as packed:
                return str(_metadata(packed.read()).get("owner", ""))
        with safe_open(path, framework="np") as file:
            return str(json.loads((file.metadata() or {})[_KEY]).get("owner", ""))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""


def _digest(tensors: Mapping[str, Tensor], facts: str, owner: str) -> str:
    import torch

    digest = hashlib.sha256(facts.encode())
    digest.update(owner.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
