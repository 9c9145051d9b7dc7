"""Tensors in files of other programs, read without executing anything in them."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from branches.imported.unreadable_files import is_safetensors, is_zip_of_arrays, why_not_read
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import check_regular

if TYPE_CHECKING:
    from torch import Tensor

_ARRAYS, _ATTRIBUTES = "scalar _reconstruct", "AttributeDict"
_PATHS = "Path PosixPath WindowsPath PurePosixPath PureWindowsPath"
_OBJECTS = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "datetime": "datetime date timedelta",
    "numpy.core.multiarray": _ARRAYS,
    "numpy._core.multiarray": _ARRAYS,
    "numpy": "ndarray dtype bool_ float16 float32 float64 int32 int64",
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,
    "builtins": "dict list tuple set int float str bool object",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.base": "ContainerMetadata Metadata",
    "omegaconf.nodes": "AnyNode BooleanNode BytesNode EnumNode FloatNode IntegerNode PathNode StringNode",
    "typing": "Any",
}
"""Settings and results that training programs keep beside weights, by the names that pickles have for them."""
_DICTS = {
    "collections": "defaultdict",
    "pytorch_lightning.utilities.parsing": _ATTRIBUTES,
    "lightning.pytorch.utilities.parsing": _ATTRIBUTES,
    "lightning_fabric.utilities.data": _ATTRIBUTES,
    "lightning.fabric.utilities.data": _ATTRIBUTES,
    "yacs.config": "CfgNode",
    "easydict": "EasyDict",
}
"""Classes of dicts, likewise."""


class _Ignored:
    """Replaces an object other than a tensor, and ignores the state that a pickle gives it."""

    def __new__(cls, *_: Any) -> _Ignored:
        return object.__new__(cls)

    def __setstate__(self, _: Any) -> None:
        """Drop the state."""


class _PlainDict:
    """Replaces a class of dicts: its objects become ordered dicts."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


def read_named_tensors(path: Path, what: str) -> dict[str, Tensor]:
    """Return the tensors by name, on the CPU, of a file that holds a state dict and nothing else.

    what: the expected kind of file, for errors. Raises: EnvironmentFailure if there is no such file; DamagedError if it
    holds anything else, or tensors that are larger than their stored data.
    """
    import torch

    content = read_content(path, what)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and torch.is_tensor(value) for name, value in content.items()
    ):
        raise DamagedError(f"{path} holds something other than named tensors.")
    check_stored(str(path), content)
    return content


def read_content(path: Path, what: str) -> object:
    """Return the content of a file: safetensors, a file of torch.save in either of its formats, or a .npz of arrays.

    Recognizes the format by the first bytes, not by the file's name. Tensors are on the CPU. Known objects that are no
    tensors, such as an argparse.Namespace or a NumPy scalar, become objects without content; nothing in the file is
    executed. what: the expected kind of file, for errors.

    Raises: EnvironmentFailure if there is no such file; DamagedError that gives the reason if it cannot be read.
    """
    try:
        check_regular(path)
        if is_safetensors(path):
            from safetensors.torch import load_file

            return load_file(path)
        return _arrays(path) if is_zip_of_arrays(path) else _unpickled(path)
    except FileNotFoundError as error:
        raise EnvironmentFailure(f"There is no file {path}.") from error
    except Exception as error:  # torch's readers raise all kinds, assertions and struct.error among them
        raise DamagedError(f"{path} cannot be read as {what}: {why_not_read(path, error)}") from error


def check_stored(source: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise DamagedError for a tensor that is not dense and whole in the file. source: the file, for errors."""
    import torch

    for name, tensor in tensors.items():
        if tensor.is_quantized or tensor.layout != torch.strided:
            kind = "quantized" if tensor.is_quantized else "sparse"
            raise DamagedError(f"{source}: '{name}' is {kind}; save it as a dense tensor of floating-point numbers.")
        is_stored = tensor.device.type == "cpu"
        if not is_stored or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise DamagedError(f"{source}: '{name}' is larger than what is stored of it.")


def _unpickled(path: Path) -> object:
    import torch

    known: list[Any] = [
        (kind, f"{module}.{name}")
        for kind, modules in ((_Ignored, _OBJECTS), (_PlainDict, _DICTS))
        for module, names in modules.items()
        for name in names.split()
    ]
    with torch.serialization.safe_globals(known), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other protocols of pickle, and of storages of old versions
        # An open file, since torch.load guesses the format from the ending of a path.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)


def _arrays(path: Path) -> dict[str, object]:
    """Return the arrays of a .npz file as tensors; NumPy refuses arrays of objects, and arrays of texts stay arrays."""
    import numpy as np
    import torch

    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    numbers = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array.dtype.kind in "biuf"}
    return {**arrays, **{name: torch.from_numpy(array.reshape(arrays[name].shape)) for name, array in numbers.items()}}
