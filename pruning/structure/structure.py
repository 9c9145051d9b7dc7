"""The declaration of a structure: in which groups a mask keeps weights. Imports no torch.

A method scores weights, and a structure says in which groups as many of them stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.errors import UsageError
from foundations.registry import Registered, Registry

if TYPE_CHECKING:
    from pruning.structure.groups import Groups
    from pruning.structure.layout import Layout

SKIP, PAD, FLATTEN = UNEVEN = ("skip", "pad", "flatten")
"""Possible treatments of layers that a structure does not divide evenly."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure(Registered):
    """A structure by name."""

    summary: str
    paper: str = ""
    groups: Callable[[Layout, Mapping[str, str], str], Groups | str]
    """(layout of a tensor, numbers in the structure's name, treatment of uneven layers) -> the groups of the tensor;
    or, where it cannot have the structure, a reason that follows 'because it is'."""
    kept: Callable[[Mapping[str, str]], int] | None = None
    """(numbers in its name) -> the number of weights that each group keeps. None: it depends on the density."""
    size: Callable[[Mapping[str, str]], int] | None = None
    """(numbers in its name) -> the number of weights of each group; given with `kept`."""


@dataclass(frozen=True)
class CountedStructure:
    """A structure that says how many weights each of its groups keeps, such as 2:4."""

    spelling: str
    kept: int
    """The number of weights that each group keeps."""
    size: int
    """The number of weights of each group."""
    groups: Callable[[Layout, str], Groups | str]
    """(layout of a tensor, treatment of uneven layers) -> the groups; see `Structure.groups`."""


def counted(structures: Registry[Structure], name: str, hparam: str) -> CountedStructure:
    """Return the structure of a name. Raises: UsageError about `hparam` if the name does not say what a group keeps."""
    structure, numbers = structures.match(name)
    if structure.kept is None or structure.size is None:
        reason = f"{structure.spelling} does not say how many weights a group keeps; choose N:M, such as 2:4."
        raise UsageError(reason, hparam)
    try:
        kept = structure.kept(numbers)
    except UsageError as error:
        raise UsageError(error.reason, hparam) from error

    def groups(layout: Layout, uneven: str) -> Groups | str:
        return structure.groups(layout, numbers, uneven)

    return CountedStructure(name, kept, structure.size(numbers), groups)
