"""Files of other programs that hold no named tensors: messages about their kind. Executes nothing in them."""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import IO

_ZIP = b"PK\x03\x04"
_HEADER = 512
_BEGINNINGS = (
    (
        rb"version https://git-lfs",
        "it is a pointer of Git LFS, not the file itself: run `git lfs pull` in its repository.",
    ),
    (rb"\s*<", "it is a web page (HTML or XML), not the file itself: download it again."),
    (rb"\x89HDF", "it is an HDF5 file, as Keras writes; save the weights as safetensors or with torch.save."),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|Rar!", "it is compressed: unpack it first."),
    (rb".{257}ustar", "it is a tar archive: unpack it first."),
    (rb"\s*[\[{]\s*[\"\]}\w]", "it is text (JSON), such as an index that names the files of the weights."),
    (rb"\x93NUMPY", "it is one array without a name; save arrays by name with numpy.savez."),
)
"""First bytes of files that are often mistaken for weights, and advice."""
_GLOBAL = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module)")
_SAVE = "\nSave the weights alone where it was made: torch.save(model.state_dict(), FILE)."
_CUT_OFF = "it ends too early or is damaged: download or copy it again."
_OTHER_PICKLE = ("Unsupported operand", "magic number", "pickle protocol")
_ENDS = ("ends too early", "EOF", "Ran out", "central directory", "index out of range", "requires a buffer")

_PLAIN = ("collections.OrderedDict", "torch._utils.", "torch.storage.", "_codecs.")
"""Names that a pickle of a state dict or of a tensor may begin with."""


def is_safetensors(path: Path) -> bool:
    """Return whether a file begins like safetensors: the length of a JSON object, and the object. Raises: OSError."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30


def is_zip_of_arrays(path: Path) -> bool:
    """Return whether a file is a .npz: a zip archive of .npy files only. Raises: OSError, BadZipFile."""
    with path.open("rb") as file:
        if file.read(4) != _ZIP:
            return False
    names = _names_in_zip(path)
    return bool(names) and all(name.endswith(".npy") for name in names)


def why_not_read(path: Path, error: Exception) -> str:
    """Return the reason why a file's tensors cannot be read, in a sentence or two. error: raised by reading it."""
    if isinstance(error, OSError) and error.filename and error.strerror:  # otherwise it is the content
        return f"{error.strerror}."
    with path.open("rb") as file:
        head = file.read(_HEADER)
    if not head:
        return "it is empty."
    for beginning, reason in _BEGINNINGS:
        if re.match(beginning, head, re.DOTALL) and not is_safetensors(path):
            return reason
    if head.startswith(_ZIP):
        names = {name.rpartition("/")[2] for name in _names_in_zip(path)}
        if not names:
            return _CUT_OFF
        if "constants.pkl" in names:
            return f"it is a TorchScript archive, which has code in it.{_SAVE}"
        if "data.pkl" not in names:
            return "it is a zip archive that torch.save did not write."
    return _why_not_unpickled(path, head, str(error) or "it ends too early")


def _why_not_unpickled(path: Path, head: bytes, message: str) -> str:
    found = _GLOBAL.search(message)
    outermost = _outermost_class(path)
    if outermost or "persistent_load of storage" in message:
        whole = f" of class {outermost}" if outermost else ""
        return f"it holds a whole object{whole}, such as a network, and loading it could run any code.{_SAVE}"
    if found is not None:
        return f"it holds objects of {found[1]} beside tensors, and loading them could run any code.{_SAVE}"
    if head.startswith((b"\x80", _ZIP)) and any(words in message for words in _OTHER_PICKLE):
        return f"it is another kind of pickle than torch.save writes.{_SAVE}"
    if is_safetensors(path) or any(words in message for words in _ENDS):
        return _CUT_OFF
    return "it is damaged, or neither safetensors nor a file of torch.save."


def _outermost_class(path: Path) -> str:
    """Return the class of the object that a pickle holds, unless it is a dict, a list or another plain value."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
                with archive.open(name) as file:
                    return _first_class(file)
        with path.open("rb") as file:
            start = file.read(3)
            file.seek(0)
            if start[2:] == pickle.LONG1:  # torch's former format: three pickles about the file come first
                for _ in range(3):
                    list(pickletools.genops(file))
            return _first_class(file) if start[:1] == pickle.PROTO else ""
    except Exception:  # of a damaged file, whose other faults are named
        return ""


def _first_class(file: IO[bytes]) -> str:
    """Return the class that a pickle names first, except dicts; empty if it begins otherwise."""
    texts: list[str] = []
    for op, argument, _ in pickletools.genops(file):
        if op.name in ("GLOBAL", "STACK_GLOBAL"):
            name = str(argument).replace(" ", ".") if op.name == "GLOBAL" else ".".join(texts[-2:])
            return "" if name.startswith(_PLAIN) else name
        if op.name.endswith("UNICODE"):
            texts.append(str(argument))
        elif op.name not in ("PROTO", "FRAME", "MEMOIZE", "BINPUT", "MARK"):
            return ""
    return ""


def _names_in_zip(path: Path) -> list[str]:
    """Return the names of the files in a zip archive; none if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # zipfile raises many kinds of errors for damaged archives
        return []
