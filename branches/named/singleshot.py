"""`singleshot`: train, prune once, and train on with the same optimizer and schedule (Synaptic-Flow's --pre-epochs).

It is gradual pruning with a single pruning, so it has the address of a `gmp` that prunes only at the same step.
"""

from __future__ import annotations

from dataclasses import dataclass

from branches.desc import BranchDesc
from branches.named.branch import Branch, SeedFlags
from branches.named.gmp import GmpFlags, gmp
from foundations.description.desc import RunRef
from foundations.description.hparams import hparam
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from training.techniques.gmp import PREFIX


@dataclass(frozen=True, kw_only=True)
class SingleshotFlags(SeedFlags):
    """The step of pruning."""

    pre_epochs: str = hparam("0it", step=True)
    """The step at which the network is pruned, such as 5ep. The length of the whole training is --training_steps."""


def singleshot(parent: RunRef, pruning: PruningHparams, flags: SingleshotFlags) -> BranchDesc:
    """Train, prune once at a step, and go on with the same optimizer and schedule (Tanaka et al. 2020)."""
    when = {"gmp_begin": flags.pre_epochs, "gmp_end": flags.pre_epochs}
    try:
        return gmp(parent, pruning, GmpFlags.of({**when, "seed": flags.seed}))
    except UsageError as error:
        named = ("pre_epochs" if name in when else name.removeprefix(PREFIX) for name in error.hparams)
        raise UsageError(error.reason, *dict.fromkeys(named)) from error


SINGLESHOT = Branch(spelling="singleshot", describe=singleshot, flags=SingleshotFlags)
