"""Transformers on tokens. D blocks of width W with H heads; the vocabulary and the length are the dataset's.

    gpt_D_W_H        GPT-2's layout (Radford et al. 2019): causal, learned positions, GELU (tanh), a tied head
    llama_D_W_H      LLaMA's layout (Touvron et al. 2023): causal, rotary positions, RMSNorm, SwiGLU, no biases
    encoder_D_W_H    all tokens see each other, padding excepted; the mean of the tokens is classified

gpt_12_768_12 is GPT-2 (124 M), llama_32_4096_32 LLaMA-7B. The first two answer for each token, or once for a sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from foundations.inputs import TOKENS
from models.family import DEPTH, HEADS, WIDTH, Family, NetworkSpec
from models.transformer_hparams import TransformerHparams

if TYPE_CHECKING:
    from torch import nn


def _builder(name: str) -> Callable[[NetworkSpec], nn.Module]:
    def build(spec: NetworkSpec) -> nn.Module:
        from models.networks import language_transformers

        hparams = spec.hparams
        assert isinstance(hparams, TransformerHparams)
        builder: Callable[..., nn.Module] = getattr(language_transformers, name)
        return builder(spec, dropout=hparams.dropout, depth=hparams.stochastic_depth)

    return build


def _family(name: str, source: str, examples: str, per_token: frozenset[bool]) -> Family:
    return Family(
        spelling=f"{name}_D_W_H",
        pattern=f"{name}{DEPTH}{WIDTH}{HEADS}",
        builder=_builder(name),
        source=source,
        examples=tuple(f"{name}_{size}" for size in examples.split()),
        options=frozenset(),
        batchnorm=False,
        inputs=frozenset({TOKENS}),
        per_token=per_token,
        hparams=TransformerHparams,
    )


GPT = _family("gpt", "Radford et al. 2019 (GPT-2)", "4_96_4 12_768_12", frozenset({True, False}))
LLAMA = _family("llama", "Touvron et al. 2023", "4_96_4 32_4096_32", frozenset({True, False}))
ENCODER = _family("encoder", "Vaswani et al. 2017, pre-norm", "4_96_4", frozenset({False}))
