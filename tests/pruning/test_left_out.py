"""The weights that are neither pruned nor counted are named."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.report import sparsity_report
from pruning.weights.left_out import UnprunedWarning


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm, self.norm = nn.Embedding(50, 8), nn.LSTM(8, 16), nn.LayerNorm(16)
        self.scale, self.tags = nn.Parameter(torch.ones(3)), nn.Linear(16, 5)


def test_what_is_not_prunable_by_default_is_named_with_its_count_and_its_types() -> None:
    with pytest.warns(UnprunedWarning) as caught:
        mask = prune(Tagger(), "magnitude", density=0.5)
    assert str(caught[0].message) == (
        "(the network itself), words, lstm: 1,939 of 2,019 weights are not prunable by default; "
        "ask for them with prunable_layers='all,Tagger,Embedding,LSTM'."
    )
    with pytest.warns(UnprunedWarning):
        Mask.ones(Tagger())
    report = sparsity_report(mask, model=Tagger())
    assert report["not_prunable"] == {"": 3, "words": 400, "lstm": 1536}


def test_nothing_is_said_where_all_is_asked_for_or_only_biases_and_norms_are_left() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnprunedWarning)
        prune(Tagger(), "magnitude", density=0.5, prunable_layers="all,Tagger,Embedding,LSTM")
        prune(Tagger(), "magnitude", density=0.5, prunable_layers=(nn.Linear,))
        mask = prune(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.LayerNorm(3)), "magnitude", density=0.5)
    assert "not_prunable" not in sparsity_report(mask, model=nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))


class PlainList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last, self.layers = nn.Linear(4, 2), [nn.Linear(4, 4), nn.Linear(4, 4)]
        self.again = [self.last]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.last(x)


def test_layers_that_torch_does_not_find_are_named() -> None:
    with pytest.warns(UnprunedWarning, match="32 weights are in layers that the network keeps in plain lists"):
        mask = prune(PlainList(), "magnitude", density=0.5)
    assert mask.total == 8
    assert sparsity_report(mask, model=PlainList())["not_prunable"] == {"(not registered)": 32}
