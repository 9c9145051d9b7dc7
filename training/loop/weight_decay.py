"""The parameters that weight decay leaves out."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from training.hparams import TrainingHparams

_EMBEDDING = re.compile(
    r"(^|_)(pos|position|positional|positions|cls|class|dist|mask|reg|register)?_?"
    r"(emb|embed|embedding|embeddings|token|tokens|pos|position|positions|position_bias_table)$"
)
"""Names of parameters that are embeddings without a module of their own: pos_embed, cls_token, class_embedding."""


def undecayed_parameters(model: nn.Module, hparams: TrainingHparams) -> list[nn.Parameter]:
    """Return the parameters of a network without weight decay, by `no_decay` and `no_batchnorm_decay`.

    norms: of modules whose class is called a norm (BatchNorm2d, LayerNorm, RMSNorm). biases: whose name ends in `bias`,
    or in `bias` and a suffix (`bias_hh_l0`). embeddings: of nn.Embedding and nn.EmbeddingBag, and parameters with the
    name of an embedding, such as `pos_embed` and `cls_token`. A tied parameter is left out if any of its uses is.
    """
    kinds = [_KINDS[name] for name in (hparams.no_decay or "").split(",") if name]
    if hparams.no_batchnorm_decay:
        kinds.append(lambda module, _name: isinstance(module, _BatchNorm))
    return [
        parameter
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if any(is_kind(module, name) for is_kind in kinds)
    ]


def _is_norm(module: nn.Module, _name: str) -> bool:
    return "norm" in type(module).__name__.lower()


def _is_bias(_module: nn.Module, name: str) -> bool:
    return name.endswith("bias") or re.match(r"bias_", name) is not None


def _is_embedding(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Embedding | nn.EmbeddingBag) or _EMBEDDING.search(name) is not None


_KINDS: dict[str, Callable[[nn.Module, str], bool]] = {
    "norms": _is_norm,
    "biases": _is_bias,
    "embeddings": _is_embedding,
}
"""The kinds of `no_decay`: (module, name of its parameter) -> whether it is of the kind."""
