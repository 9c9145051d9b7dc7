"""`randomly_prune`: permute the mask of a level and train it (OpenLTH's randomly_prune)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from branches.desc import BranchDesc, BranchHparams, mask_of
from branches.lottery import LevelBranch, Lottery
from branches.named_branch import last_state
from foundations.desc import RunRef, StateOf
from foundations.hparams import Hparams, hparam


@dataclass(frozen=True, kw_only=True)
class RandomlyPruneFlags(Hparams):
    """How a level's mask is randomized, and what it is trained on."""

    randomize: str = hparam("layerwise", choices=("layerwise", "global", "identity"))
    """Permute the mask within each layer, over all layers together, or not at all."""
    start_at: str = hparam("rewind", choices=("rewind", "init", "end"))
    """Train the weights of the rewinding step from there, the initial ones, or the level's last ones from step 0."""
    branch_seed: int | None = hparam(None)
    """Pins the permutation; by default --seed does, or each replicate has its own."""


def randomly_prune(lottery: Lottery, level: RunRef, flags: RandomlyPruneFlags) -> BranchDesc:
    """Permute a level's mask and train it (OpenLTH's randomly_prune)."""
    states = {
        "rewind": (lottery.rewound, lottery.branch),
        "init": (StateOf(RunRef(lottery.main), lottery.main.start), BranchHparams()),
        "end": (last_state(level), lottery.branch),
    }
    state, branch = states[flags.start_at]
    return BranchDesc(
        main=lottery.main,
        mask=mask_of(level),
        techniques=lottery.main.techniques,
        state=state,
        branch=replace(
            branch,
            start_step=branch.start_step if flags.start_at == "rewind" else "0it",
            randomize_layerwise=flags.randomize == "layerwise",
            randomize_globally=flags.randomize == "global",
            seed=lottery.hparams.seed if flags.branch_seed is None else flags.branch_seed,
        ),
    )


RANDOMLY_PRUNE = LevelBranch(spelling="randomly_prune", describe=randomly_prune, flags=RandomlyPruneFlags)
