"""Recognition of normalization layers, by type or by content: torch.nn's and other libraries'."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

_NORMALIZATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_STATISTICS = ("running_mean", "running_var")


def is_normalization(module: nn.Module) -> bool:
    """Return whether a layer normalizes: it is one of torch.nn's, or its class is called so (LlamaRMSNorm)."""
    return isinstance(module, _NORMALIZATIONS) or "norm" in type(module).__name__.lower()


def has_statistics(module: nn.Module) -> bool:
    """Return whether a layer normalizes by statistics that differ in train and eval mode, as batchnorm does."""
    return isinstance(module, _NormBase) or any(name in module._buffers for name in _STATISTICS)


def couples_examples(module: nn.Module) -> bool:
    """Return whether the output of a layer for one example depends on the others: batchnorm in train mode."""
    if isinstance(module, nn.modules.instancenorm._InstanceNorm) or not has_statistics(module):
        return False
    return module.training or getattr(module, "running_mean", None) is None


def any_couples_examples(network: nn.Module) -> bool:
    """Return whether some layer of a network couples the examples of a batch."""
    return any(couples_examples(module) for module in network.modules())
