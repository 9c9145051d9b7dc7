"""The declaration of a family of networks, and the input of its builder.

A family is a separate file with a `Family` object, and a line in `models/registry.py`. Listing and planning
import that file, so it should import torch only inside its builder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foundations.errors import UsageError, choose_from
from foundations.inputs import IMAGES, Inputs
from foundations.registry import Registered
from models.activations import Activation, activation

if TYPE_CHECKING:
    from torch import nn

    from models.hparams import ModelHparams

NUMBER = r"[1-9]\d{0,5}"
# Parts of the patterns of names.
DEPTH = rf"_(?P<depth>{NUMBER})"
WIDTH = rf"_(?P<width>{NUMBER})"
HEADS = rf"_(?P<heads>{NUMBER})"
PATCH = rf"_(?P<patch>{NUMBER})"
OPTIONAL_WIDTH = rf"(?:{WIDTH})?"
UNITS = rf"(?P<units>(?:_{NUMBER})+)"


@dataclass(frozen=True, kw_only=True)
class NameParts:
    """The parts of a network's name."""

    depth: int = 0
    """The depth; 0 in families whose names have none."""
    width: int = 0
    """The width, or the family's default; 0 in families whose names have none."""
    heads: int = 0
    """The heads of attention; 0 in families whose names have none."""
    patch: int = 0
    """The side of a patch in pixels; 0 in families whose names have none."""
    units: tuple[int, ...] = ()
    """The units of each hidden layer."""
    member: str = ""
    """One of the family's members."""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec(NameParts):
    """The input of a builder: parts of the name, sizes of the dataset, and hyperparameters."""

    outputs: int
    """The number of logits."""
    inputs: Inputs
    hparams: ModelHparams

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example: of images, channels, height, width."""
        return self.inputs.shape

    @property
    def channels(self) -> int:
        """Channels of the images, or of the series."""
        return self.input_shape[0]

    @property
    def activation(self) -> Activation:
        """The activation function."""
        return activation(self.hparams.activation)


@dataclass(frozen=True, kw_only=True, eq=False)
class Family(Registered):
    """Networks whose names follow one pattern; its groups are `depth`, `width`, `heads`, `patch`, `units`, `member`."""

    builder: Callable[[NetworkSpec], nn.Module]
    """Builds a network with PyTorch's initial values. Input `NetworkSpec.inputs`, for images (B, C, H, W) float; output
    (B, outputs) float, or (B, T, outputs) where the network answers for each token."""
    source: str
    """The paper or code base whose network this is."""
    width: int = 0
    """The width of names that give none."""
    depths: Sequence[int] = ()
    """The valid depths, if names have a depth; empty if any depth is valid."""
    members: tuple[str, ...] = ()
    """The valid members, if names have a member; empty if any member is valid."""
    options: frozenset[str] = frozenset({"activation"})
    """The hyperparameters, of `activation`, `no_batchnorm` and `no_conv_bias`, that change the network."""
    batchnorm: bool = True
    """Whether its networks have batch normalization, so that its hyperparameters matter."""
    dropout: bool = False
    """Whether its networks drop entries or whole branches in train mode."""
    dropout_members: tuple[str, ...] = ()
    """Prefixes of the members with dropout, if only some members have it."""
    linearized_members: tuple[str, ...] = ()
    """Prefixes of the members with layer norm, whose synaptic flow older runs scored in another form."""
    inputs: frozenset[str] = frozenset({IMAGES})
    """The kinds of inputs that its networks take (`foundations.inputs.KINDS`)."""
    per_token: frozenset[bool] = frozenset({False})
    """Whether its networks answer for each token (True), once for each example (False), or can do either."""
    hparams: type[ModelHparams] | None = None
    """A subclass of ModelHparams with this family's own hyperparameters, if it has any."""
    check: Callable[[ModelHparams], None] | None = None
    """Checks a network's hyperparameters when a run is planned, such as its name against an installed library. Raises
    UsageError."""

    def takes(self, inputs: Inputs) -> bool:
        """Return whether its networks take inputs of this kind, and answer as the task needs it."""
        return inputs.kind in self.inputs and inputs.per_token in self.per_token

    def parts(self, name: str, groups: Mapping[str, str]) -> NameParts:
        """Return the parts of a name. Raises: UsageError for a depth or a member that the family does not have."""
        numbers = {group: groups.get(group, "0") for group in ("depth", "width", "heads", "patch")}
        for group in numbers:
            if not groups.get(group, "0").isdecimal():
                reason = f"'{name}' is not a valid value; the {group} of {self.spelling} is a number."
                raise UsageError(reason, "model_name")
        depth, member = int(groups.get("depth", 0)), groups.get("member", "")
        if depth and self.depths and depth not in self.depths:
            reason = f"'{name}' is not a valid value; in {self.spelling}, D is {_in_words(self.depths)}."
            raise UsageError(reason, "model_name")
        if member and self.members and member not in self.members:
            refusal = f"'{name}' is not a valid value of {self.spelling}{choose_from(member, self.members)}"
            raise UsageError(refusal, "model_name")
        units = tuple(int(count) for count in groups.get("units", "").split("_") if count)
        width = int(groups.get("width", self.width))
        heads, patch = int(numbers["heads"]), int(numbers["patch"])
        return NameParts(depth=depth, width=width, heads=heads, patch=patch, units=units, member=member)


def _in_words(depths: Sequence[int]) -> str:
    if isinstance(depths, range) and len(depths) > 5:
        return f"{', '.join(map(str, depths[:5]))}, ... ({depths.step}n + {depths.start % depths.step})"
    return " or ".join(filter(None, (", ".join(map(str, depths[:-1])), str(depths[-1]))))


def family_by_depth(
    builder: Callable[[NetworkSpec], nn.Module], prefix: str, source: str, examples: str, *, width: int = 0, **more: Any
) -> Family:
    """Return the family of the names `PREFIX_D`, or `PREFIX_D[_W]` if it has a width.

    examples: depths, or depths and widths, separated by spaces. more: other fields of the family.
    """
    return Family(
        spelling=f"{prefix}_D[_W]" if width else f"{prefix}_D",
        pattern=f"{prefix}{DEPTH}{OPTIONAL_WIDTH if width else ''}",
        builder=builder,
        source=source,
        examples=tuple(f"{prefix}_{example}" for example in examples.split()),
        width=width,
        **more,
    )
