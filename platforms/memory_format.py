"""The layout of images in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

_LANES = 16
"""float32 numbers in a register of AVX-512."""


def memory_format(
    device: torch.device, precision: str = "float32", model: nn.Module | None = None
) -> torch.memory_format:
    """Return the layout of images that is fastest on a device for a network, and safe.

    On CPUs with AVX-512, channels_last runs a ResNet-20 step 1.25 times faster than the default layout. On those
    without, oneDNN's kernels for it (torch 2.15) corrupt the heap in convolutions of few channels: the process aborts,
    or trains on overwritten numbers. With AVX-512 (torch 2.15), so do 1 x 1 convolutions with a stride, seen with 2 to
    8 input channels and images of 48 x 48 and more in the backward pass; networks with one of fewer than 16 have the
    default layout. On CUDA, channels_last pays where tensor cores do the work, that is in any precision but float32.
    Tensors of five dimensions, such as the weights of Conv3d, cannot have that layout.
    """
    import torch

    if _has_volumes(model):
        return torch.contiguous_format
    if device.type == "cpu":
        channels_last = torch.backends.cpu.get_cpu_capability() == "AVX512" and not _has_narrow_shortcuts(model)
    else:
        channels_last = device.type == "cuda" and precision != "float32"
    return torch.channels_last if channels_last else torch.contiguous_format


def _has_volumes(model: nn.Module | None) -> bool:
    """Return whether a network has tensors of five dimensions, which `Module.to` would give the layout too."""
    return model is not None and any(tensor.dim() == 5 for tensor in (*model.parameters(), *model.buffers()))


def _has_narrow_shortcuts(model: nn.Module | None) -> bool:
    """Return whether a network has a 1 x 1 convolution with a stride and few input channels."""
    from torch import nn

    return model is not None and any(
        isinstance(layer, nn.Conv2d)
        and set(layer.kernel_size) == {1}
        and max(layer.stride) > 1
        and layer.in_channels < _LANES
        for layer in model.modules()
    )
