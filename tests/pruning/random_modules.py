"""Random small networks, read from bytes: layers of all kinds, put together in all ways."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.dropout import Dropout
from tests.pruning.odd_layers import (
    Applied,
    Attention,
    Branches,
    FunctionalDropout,
    InPlace,
    Keeping,
    Listed,
    Noise,
    NoiseInTraining,
    OwnAttention,
    OwnGenerators,
    OwnParameters,
    Recurrent,
    Residual,
    Tape,
    Twice,
    Unregistered,
    Watch,
    hooked,
)

VOCABULARY, TIMES, CLASSES, PER_CLASS = 5, 3, 3, 3
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LINEAR = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)

ODD_LAYERS = ("keeping", "hooked", "own", "noise", "generators", "training", "hidden", "parallel", "compiled")


class Flow(NamedTuple):
    """Shape of the data between layers: vectors (d,), sequences (t, d) or images (c, ...)."""

    kind: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        return self.shape[0] if self.kind == "image" else self.shape[-1]

    def of_width(self, width: int) -> Flow:
        shape = (width, *self.shape[1:]) if self.kind == "image" else (*self.shape[:-1], width)
        return Flow(self.kind, shape)


class Builder:
    def __init__(self, tape: Tape, p: float) -> None:
        self.tape, self.p = tape, p
        self.watches: list[Watch] = []

    def network(self) -> tuple[nn.Module, Tensor]:
        flow, inputs = self._start()
        layers: list[nn.Module] = [InPlace()] if self.tape.of(False, False, True) else []
        table: nn.Embedding | None = None
        if not inputs.is_floating_point():
            table = nn.Embedding(VOCABULARY, flow.width, padding_idx=self.tape.of(None, 0))
            layers.append(table)
        for _ in range(self.tape.of(0, 1, 2, 3)):
            layer, flow = self.layer(flow, 2)
            layers.append(layer)
        layers.append(self._to_vectors(flow))
        flow = Flow("vector", (flow.width,))
        for _ in range(self.tape.of(0, 0, 1)):
            layer, flow = self.layer(flow, 1)
            layers.append(layer)
        if table is not None and table.embedding_dim == flow.width and self.tape.of(False, True):
            decoder = nn.Linear(flow.width, VOCABULARY)
            decoder.weight = table.weight
            layers += [decoder, nn.Linear(VOCABULARY, CLASSES)]
        else:
            layers.append(nn.Linear(flow.width, CLASSES))
        return nn.Sequential(*layers), inputs

    def _start(self) -> tuple[Flow, Tensor]:
        count = CLASSES * PER_CLASS
        kind = self.tape.of("vector", "image", "sequence", "tokens")
        if kind == "tokens":
            return Flow("sequence", (TIMES, 4)), torch.randint(VOCABULARY, (count, TIMES))
        if kind == "image":
            flow = Flow("image", (2, *self.tape.of((4,), (3, 3), (3, 2, 2))))
        else:
            flow = Flow(kind, (4,) if kind == "vector" else (TIMES, 4))
        return flow, torch.randn(count, *flow.shape)

    def _to_vectors(self, flow: Flow) -> nn.Module:
        if flow.kind == "vector":
            return nn.Identity()
        if flow.kind == "sequence":
            return Applied(self.tape.of(_mean_of_times, _last_of_times))
        return Applied(_mean_of_places)

    def layer(self, flow: Flow, depth: int, keep: bool = False) -> tuple[nn.Module, Flow]:
        """Return a layer or a group of layers, and its output. keep: with as many channels as its input."""
        kind = self.tape.of("weights", "own", "norm", "dropout", "group", "odd")
        if kind == "weights" or (kind in ("group", "odd") and not depth):
            return self._with_weights(flow, keep)
        if kind == "norm":
            return self._norm(flow), flow
        if kind == "dropout":
            return self._dropout(flow), flow
        if kind == "own":
            return self.tape.of(nn.Tanh(), nn.GELU(), nn.LeakyReLU(), nn.Sigmoid()), flow
        if kind == "odd":
            return self._odd(flow, depth)
        return self._group(flow, depth, keep)

    def _with_weights(self, flow: Flow, keep: bool) -> tuple[nn.Module, Flow]:
        width = flow.width if keep else self.tape.of(4, 2, 6)
        bias = self.tape.of(True, False)
        if flow.kind == "image":
            axes = len(flow.shape) - 2
            groups = self.tape.of(1, 2)
            kind = self.tape.of(CONVOLUTIONS, TRANSPOSED)[axes]
            mode = self.tape.of("zeros", "circular") if kind in CONVOLUTIONS else "zeros"
            layer: nn.Module = kind(flow.width, width, 3, padding=1, groups=groups, bias=bias, padding_mode=mode)
        elif flow.kind == "sequence" and self.tape.of(False, True):
            return self._of_sequences(flow, width, bias)
        else:
            layer = nn.Linear(flow.width, width, bias=bias)
        if self.tape.of(False, True):
            layer = nn.Sequential(layer, nn.ReLU(inplace=True))
        return layer, flow.of_width(width)

    def _of_sequences(self, flow: Flow, width: int, bias: bool) -> tuple[nn.Module, Flow]:
        kind = self.tape.of(nn.LSTM, nn.GRU, nn.RNN, "attention", "own", "encoder")
        if kind == "encoder":
            return nn.TransformerEncoderLayer(flow.width, 2, 5, self.p, batch_first=True), flow
        if kind == "own":
            return OwnAttention(flow.width, self.p), flow
        if kind == "attention":
            other = self.tape.of(None, flow.width)
            attention = nn.MultiheadAttention(
                flow.width, 2, self.p, bias=bias, batch_first=True, kdim=other, add_bias_kv=self.tape.of(False, True)
            )
            if other is not None and attention._qkv_same_embed_dim:
                attention = nn.MultiheadAttention(flow.width, 2, self.p, bias=bias, batch_first=True)
            return Attention(attention), flow
        rnn = kind(flow.width, width, self.tape.of(1, 2), bias=bias, batch_first=True)
        rnn.dropout = self.p if rnn.num_layers > 1 else 0.0
        return Recurrent(rnn), flow.of_width(width)

    def _norm(self, flow: Flow) -> nn.Module:
        if flow.kind == "image":
            axes = len(flow.shape) - 2
            batchnorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[axes]
            instance = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[axes]
            return self.tape.of(
                batchnorm(flow.width),
                batchnorm(flow.width, affine=False),
                batchnorm(flow.width, track_running_stats=False),
                batchnorm(flow.width, momentum=None),
                nn.GroupNorm(2, flow.width),
                instance(flow.width, affine=True),
            )
        if flow.kind == "vector":
            return self.tape.of(nn.BatchNorm1d(flow.width), nn.LayerNorm(flow.width), nn.RMSNorm(flow.width))
        return self.tape.of(nn.LayerNorm(flow.width), nn.RMSNorm(flow.width))

    def _dropout(self, flow: Flow) -> nn.Module:
        of_channels = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)[len(flow.shape) - 2] if flow.kind == "image" else None
        return self.tape.of(
            nn.Dropout(self.p),
            Dropout(self.p),
            Dropout(self.p, whole_examples=True),
            FunctionalDropout(self.p),
            nn.AlphaDropout(self.p),
            (of_channels or nn.FeatureAlphaDropout)(self.p),
        )

    def _group(self, flow: Flow, depth: int, keep: bool) -> tuple[nn.Module, Flow]:
        kind = self.tape.of("residual", "branches", "listed", "twice", "tied", "nested")
        if kind == "residual":
            return Residual(self.layer(flow, depth - 1, True)[0]), flow
        if kind == "branches":
            inner = [self.layer(flow, depth - 1, True)[0] for _ in range(2)]
            joined = self.tape.of(False, True) and not keep
            return Branches(inner, joined, 1 if flow.kind == "image" else -1), flow.of_width(flow.width * (1 + joined))
        if kind == "twice":
            return Twice(self._with_weights(flow, True)[0]), flow
        if kind == "tied":
            one, other = (self._with_one_weight(flow) for _ in range(2))
            other.weight = one.weight
            return nn.Sequential(other, nn.Tanh(), one), flow
        layers = [self.layer(flow, depth - 1, True)[0] for _ in range(2)]
        if kind == "listed":
            return Listed(layers), flow
        return nn.Sequential(nn.Sequential(layers[0]), nn.Identity(), layers[1]), flow

    def _with_one_weight(self, flow: Flow) -> nn.Module:
        if flow.kind == "image":
            return CONVOLUTIONS[len(flow.shape) - 2](flow.width, flow.width, 3, padding=1)
        return nn.Linear(flow.width, flow.width)

    def _odd(self, flow: Flow, depth: int) -> tuple[nn.Module, Flow]:
        kind = self.tape.of(
            "keeping", "hooked", "own", "noise", "generators", "training", "hidden", "parallel", "compiled"
        )
        if kind == "own" and flow.kind != "image":
            return OwnParameters(flow.width), flow
        if kind in ("noise", "generators", "training"):
            return {"noise": Noise, "generators": OwnGenerators, "training": NoiseInTraining}[kind](), flow
        if kind == "hidden":
            return Unregistered(self._with_one_weight(flow)), flow
        if kind == "hooked":
            return hooked(self.tape, self._with_one_weight(flow), self.watches), flow
        inner = self.layer(flow, depth - 1, True)[0]
        return (Keeping(inner) if kind in ("keeping", "own") else wrapped(kind, inner)), flow


def _mean_of_times(x: Tensor) -> Tensor:
    return x.mean(1)


def _last_of_times(x: Tensor) -> Tensor:
    return x[:, -1]


def _mean_of_places(x: Tensor) -> Tensor:
    return x.flatten(2).mean(2)


def wrapped(kind: str, module: nn.Module) -> nn.Module:
    if kind in ("compiled", "both") and "_orig_mod" not in module._modules:
        module = torch.compile(module, backend="eager")  # type: ignore[assignment]
    return nn.DataParallel(module) if kind in ("parallel", "both") else module
