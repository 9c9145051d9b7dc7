"""What the command line knows of a branch: its name, its flags, and the description that these stand for.

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
    """The one of its own flags that says to which levels it prunes, where no single level does."""
    describe_each: Callable[[RunRef, PruningHparams, Any, Callable[[Desc], Desc]], Mapping[str, Desc]] | None = None
    """Of a branch that stands for several runs: (parent, how to prune, own flags, finish) -> the descriptions by name.
    `finish` adds techniques to one of them; others must draw on what it returns. `describe` is one of the runs."""
    each: str = "run"
    """What each of the several runs is called."""


@dataclass(frozen=True, kw_only=True)
class SeedFlags(Hparams):
    """What branches that prune have in common."""

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
