"""The declaration of a structure: in which groups a mask keeps weights. Imports no torch.

A method scores weights, and a structure says in which groups as many of them stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.registry import Registered

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
