"""The hyperparameters that only transformers and mixers have."""

from __future__ import annotations

from dataclasses import dataclass

from foundations.description.hparams import ALWAYS_WRITTEN, hparam
from models.hparams import ModelHparams
from models.initializers import WEIGHT_INITS


@dataclass(frozen=True, kw_only=True)
class TransformerHparams(ModelHparams):
    """The network, its initialization, what it drops in training, and its frozen parameters."""

    model_init: str = hparam("as_built", elided=ALWAYS_WRITTEN, choices=WEIGHT_INITS)
    """The initializer of convolutional and linear weights (a tied head's and so the embeddings' among them). as_built,
    the default here, leaves the published initial values: N(0, 0.02^2), in GPT-2's and LLaMA's layout divided by
    sqrt(2 * depth) in the last layer of each branch; in a mixer xavier_uniform. Biases are 0, and embeddings, positions
    and normalization keep their published values with any initializer."""

    dropout: float = hparam(0.0, at_least=0, below=1)
    """The share of entries dropped from the embedded inputs and from each branch in training (GPT-2: 0.1). The weights
    of attention are never dropped."""

    stochastic_depth: float = hparam(0.0, at_least=0, below=1)
    """Skip branches of the last block for this share of examples in training, of earlier blocks for less, down to 0 in
    the first (DeiT: 0.1)."""

    @property
    def has_dropout(self) -> bool:
        """Whether the network drops entries or whole branches in train mode."""
        return bool(self.dropout or self.stochastic_depth)


@dataclass(frozen=True, kw_only=True)
class VisionTransformerHparams(TransformerHparams):
    """The vision transformer, its initialization, what it drops in training, and its frozen parameters."""

    pooling: str = hparam("class", choices=("class", "mean"))
    """Read the answer from a class token, or from the mean of the patches."""

    heads: int | None = hparam(None, at_least=1)
    """The heads of attention; by default width / 64, and width / 32 where the width is below 192 (1 at least)."""
