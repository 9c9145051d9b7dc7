"""`chain`: prune one network to several levels, each from the mask of the one before (PHEW_Res)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from branches.desc import BranchDesc
from branches.named.branch import Branch
from branches.named.oneshot import OneshotFlags, oneshot
from foundations.description.desc import Desc, RunRef
from foundations.description.hparams import hparam
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.level import LEVELS

PHEW_LEVELS = "0.488,0.59,0.672,0.738,0.79,0.832,0.866,0.893,0.914,0.931,0.945,0.956,0.965,0.972,0.977,0.982"


@dataclass(frozen=True, kw_only=True)
class ChainFlags(OneshotFlags):
    """The levels of pruning, the starting mask of the first level, and the flags of oneshot."""

    sparsities: str = hparam(PHEW_LEVELS, unordered=True)
    """The fractions to prune, separated by commas; by default the sixteen of PHEW's experiments."""

    def validate(self) -> None:
        """Check the levels."""
        _ = self.levels

    @property
    def levels(self) -> dict[str, float]:
        """The fractions to prune, ascending, by their text. Raises: UsageError for anything but fractions."""
        found: dict[str, float] = {}
        for text in self.sparsities.split(","):
            with contextlib.suppress(ValueError):
                found[text.strip()] = float(text)
            if not 0 < found.get(text.strip(), 0) < 1:
                raise UsageError(f"'{text}' is not a fraction above 0 and below 1, such as 0.982.", "sparsities")
        return dict(sorted(found.items(), key=lambda item: item[1]))


def chain_levels(
    parent: RunRef, pruning: PruningHparams, flags: ChainFlags, finish: Callable[[Desc], Desc]
) -> dict[str, Desc]:
    """Return the runs in order, by level: the sparsest first if the method adds to a mask."""
    if any(getattr(pruning, spelling) is not None for spelling in LEVELS):
        raise UsageError("a chain has several levels; use sparsities.", *LEVELS)
    if pruning.structure is not None:
        raise UsageError(f"a chain has several levels, and {pruning.structure} is one; use oneshot.", "structure")
    levels = list(flags.levels.items())
    found: dict[str, Desc] = {}
    before = flags.mask_experiment
    for text, level in reversed(levels) if pruning.method.is_constructive else levels:
        own = replace(flags, mask_experiment=before)
        found[text] = finish(oneshot(parent, replace(pruning, prune_fraction=level), own))
        before = RunRef(found[text])
    return found


def chain(parent: RunRef, pruning: PruningHparams, flags: ChainFlags) -> BranchDesc:
    """Prune to several levels, each from the mask of the one before (PHEW_Res), and train each."""
    last = list(chain_levels(parent, pruning, flags, lambda desc: desc).values())[-1]
    assert isinstance(last, BranchDesc)
    return last


CHAIN = Branch(
    spelling="chain", describe=chain, describe_each=chain_levels, each="level", flags=ChainFlags, levels="sparsities"
)
