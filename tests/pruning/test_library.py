"""Pruning as a library, on networks that are not ours."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

import pruning
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.report import sparsity_report


def test_the_examples_of_the_documentation_run() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        result = doctest.testmod(pruning)
    assert result.attempted > 10
    assert result.failed == 0


def test_a_torchvision_model_in_two_lines(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        model = torchvision.models.resnet18(num_classes=10)
    x, y = torch.randn(20, 3, 32, 32), torch.arange(20) % 10

    mask = prune(model, "snip2", density=0.1, examples=(x, y))
    mask.apply_(model)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    keep = mask.attach(optimizer)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    keep.detach()
    mask.save(tmp_path / "mask.safetensors")

    assert mask.kept == round(mask.total * 0.1)
    assert all(not model.get_parameter(name)[~kept].any() for name, kept in mask.items())
    assert Mask.load(tmp_path / "mask.safetensors") == mask
    assert sparsity_report(mask, model=model, input_shape=(3, 32, 32))["effective"]["kept"] <= mask.kept


class Transformer(nn.Module):
    """Reads token numbers, tells one of two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.words(tokens)).mean(1))


@pytest.mark.filterwarnings("ignore::pruning.prune.CollapseWarning")
def test_a_small_transformer() -> None:
    with torch.random.fork_rng():
        model = Transformer()
    tokens, labels = torch.randint(50, (32, 12)), torch.arange(32) % 2
    for strategy in ("snip8", "grasp8", "fisher4", "magnitude", "random"):
        mask = prune(model, strategy, density=0.2, iterations=2, examples=(tokens, labels))
        assert mask.kept == round(mask.total * 0.2)
        assert "layers.layers.0.self_attn.in_proj_weight" in mask
        assert prune(model, strategy, density=0.2, iterations=2, examples=(tokens, labels)) == mask
