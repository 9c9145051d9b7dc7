"""The groups of the weights of a network under a structure such as 2:4, and the tensors that stay dense."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from foundations.errors import UsageError
from pruning.structure.groups import Groups
from pruning.structure.structure import PAD, SKIP, CountedStructure
from pruning.weights.layouts import layouts_of
from pruning.weights.left_out import warn_of_dense

if TYPE_CHECKING:
    from pruning.masks.mask import Mask


@dataclass(frozen=True)
class Grouped:
    """The groups of some tensors, by name."""

    structure: CountedStructure
    uneven: str
    """The treatment of layers that the structure does not divide."""
    groups: dict[str, Groups]
    reasons: dict[str, str]
    """The reasons why the other tensors stay dense, by name; each follows 'because it is'."""

    def check(self, hparam: str, option: str) -> None:
        """Warn of the tensors that stay dense. Raises: UsageError about `hparam` if all do.

        option: the one for the treatment of layers that the structure does not divide.
        """
        name, reasons = self.structure.spelling, self.reasons
        if not self.groups:
            shown = "".join(f" {tensor} is {reason}." for tensor, reason in list(reasons.items())[:1])
            raise UsageError(f"no layer of this network can have {name}.{shown}", hparam)
        warn_of_dense(name, reasons, f"{option}={PAD}" if self.uneven == SKIP else "")

    def report(self, mask: Mask) -> dict[str, Any]:
        """Return the structure, and why tensors are without it, by name, ready for JSON.

        Tensors of which a mask of the same names keeps more in some group are listed too.
        """
        counts = {name: groups.split(mask[name].int()).sum(dim=1) for name, groups in self.groups.items()}
        whole = [name for name, count in counts.items() if int(count.max()) > self.structure.kept]
        reasons = {**self.reasons, **dict.fromkeys(whole, "kept whole")}
        return {"name": self.structure.spelling, "without": {name: reasons[name] for name in mask if name in reasons}}


def grouped(model: nn.Module, names: Collection[str], structure: CountedStructure, uneven: str) -> Grouped:
    """Return the groups of the named tensors of a network.

    uneven: the treatment of layers that the structure does not divide.
    """
    layouts = layouts_of(model, names)
    groups: dict[str, Groups] = {}
    reasons: dict[str, str] = {}
    for name in sorted(names, key=lambda name: name not in layouts):  # biases are the last to be named
        found = structure.groups(layouts[name], uneven) if name in layouts else "of one dimension"
        if isinstance(found, str):
            reasons[name] = found
        elif found.run <= structure.kept:
            reasons[name] = f"of {found.run} inputs, no more than a group keeps"
        else:
            groups[name] = found
    return Grouped(structure, uneven, groups, reasons)
