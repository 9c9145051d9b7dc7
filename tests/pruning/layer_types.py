"""Layers that networks are made of, for tests: of torch.nn, of users, and with weights that torch.nn.utils computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, remove_weight_norm, spectral_norm, weight_norm
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

Make = Callable[[], nn.Module]

TORCH_LAYERS: dict[str, Make] = {
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 12, [3, 7], div_value=2.0),
    "BatchNorm1d": lambda: nn.BatchNorm1d(3),
    "BatchNorm2d": lambda: nn.BatchNorm2d(3),
    "BatchNorm3d": lambda: nn.BatchNorm3d(3),
    "Bilinear": lambda: nn.Bilinear(2, 3, 4),
    "Conv1d": lambda: nn.Conv1d(2, 3, 4),
    "Conv2d": lambda: nn.Conv2d(2, 6, 3, groups=2),
    "Conv3d": lambda: nn.Conv3d(2, 3, 2),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(2, 3, 4),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(2, 3, 2),
    "Embedding": lambda: nn.Embedding(7, 4),
    "EmbeddingBag": lambda: nn.EmbeddingBag(7, 4),
    "GRU": lambda: nn.GRU(2, 3),
    "GRUCell": lambda: nn.GRUCell(2, 3),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(3, affine=True),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(3, affine=True),
    "InstanceNorm3d": lambda: nn.InstanceNorm3d(3, affine=True),
    "LSTM": lambda: nn.LSTM(2, 3),
    "LSTMCell": lambda: nn.LSTMCell(2, 3),
    "LayerNorm": lambda: nn.LayerNorm(3),
    "Linear": lambda: nn.Linear(3, 5),
    "LinearCrossEntropyLoss": lambda: nn.LinearCrossEntropyLoss(3, 5, bias=True),
    "MultiheadAttention": lambda: nn.MultiheadAttention(4, 2),
    "PReLU": lambda: nn.PReLU(3),
    "ParameterDict": lambda: nn.ParameterDict({"weights": torch.randn(2, 3)}),
    "ParameterList": lambda: nn.ParameterList([torch.randn(2, 3), torch.randn(4)]),
    "RMSNorm": lambda: nn.RMSNorm(3),
    "RNN": lambda: nn.RNN(2, 3),
    "RNNBase": lambda: nn.RNNBase("LSTM", 2, 3),
    "RNNCell": lambda: nn.RNNCell(2, 3),
    "RNNCellBase": lambda: nn.RNNCellBase(2, 3, True, num_chunks=1),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(3),
    "Transformer": lambda: nn.Transformer(4, 2, 1, 1, 6),
    "TransformerDecoder": lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 6), 2, nn.LayerNorm(4)),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(4, 2, 6),
    "TransformerEncoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6), 2, nn.LayerNorm(4)),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(4, 2, 6),
}
"""A layer of every class of torch.nn that has parameters of a shape, by the name of the class."""

LAZY_LAYERS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "LazyBatchNorm1d": (nn.LazyBatchNorm1d, (2, 3)),
    "LazyBatchNorm2d": (nn.LazyBatchNorm2d, (2, 3, 2, 2)),
    "LazyBatchNorm3d": (nn.LazyBatchNorm3d, (2, 3, 2, 2, 2)),
    "LazyConv1d": (lambda: nn.LazyConv1d(3, 2), (2, 3, 4)),
    "LazyConv2d": (lambda: nn.LazyConv2d(3, 2), (2, 3, 4, 4)),
    "LazyConv3d": (lambda: nn.LazyConv3d(3, 2), (2, 3, 4, 4, 4)),
    "LazyConvTranspose1d": (lambda: nn.LazyConvTranspose1d(3, 2), (2, 3, 4)),
    "LazyConvTranspose2d": (lambda: nn.LazyConvTranspose2d(3, 2), (2, 3, 4, 4)),
    "LazyConvTranspose3d": (lambda: nn.LazyConvTranspose3d(3, 2), (2, 3, 4, 4, 4)),
    "LazyInstanceNorm1d": (lambda: nn.LazyInstanceNorm1d(affine=True), (2, 3, 4)),
    "LazyInstanceNorm2d": (lambda: nn.LazyInstanceNorm2d(affine=True), (2, 3, 4, 4)),
    "LazyInstanceNorm3d": (lambda: nn.LazyInstanceNorm3d(affine=True), (2, 3, 4, 4, 4)),
    "LazyLinear": (lambda: nn.LazyLinear(3), (2, 5)),
}
"""The layers of torch.nn whose parameters get their shape in the first forward pass, and the shape of an input."""


class Conv1D(nn.Module):
    """The linear layer of GPT-2: its weight is (inputs, outputs)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class OwnLayer(nn.Module):
    """A user's layer, with parameters of its own names."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(3, 4))
        self.gain = nn.Parameter(torch.randn(3))
        self.bias = nn.Parameter(torch.zeros(3))


class OwnLinear(nn.Linear):
    """A linear layer with one parameter more."""

    def __init__(self) -> None:
        super().__init__(3, 5)
        self.scale = nn.Parameter(torch.randn(5))


class OwnBlock(nn.Module):
    """A user's block: layers, and a parameter beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.Embedding(5, 4), nn.BatchNorm1d(4))
        self.token = nn.Parameter(torch.randn(1, 4))


OTHER_LAYERS: dict[str, Make] = {
    "LSTM, 2 layers, bidirectional, projected": lambda: nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2),
    "GRU, 2 layers, bidirectional": lambda: nn.GRU(2, 3, 2, bidirectional=True),
    "RNN, 2 layers, without biases": lambda: nn.RNN(2, 3, 2, bias=False),
    "MultiheadAttention with kdim, vdim": lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
    "MultiheadAttention with add_bias_kv": lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True),
    "MultiheadAttention without biases": lambda: nn.MultiheadAttention(4, 2, bias=False),
    "Conv1D of GPT-2": lambda: Conv1D(6, 2),
    "a layer of your own": OwnLayer,
    "a class derived from Linear": OwnLinear,
    "a block of your own": OwnBlock,
}
"""Layers of other forms, and layers of users."""


class Doubled(nn.Module):
    """A user's parametrization."""

    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def _pruned_by_torch(layer: nn.Module, tensor: str) -> nn.Module:
    prune.random_unstructured(layer, tensor, amount=2)
    return layer


def _parametrized(layer: nn.Module, tensor: str) -> nn.Module:
    register_parametrization(layer, tensor, Doubled())
    return layer


Wrap = Callable[[nn.Module, str], Any]
PRUNABLE_COMPUTATIONS: dict[str, tuple[Wrap, Callable[[nn.Module, str], Any]]] = {
    "nn.utils.weight_norm": (weight_norm, remove_weight_norm),
    "parametrizations.weight_norm": (parametrizations.weight_norm, remove_parametrizations),
    "nn.utils.prune": (_pruned_by_torch, prune.remove),
}
"""Reparametrizations of torch.nn.utils that can be pruned: the function that wraps a tensor, and its inverse."""
REFUSED_COMPUTATIONS: dict[str, Wrap] = {
    "nn.utils.spectral_norm": spectral_norm,
    "parametrizations.spectral_norm": parametrizations.spectral_norm,
    "parametrizations.orthogonal": parametrizations.orthogonal,
    "a parametrization of your own": _parametrized,
}
"""Reparametrizations of torch.nn.utils that cannot be pruned."""
WRAPPED_LAYERS: dict[str, tuple[Make, str]] = {
    "Linear": (lambda: nn.Linear(3, 5), "weight"),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 2), "weight"),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 2), "weight"),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(4, 2), "in_proj_weight"),
    "LSTM": (lambda: nn.LSTM(2, 3), "weight_hh_l0"),
    "Embedding": (lambda: nn.Embedding(7, 4), "weight"),
    "Bilinear": (lambda: nn.Bilinear(2, 3, 4), "weight"),
}
"""Layers and the tensor of each that torch.nn.utils may compute."""


def in_a_network(layer: nn.Module) -> nn.ModuleDict:
    """Return a network of a layer, `layer`, and of an output layer, `head`, of two weights."""
    return nn.ModuleDict({"head": nn.Linear(2, 1), "layer": layer})


def classes_of_torch() -> Iterator[tuple[str, type[nn.Module]]]:
    """Yield the classes of modules in torch.nn with their names."""
    for name, kind in sorted(vars(nn).items()):
        if isinstance(kind, type) and issubclass(kind, nn.Module):
            yield name, kind
