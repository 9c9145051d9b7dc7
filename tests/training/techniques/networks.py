"""Networks that are not from papers, of 12 inputs and 4 classes, for tests of techniques."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TwoInputs(nn.Module):
    """A network of two parts of its input, one of them through complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(7, 6, dtype=torch.complex128)
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x[:, :5])) + self.second(x[:, 5:] + 0j).abs())


class Recurrent(nn.Module):
    """Both directions of an LSTM, and a depthwise convolution with batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True, bidirectional=True)
        self.conv, self.norm = nn.Conv1d(8, 8, 3, padding=1, groups=8), nn.BatchNorm1d(8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.conv(self.lstm(x.view(-1, 3, 4))[0].mT)).mean(2))


class Encoder(nn.Module):
    """A layer of a transformer encoder, and a matrix that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(torch.tanh(self.first(self.layer(x.view(-1, 3, 4))[:, 0]))))


NETWORKS = (TwoInputs, Recurrent, Encoder)
