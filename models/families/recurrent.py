"""Recurrent networks for tokens and series: `lstm_D_W` and `gru_D_W`, of D layers with W units each.

    part        units   layers
    embedding   W       a vector for each token (series: none, the channels are the inputs)
    layers      W       D layers of Hochreiter & Schmidhuber 1997 or Cho et al. 2014, dropout before each but the first
    fc                  linear: of each position (language models), or of the last one that is not padding

`prunable_layers=all` takes the weights of the recurrent layers, and of a classifier those of its output layer too. The
embedding, and the output layer of a language model, are pruned where they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from foundations.inputs import SERIES, TOKENS
from models.family import DEPTH, WIDTH, Family, NetworkSpec
from models.hparams import ModelHparams

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class RecurrentHparams(ModelHparams):
    """The network, its initialization, and its frozen parameters."""

    recurrent_dropout: float = hparam(0.0, at_least=0, below=1)
    """Probability that an output of a recurrent layer is dropped before the next layer (Zaremba et al. 2014)."""


def recurrent(spec: NetworkSpec, *, layer: str) -> nn.Module:
    """Build a network of recurrent layers of one class of torch.nn."""
    from torch import nn

    from models.networks.recurrent import Recurrent

    assert isinstance(spec.hparams, RecurrentHparams)
    return Recurrent(spec, getattr(nn, layer), dropout=spec.hparams.recurrent_dropout)


def _family(name: str, layer: str, source: str) -> Family:
    return Family(
        spelling=f"{name}_D_W",
        pattern=f"{name}{DEPTH}{WIDTH}",
        builder=partial(recurrent, layer=layer),
        source=source,
        examples=(f"{name}_1_128", f"{name}_2_256"),
        inputs=frozenset({TOKENS, SERIES}),
        per_token=frozenset({False, True}),
        options=frozenset(),
        batchnorm=False,
        hparams=RecurrentHparams,
    )


LSTM = _family("lstm", "LSTM", "Hochreiter & Schmidhuber 1997")
GRU = _family("gru", "GRU", "Cho et al. 2014")
