"""Networks in the forms that other programs give them: their inputs, outputs and dropout, with examples for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY, CLASSES, LENGTH = 11, 3, 6


class TransformerClassifier(nn.Module):
    """torch's own encoder with dropout everywhere; it reads tokens and classifies their mean."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=p, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.dropout = nn.Dropout(p)
        self.out = nn.Linear(8, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.out(self.dropout(self.encoder(self.embed(tokens)).mean(1)))
        return out


class CausalAttention(nn.Module):
    """Attention in one call, with dropout that only the mode of the module turns off."""

    def __init__(self, width: int, heads: int, p: float, is_causal: bool) -> None:
        super().__init__()
        self.heads, self.p, self.is_causal = heads, p, is_causal
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        p = self.p if self.training else 0
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=self.is_causal)
        projected: Tensor = self.project(attended.transpose(1, 2).flatten(2))
        return projected


class AttentionClassifier(nn.Module):
    """Attention over pixels as they are, with functional dropout."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.enter, self.attention = nn.Linear(4, 8), CausalAttention(8, 2, p, is_causal=False)
        self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        x = self.norm(x + self.attention(x))
        out: Tensor = self.out(F.dropout(x.mean(1), self.p, self.training))
        return out


class SmallGPT(nn.Module):
    """A language model with tied embeddings, which returns a dictionary, and with labels also its loss."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, 8), nn.Embedding(LENGTH, 8)
        self.norm1, self.attention = nn.LayerNorm(8), CausalAttention(8, 2, p, is_causal=True)
        self.norm2, self.mlp = nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.dropout = nn.Dropout(p)
        self.head = nn.Linear(8, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        x = self.dropout(self.tokens(input_ids) + self.places.weight[: input_ids.shape[1]])
        x = x + self.attention(self.norm1(x))
        logits = self.head(x + self.mlp(self.norm2(x)))
        if labels is None:
            return {"logits": logits}
        return {"loss": F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()), "logits": logits}


class LSTMClassifier(nn.Module):
    """An LSTM over tokens, which returns logits and its hidden state."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 5)
        self.lstm = nn.LSTM(5, 6, 2, batch_first=True, dropout=p, bidirectional=True)
        self.out = nn.Linear(12, CLASSES)

    def forward(self, tokens: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hidden, state = self.lstm(self.embed(tokens))
        return self.out(hidden[:, -1]), state


class TwoInputs(nn.Module):
    """An image and some numbers, which are concatenated."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.dense = nn.Linear(5, 4)
        self.dropout, self.out = nn.Dropout(p), nn.Linear(8, CLASSES)

    def forward(self, image: Tensor, numbers: Tensor) -> Tensor:
        seen = F.relu(self.norm(self.conv(image))).mean((2, 3))
        out: Tensor = self.out(self.dropout(torch.cat((seen, F.relu(self.dense(numbers))), 1)))
        return out


def _of_timm(name: str, p: float, **options: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    made: nn.Module = timm.create_model(name, num_classes=CLASSES, drop_rate=p, **options)
    return made


def _of_torchvision(name: str, **options: Any) -> nn.Module:
    torchvision = pytest.importorskip("torchvision")
    made: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **options)
    return made


def _efficientnet(p: float) -> nn.Module:
    return _of_torchvision("efficientnet_b0", dropout=p, stochastic_depth_prob=p)


def _vit(p: float) -> nn.Module:
    size: dict[str, Any] = {"img_size": 32, "depth": 3}
    return _of_timm("vit_tiny_patch16_224", p, drop_path_rate=p, attn_drop_rate=p, proj_drop_rate=p, **size)


def _images(size: int) -> Tensor:
    return _random((CLASSES, 3, size, size))


def _random(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def _tokens() -> Tensor:
    return torch.randint(VOCABULARY, (CLASSES, LENGTH), generator=torch.Generator().manual_seed(1))


def _classes(inputs: Any) -> tuple[Any, Tensor]:
    return inputs, torch.arange(CLASSES)


@dataclass(frozen=True)
class Foreign:
    """A network: made with a probability of dropout, and examples for it, one of each class."""

    make: Callable[[float], nn.Module]
    examples: Callable[[], Any]
    layers: str = "all"
    """The layers to prune, where a method lets them be chosen."""

    def network(self, p: float = 0.3) -> nn.Module:
        """Return the network, the same but for its dropout; with weights that initialization leaves at zero."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = self.make(p)
            for parameter in made.parameters():
                if not parameter.any():
                    nn.init.normal_(parameter, std=0.1)
        return made


def _gpt_examples() -> dict[str, Tensor]:
    return {"input_ids": _tokens(), "labels": _tokens()}


def _image_and_numbers() -> tuple[Tensor, Tensor]:
    return _random((CLASSES, 1, 6, 6)), _random((CLASSES, 5))


FOREIGN: dict[str, Foreign] = {
    "TransformerEncoder": Foreign(TransformerClassifier, lambda: _classes(_tokens())),
    "GPT, tied, with loss": Foreign(SmallGPT, _gpt_examples),
    "LSTM": Foreign(LSTMClassifier, lambda: _classes(_tokens()), "all,LSTM"),
    "two inputs, tuple": Foreign(TwoInputs, lambda: _classes(_image_and_numbers())),
    "two inputs, dictionary": Foreign(
        TwoInputs, lambda: _classes(dict(zip(("numbers", "image"), _image_and_numbers()[::-1], strict=True)))
    ),
    "attention": Foreign(AttentionClassifier, lambda: _classes(_random((CLASSES, LENGTH, 4)))),
    "timm resnet18": Foreign(
        lambda p: _of_timm("resnet18", p, drop_path_rate=p, channels=(8, 16, 32, 64)), lambda: _classes(_images(32))
    ),
    "timm vit_tiny": Foreign(_vit, lambda: _classes(_images(32))),
    "timm mobilenetv3": Foreign(
        lambda p: _of_timm("mobilenetv3_small_050", p, drop_path_rate=p), lambda: _classes(_images(32))
    ),
    "torchvision squeezenet": Foreign(
        lambda p: _of_torchvision("squeezenet1_1", dropout=p), lambda: _classes(_images(33))
    ),
    "torchvision efficientnet": Foreign(_efficientnet, lambda: _classes(_images(32))),
}
"""Networks that are not ours, by name."""
