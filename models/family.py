"""What a line of the registry says, and what a builder gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """Networks whose names follow one pattern."""

    spelling: str
    """The names as people write them: `cifar_resnet_D[_W]`."""
    pattern: str
    """The same as a regular expression over the whole name, with groups `depth`, `width`, `units`, `member`."""
    builder: str
    """`module:function`, called with a `Plan`."""
    source: str
    """The paper or code base whose network this is."""
    recipe: Mapping[str, Any]
    """Hyperparameters of `--default_hparams`, by flag, without `model_name`."""
    examples: tuple[str, ...]
    """Names to list and to suggest."""
    width: int | None = None
    """The width of a name that gives none."""
    possible: Callable[[int], bool] = field(default=lambda _: True)
    """Whether there is a network of this depth."""
    rule: str = ""
    """`possible` in words."""
    members: tuple[str, ...] = ()
    """The possible values of the group `member`."""
    options: frozenset[str] = frozenset({"activation"})
    """The hyperparameters besides the name that change the network: of `activation`, `no_batchnorm`, `no_conv_bias`."""
    batchnorm: bool = True
    """Whether its networks have batch normalization, so that hyperparameters about it mean something."""


@dataclass(frozen=True)
class Preset:
    """A recipe of a paper for a network of a family: names for `--default_hparams` only."""

    spelling: str
    pattern: str
    """A regular expression over the whole name, with groups that `model` mentions."""
    model: str
    """The network's name, with the pattern's groups in braces: `cifar_resnet_{depth}_32`."""
    source: str
    recipe: Mapping[str, Any]
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Parts:
    """What a name says."""

    depth: int | None = None
    width: int | None = None
    units: tuple[int, ...] = ()
    member: str = ""


@dataclass(frozen=True)
class Plan:
    """All that a builder needs: what the name says, and what the data and the other hyperparameters say."""

    parts: Parts
    outputs: int
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    activation: str = "relu"
    batchnorm: bool = True
    conv_bias: bool = True

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.input_shape[0]

    @property
    def depth(self) -> int:
        """The depth that the name gives."""
        assert self.parts.depth is not None, "the family's pattern has a depth"
        return self.parts.depth

    @property
    def width(self) -> int:
        """The width that the name gives, or the family's."""
        assert self.parts.width is not None, "the family has a width"
        return self.parts.width
