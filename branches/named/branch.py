"""A branch on the command line: its name, its flags, and the function from flags to a description.

A new branch is a file with its flags, a function from (parent, how to prune, flags) to a description, and a `Branch`;
and a line in `branches.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from branches.desc import BranchDesc, BranchHparams, main_of, mask_of
from foundations.description.desc import Desc, RunRef, StateOf
from foundations.description.hparams import Hparams, hparam
from foundations.registry import Registered
from pruning.hparams import PruningHparams


@dataclass(frozen=True, kw_only=True, eq=False)
class Branch(Registered):
    """A branch by name; the docstring of `describe` is its help."""

    describe: Callable[[RunRef, PruningHparams, Any], Desc]
    """(parent, how to prune, the branch's own flags) -> the description."""
    flags: type[Hparams]
    prunes: bool = True
    """Whether it takes the flags of pruning."""
    levels: str | None = None
    """The name of its own flag that gives several levels of pruning, if it has one."""
    describe_each: Callable[[RunRef, PruningHparams, Any, Callable[[Desc], Desc]], Mapping[str, Desc]] | None = None
    """Of a branch with several runs: (parent, how to prune, own flags, finish) -> the descriptions by name. `finish`
    adds techniques to a description; other runs must depend on its result. `describe` gives one of the runs."""
    each: str = "run"
    """The noun for each of the several runs."""


@dataclass(frozen=True, kw_only=True)
class SeedFlags(Hparams):
    """Flags that branches that prune share."""

    seed: int | None = hparam(None)
    """Pins what is random in pruning: scores, scoring examples, their order (the replicate if not given)."""


def branch_of(
    parent: RunRef, pruning: PruningHparams, scored: StateOf, state: StateOf, branch: BranchHparams
) -> BranchDesc:
    """Return the branch that prunes scored weights of a run within that run's mask and then trains a state."""
    return BranchDesc(
        main=main_of(parent), pruning=pruning, scored=scored, mask=mask_of(scored.run), state=state, branch=branch
    )


def main_run(run: RunRef) -> RunRef:
    """Return the main run of a run."""
    return RunRef(main_of(run), run.replicate)


def last_state(run: RunRef) -> StateOf:
    """Return the last state of a run."""
    return StateOf(run, run.desc.end)
