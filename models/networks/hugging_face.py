"""Networks of transformers with one tensor in and one out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from foundations.errors import UsageError
from foundations.inputs import TOKENS, Inputs
from models.dropout import draws_in_functions, make_repeatable, seed_draws
from models.family import NetworkSpec
from models.library_errors import built_by_library
from models.prunable_default import PrunableDefault

_NO_PADDING = -1
"""A token that no text contains: where there is no padding, the last token of each sequence counts."""


class HuggingFaceNetwork(nn.Module):
    """A network of transformers in `network`, and its logits.

    Input images (B, C, H, W) float or tokens (B, T) int64; output (B, outputs) float, or (B, T, outputs) for each
    token.
    """

    def __init__(self, spec: NetworkSpec, content: dict[str, Any]) -> None:
        super().__init__()
        self.takes_tokens, self.padding = spec.inputs.kind == TOKENS, spec.inputs.padding
        self.outputs = spec.outputs
        config = _config(content, spec.inputs, spec.outputs)
        self.network = _network(config, spec)
        own: Any = self.network.config
        own.use_cache = False
        if self.takes_tokens and self.padding is None:
            own.pad_token_id = _NO_PADDING
        make_repeatable(self)
        if draws_in_functions(self) or any("drop" in key and value for key, value in content.items()):
            seed_draws(self.network)
        # GPT-2's linear layers are of a class of their own. The head of a language model is kept.
        outputs: Any = self.network.get_output_embeddings
        head = outputs() if spec.inputs.per_token else None
        names = [name for name, module in self.named_modules() if module is head]
        self.prunable_default = PrunableDefault(also=("Conv1D",), without=tuple(names))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        if not self.takes_tokens:
            return self.network(pixel_values=x).logits  # type: ignore[no-any-return]
        mask = None if self.padding is None else (x != self.padding).long()
        logits: Tensor = self.network(input_ids=x, attention_mask=mask).logits
        return logits if logits.shape[-1] == self.outputs else logits[..., : self.outputs]


def _config(content: dict[str, Any], inputs: Inputs, outputs: int) -> Any:
    """Return the configuration for a dataset. Raises: UsageError if it does not fit."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = content["model_type"]
    if kind not in CONFIG_MAPPING:
        raise UsageError(f"the installed transformers has no networks of the type '{kind}'.", "hf_config")
    with built_by_library("transformers refuses it", "hf_config"):
        config = CONFIG_MAPPING[kind].from_dict(content)
    if inputs.kind != TOKENS:
        for name, value in {"num_channels": inputs.shape[0], "image_size": inputs.shape[1]}.items():
            if hasattr(config, name):
                setattr(config, name, value)
    else:
        own = getattr(config, "vocab_size", inputs.vocabulary)
        if own < max(inputs.vocabulary, outputs if inputs.per_token else 0):
            raise UsageError(
                f"its vocab_size is {own:,}, and the dataset has {inputs.vocabulary:,} tokens; raise it.", "hf_config"
            )
        longest = getattr(config, "max_position_embeddings", None)
        if isinstance(longest, int) and longest < inputs.shape[0]:
            raise UsageError(
                f"its max_position_embeddings is {longest:,}, and a sequence has {inputs.shape[0]:,} tokens.",
                "hf_config",
            )
        config.pad_token_id = inputs.padding
    if inputs.per_token:
        if hasattr(config, "is_decoder"):
            config.is_decoder = True  # else an encoder's tokens see the ones that they predict
    else:
        config.num_labels = outputs
    return config


def _network(config: Any, spec: NetworkSpec) -> nn.Module:
    """Return the network with the head of the task. Raises: UsageError if transformers has none."""
    import transformers

    head: Any
    if spec.inputs.kind != TOKENS:
        head, task = transformers.AutoModelForImageClassification, "classification of images"
    elif spec.inputs.per_token:
        head, task = transformers.AutoModelForCausalLM, "language modelling"
    else:
        head, task = transformers.AutoModelForSequenceClassification, "classification of sequences"
    if type(config) not in head._model_mapping:
        raise UsageError(f"transformers has no network of the type '{config.model_type}' for {task}.", "hf_config")
    with built_by_library("transformers cannot build the network", "hf_config"), _positions_named(config, spec.inputs):
        made: nn.Module = head.from_config(config, dtype=torch.float32, trust_remote_code=False)
    module: Any
    for module in made.modules():
        positions = getattr(module, "position_embeddings", None)
        if spec.inputs.kind != TOKENS or not hasattr(module, "padding_idx") or positions is None:
            continue
        if module.padding_idx is None:
            module.padding_idx = _NO_PADDING  # positions are counted from the token after it
        elif getattr(positions, "padding_idx", None) is not None:
            _check_positions(len(positions.weight), spec.inputs)
    return made


@contextmanager
def _positions_named(config: Any, inputs: Inputs) -> Iterator[None]:
    """Name a padding token beyond the positions, where torch's error does not."""
    try:
        yield
    except (AssertionError, IndexError):
        positions = getattr(config, "max_position_embeddings", None)
        if inputs.kind == TOKENS and isinstance(positions, int) and positions <= (inputs.padding or 0):
            _check_positions(positions, inputs)
        raise


def _check_positions(positions: int, inputs: Inputs) -> None:
    """Check that there are positions for a sequence after the padding token's number. Raises: UsageError."""
    needed = (inputs.padding or 0) + 1 + inputs.shape[0]
    if positions < needed:
        raise UsageError(
            f"its max_position_embeddings is {positions:,}; this network counts positions from the padding token, "
            f"{inputs.padding:,}, so sequences of {inputs.shape[0]:,} tokens need {needed:,}.",
            "hf_config",
        )
