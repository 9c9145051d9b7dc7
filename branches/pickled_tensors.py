"""Named tensors in files of other programs, read without executing anything in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import check_regular

if TYPE_CHECKING:
    from torch import Tensor


def read_named_tensors(path: Path, what: str) -> dict[str, Tensor]:
    """Return the tensors of a state dict by name, on the CPU: of a `.safetensors` file, or a pickle of tensors alone.

    what: what the file should be, for errors. Raises: EnvironmentFailure where there is no such file; DamagedError
    where it holds anything else, or tensors that are larger than what is stored of them.
    """
    import torch
    from safetensors.torch import load_file

    try:
        check_regular(path)
        is_pickle = path.suffix != ".safetensors"
        content = torch.load(path, map_location="cpu", weights_only=True) if is_pickle else load_file(path)
    except FileNotFoundError as error:
        raise EnvironmentFailure(f"There is no file {path}.") from error
    except Exception as error:  # torch's readers raise all kinds, assertions and struct.error among them
        reason = str(error).partition("\n")[0] or "it ends too early"
        raise DamagedError(f"{path} cannot be read as {what}: {reason}") from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and torch.is_tensor(value) for name, value in content.items()
    ):
        raise DamagedError(f"{path} holds something other than named tensors.")
    for name, tensor in content.items():
        is_dense = tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
        if not is_dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise DamagedError(f"{path}: '{name}' is larger than what is stored of it.")
    return content
