"""Networks of transformers, from a configuration of Hugging Face's in a local file: `hf_TYPE`, such as `hf_bert`.

TYPE is the configuration's `model_type`. The network has the head of the dataset's task, with random weights:
classification of images or sequences, or language modelling. Nothing is downloaded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from foundations.description.hparams import hparam
from foundations.errors import EnvironmentFailure, UsageError
from foundations.inputs import IMAGES, TOKENS
from models.family import Family, NetworkSpec
from models.hparams import ModelHparams

if TYPE_CHECKING:
    from torch import nn

FILE = "config.json"
_NOT_OF_THE_NETWORK = frozenset({"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"})
"""Entries of a configuration that say where it comes from, or how weights are stored."""


@dataclass(frozen=True, kw_only=True)
class HuggingFaceHparams(ModelHparams):
    """The network, its initialization, and its frozen parameters."""

    hf_config: str | None = hparam(None)
    """The configuration of the network: a file, or a folder with config.json. The address depends on its content, which
    the description holds."""

    def simplified(self) -> Self:
        """Return these hyperparameters with the content of the configuration, sorted, in place of its path.

        Raises: UsageError if it cannot be read, or is of another type of network.
        """
        plain = super().simplified()
        if self.hf_config is None:
            return plain
        content = _content_of(self.hf_config, self.model_name)
        return plain.replaced({"hf_config": json.dumps(content, sort_keys=True, separators=(",", ":"))})


def content_of(hparams: ModelHparams) -> dict[str, Any]:
    """Return the content of the configuration. Raises: UsageError if there is none, or if it is not valid."""
    assert isinstance(hparams, HuggingFaceHparams)
    if hparams.hf_config is None:
        reason = f"{hparams.model_name} needs a configuration: --hf_config=FILE, or a folder with {FILE}."
        raise UsageError(reason, "hf_config")
    return _content_of(hparams.hf_config, hparams.model_name)


def check_configuration(hparams: ModelHparams) -> None:
    """Check that there is a configuration, of the type in the name. Raises: UsageError."""
    content_of(hparams)


def _content_of(config: str, name: str) -> dict[str, Any]:
    """Return the entries of a configuration, given by its path or as text. Raises: UsageError."""
    text, shown = config, "the configuration"
    if not config.lstrip().startswith("{"):
        path = Path(config).expanduser()
        path = path / FILE if path.is_dir() else path
        shown = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} cannot be read as a configuration; give a JSON file.", "hf_config") from error
    try:
        content = json.loads(text)
        kind = content["model_type"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(f"{shown} is not a configuration: a JSON object with 'model_type'.", "hf_config") from error
    if name != f"hf_{kind}":
        raise UsageError(f"{shown} is of the type '{kind}'; give --model_name=hf_{kind}.", "hf_config")
    return {key: value for key, value in content.items() if key not in _NOT_OF_THE_NETWORK}


def hugging_face(spec: NetworkSpec) -> nn.Module:
    """Build `hf_TYPE` with the head of the task.

    Raises: EnvironmentFailure if transformers is not installed; UsageError if it has no such network for the task.
    """
    content = content_of(spec.hparams)
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise EnvironmentFailure(
            f"{spec.hparams.model_name} needs transformers: pip install 'open_prune[transformers]'."
        ) from error
    from models.networks.hugging_face import HuggingFaceNetwork

    return HuggingFaceNetwork(spec, content)


HUGGING_FACE = Family(
    spelling="hf_TYPE",
    pattern=r"hf_(?P<member>[a-zA-Z0-9_.-]+)",
    builder=hugging_face,
    source="transformers",
    inputs=frozenset({IMAGES, TOKENS}),
    per_token=frozenset({False, True}),
    dropout=True,
    options=frozenset(),
    hparams=HuggingFaceHparams,
    check=check_configuration,
)
