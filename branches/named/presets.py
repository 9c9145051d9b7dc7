"""Presets of `oneshot`: branches that are `oneshot` with some flags set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from branches.desc import BranchDesc
from branches.named.branch import Branch
from branches.named.lottery_rewind import RewindFlags
from branches.named.oneshot import OneshotFlags, oneshot
from foundations.description.desc import RunRef
from foundations.description.hparams import Hparams
from foundations.errors import UsageError, did_you_mean
from foundations.plugins.declarations import check_call
from foundations.plugins.users_code import article, place_of_entry, returned
from pruning.hparams import PruningHparams

Values = Callable[[RunRef, PruningHparams, Any], Mapping[str, Any]]


def preset(
    spelling: str, summary: str, values: Mapping[str, Any] | Values, flags: type[Hparams] = OneshotFlags
) -> Branch:
    """Return a branch that is `oneshot` with some values of its flags and of the flags of pruning set.

    summary: its help. values: by flag, or a function of (parent, how to prune, own flags) that returns them. flags: its
    own flags; those with the name of a flag of `oneshot` give that flag's value.
    The description raises UsageError for a value of a flag that neither has.
    Raises: UsageError if `values` is neither.
    """
    if callable(values):
        check_call("values", values, 3)
    elif not isinstance(values, Mapping):
        raise UsageError(f"values are {article(values)}; give a dict by flag, or a function that returns one.")

    def describe(parent: RunRef, pruning: PruningHparams, own: Hparams) -> BranchDesc:
        found = values(parent, pruning, own) if callable(values) else values
        returned(found, Mapping, values if callable(values) else describe, entry)
        chosen = {str(name): value for name, value in found.items()}
        how = pruning.replaced(chosen)
        unknown = chosen.keys() - {*OneshotFlags.names(), *how.names()}
        if unknown:
            reason = f"the preset {spelling} sets this, but oneshot has no such flag."
            reason += did_you_mean(min(unknown), {*OneshotFlags.names(), *how.names()})
            place = place_of_entry(entry)
            raise UsageError(f"{reason}\n(in {place})" if place else reason, *sorted(unknown))
        return oneshot(parent, how, OneshotFlags.of({**own.values(), **chosen}))

    describe.__doc__ = summary
    entry = Branch(spelling=spelling, describe=describe, flags=flags, sets={} if callable(values) else values)
    return entry


def _last_weights(parent: RunRef, _pruning: PruningHparams, flags: RewindFlags) -> dict[str, Any]:
    last = str(parent.desc.end)
    return {**flags.branch.values(), "prune_step": last, "state_step": last}


def _other_direction(_parent: RunRef, pruning: PruningHparams, _flags: OneshotFlags) -> dict[str, Any]:
    is_highest = pruning.prune_direction == "highest"
    return {"prune_highest": not is_highest, "prune_lowest": is_highest}


LR_REWIND = preset(
    "lr_rewind",
    "Prune the last weights and keep them, rewind only the schedule (Renda et al. 2020).",
    _last_weights,
    RewindFlags,
)
RANDOMIZE_LAYERWISE = preset(
    "randomize_layerwise",
    "Permute the mask within each layer: the control of Frankle et al. 2021.",
    {"randomize_layerwise": True},
)
RANDOM_TICKETS = preset(
    "random_tickets",
    "Keep as many weights of each layer as a strategy would, at random places (Su et al. 2020).",
    {"randomize_layerwise": True},
)
REINITIALIZE = preset(
    "reinitialize",
    "Train the mask from a new initialization: the control of Frankle & Carbin 2019.",
    {"reinitialize": True},
)
INVERT = preset(
    "invert",
    "Prune the other end of the scores: the weights that the method would keep are pruned.",
    _other_direction,
)
