"""Pruning of networks of timm and transformers, for which open_prune has no code: methods with exact counts, of four.

Each network has random weights, is built by its library alone and is pruned to 10% by magnitude, SNIP, SynFlow and,
with ERK, at random, on two classes of random examples. A count is exact if it is the nearest to a tenth of the weights
of all convolutions and linear layers, counted here (GPT-2's linear layers are Conv1D, which are asked for). The detail
gives the number of these weights, and the reason of each refusal.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.timing import Row
from foundations.errors import UsageError
from pruning.prune import prune

STRATEGIES: dict[str, dict[str, str]] = {"magnitude": {}, "snip1": {}, "synflow": {}, "random": {"allocation": "erk"}}
CLASSES, SIDE, VOCABULARY, LENGTH = 2, 64, 40, 8
TIMM = """
resnet18 resnetv2_18 ecaresnet26t legacy_seresnet18 resnest14d skresnet18 densenet121 dla46_c dpn48b ese_vovnet19b_slim
regnety_002 efficientnet_b0 mobilenetv3_small_050 mnasnet_small ghostnet_050 rexnet_100 convnext_atto nf_regnet_b0
cs3darknet_focus_s hgnetv2_b0 starnet_s1 repvgg_a0 vit_tiny_patch16_224 eva02_tiny_patch14_224 convit_tiny levit_128s
gmlp_ti16_224 mobilevit_xxs pvt_v2_b0 mambaout_femto efficientvit_b0 halonet26t
"""
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "bert": {**_SIZES, "vocab_size": VOCABULARY},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": VOCABULARY},
    "llama": {**_SIZES, "vocab_size": VOCABULARY, "num_key_value_heads": 2},
    "vit": {**_SIZES, "image_size": SIDE, "patch_size": 8},
    "convnext": {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]},
}
_ON_REQUEST = {"gpt2": "all,Conv1D"}


def rows() -> Iterator[Row]:
    """Prune every network by every method."""
    for name in TIMM.split():
        yield exact(f"timm {name}", partial(timm_network, name), images())
    for name in TRANSFORMERS:
        inputs = {"pixel_values": images()} if name in ("vit", "convnext") else {"input_ids": tokens()}
        network = partial(transformers_network, name)
        yield exact(f"transformers {name}", network, inputs, _ON_REQUEST.get(name, "all"))


def exact(what: str, build: Callable[[], nn.Module], inputs: Any, layers: str = "all") -> Row:
    """Return the number of methods that prune a network to the exact number."""
    torch.manual_seed(0)
    network, reached, refused = build(), 0, []
    total = weights_of(network)
    for strategy, options in STRATEGIES.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mask = prune(
                    network,
                    strategy,
                    density=0.1,
                    examples=(inputs, torch.arange(CLASSES)),
                    loss=loss_of,
                    prunable_layers=layers,
                    **options,  # type: ignore[arg-type]
                )
        except UsageError as error:
            refused.append(f"{strategy}: {error.reason}")
            continue
        reached += (mask.total, mask.pruned) == (total, (9 * total + 5) // 10)  # a half rounds up
    return Row(what, float(reached), f"aim: at least {len(STRATEGIES)}", "; ".join([f"{total:,} weights", *refused]))


def weights_of(network: nn.Module) -> int:
    """Return the number of weights of convolutions and linear layers, shared ones once."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    layers = [layer for layer in network.modules() if isinstance(layer, kinds) or type(layer).__name__ == "Conv1D"]
    weights = {layer.get_parameter("weight") for layer in layers}
    return sum(weight.numel() for weight in weights)


def loss_of(outputs: Any, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of logits, alone or in the outputs of transformers."""
    return F.cross_entropy(getattr(outputs, "logits", outputs), targets)


def timm_network(name: str) -> nn.Module:
    """Build a network of timm, for images of 64 x 64 where it is for one size."""
    import timm

    known: Any = timm.models.get_pretrained_cfg(name)
    size: dict[str, Any] = {"img_size": SIDE} if known.fixed_input_size else {}
    made: nn.Module = timm.create_model(name, num_classes=CLASSES, **size)
    return made


def transformers_network(name: str) -> nn.Module:
    """Build a small network of transformers with a head for classification."""
    import transformers

    config = transformers.AutoConfig.for_model(name, num_labels=CLASSES, **TRANSFORMERS[name])
    takes_images = "vocab_size" not in TRANSFORMERS[name]
    heads: Any = transformers.AutoModelForImageClassification, transformers.AutoModelForSequenceClassification
    made: Any = heads[not takes_images].from_config(config)
    made.config.pad_token_id = -1  # no token is padding
    assert isinstance(made, nn.Module)
    return made


def images() -> torch.Tensor:
    """Return random images, float32 (CLASSES, 3, SIDE, SIDE)."""
    return torch.randn(CLASSES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def tokens() -> torch.Tensor:
    """Return random tokens, int64 (CLASSES, LENGTH)."""
    return torch.randint(VOCABULARY, (CLASSES, LENGTH), generator=torch.Generator().manual_seed(0))
