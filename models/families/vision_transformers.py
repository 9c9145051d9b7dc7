"""Vision transformers and mixers. D blocks of width W on patches of P x P pixels.

vit_D_W_P        Dosovitskiy et al. 2021; GELU, an MLP of 4 W, learned positions, a class token or the mean
deit_tiny        vit_12_192_16 (Touvron et al. 2021)
deit_small       vit_12_384_16
deit_base        vit_12_768_16, which is ViT-B/16
mixer_D_W_P      Tolstikhin et al. 2021; MLPs of W / 2 over the patches and of 4 W over the channels
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from models.family import DEPTH, PATCH, WIDTH, Family, NetworkSpec
from models.transformer_hparams import TransformerHparams, VisionTransformerHparams

if TYPE_CHECKING:
    from torch import nn

_DEIT_WIDTHS = {"tiny": 192, "small": 384, "base": 768}
_LEAST_OF_64 = 192
"""The width from which heads are 64 wide, DeiT-tiny's."""


def vit(spec: NetworkSpec) -> nn.Module:
    """Build `vit_D_W_P`. Raises: UsageError if patches do not cover the images, or heads do not divide the width."""
    from models.networks.vision_transformer import VisionTransformer

    hparams = spec.hparams
    assert isinstance(hparams, VisionTransformerHparams)
    heads = hparams.heads or max(1, spec.width // (64 if spec.width >= _LEAST_OF_64 else 32))
    return VisionTransformer(
        spec, heads=heads, pooling=hparams.pooling, dropout=hparams.dropout, depth=hparams.stochastic_depth
    )


def deit(spec: NetworkSpec) -> nn.Module:
    """Build a DeiT of a published size. Raises: UsageError if patches do not cover the images."""
    return vit(replace(spec, depth=12, width=_DEIT_WIDTHS[spec.member], patch=16))


def mixer(spec: NetworkSpec) -> nn.Module:
    """Build `mixer_D_W_P`. Raises: UsageError if patches do not cover the images."""
    from models.networks.mixer import Mixer

    hparams = spec.hparams
    assert isinstance(hparams, TransformerHparams)
    return Mixer(spec, dropout=hparams.dropout, depth=hparams.stochastic_depth)


VIT = Family(
    spelling="vit_D_W_P",
    pattern=f"vit{DEPTH}{WIDTH}{PATCH}",
    builder=vit,
    source="Dosovitskiy et al. 2021",
    examples=("vit_6_64_4", "vit_12_192_4"),
    options=frozenset(),
    batchnorm=False,
    hparams=VisionTransformerHparams,
)
DEIT = replace(
    VIT,
    spelling="deit_NAME",
    pattern="deit_(?P<member>[a-z]+)",
    builder=deit,
    source="Touvron et al. 2021",
    examples=("deit_tiny", "deit_small", "deit_base"),
    members=tuple(_DEIT_WIDTHS),
)
MIXER = Family(
    spelling="mixer_D_W_P",
    pattern=f"mixer{DEPTH}{WIDTH}{PATCH}",
    builder=mixer,
    source="Tolstikhin et al. 2021",
    examples=("mixer_4_64_4", "mixer_8_512_16"),
    options=frozenset(),
    batchnorm=False,
    hparams=TransformerHparams,
)
