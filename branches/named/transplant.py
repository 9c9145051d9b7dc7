"""`transplant`: train a run's weights with the mask of another run.

With `align`, the mask's units are permuted before, so that it fits another initialization: by the order in which the
trained weights of the mask's main run fit those of the branch's main run best (`pruning.paths.weight_matching`). So do
Adnan et al. 2025, Sparse Training from Random Initialization: Aligning Lottery Ticket Masks using Weight Symmetry.
"""

from __future__ import annotations

from dataclasses import dataclass

from branches.desc import BranchDesc, BranchHparams, main_of, mask_of
from branches.named.branch import Branch, last_state, main_run, state_of
from foundations.description.desc import RunRef
from foundations.description.hparams import Hparams, hparam
from foundations.errors import UsageError
from pruning.hparams import PruningHparams


@dataclass(frozen=True, kw_only=True)
class TransplantFlags(Hparams):
    """The run that gives the mask, and the parent's weights."""

    mask_of: RunRef | None = hparam(None)
    """The run whose mask is taken: the address of a run with a mask, or the command of one, which is computed first:
    "branch train oneshot --density=0.2 --replicate=2". Flags of the training that it does not give are those here."""
    state_step: str | None = hparam(None, step=True)
    """The step of the weights that are trained; by default the parent's first."""
    start_step: str = hparam("0it", step=True)
    """The step at which the learning rate schedule and the data order begin."""
    align: bool = hparam(False)
    """Permute the units of the mask so that it fits the weights: by weight matching of trained weights (Git Re-Basin),
    the last of the dense training of each of the two runs."""
    units_from_experiment: RunRef | None = hparam(None)
    """Another run for --align in place of the main run of --mask_of: its last weights are in the mask's order."""
    units_to_experiment: RunRef | None = hparam(None)
    """Another run for --align in place of the parent's main run: its last weights are in the order of those trained."""

    def validate(self) -> None:
        """Check that runs to match are given with `align` only."""
        names = ("units_from_experiment", "units_to_experiment")
        given = [name for name in names if getattr(self, name) is not None]
        if given and not self.align:
            raise UsageError("it is for --align; give both.", *given)


def transplant(parent: RunRef, _pruning: PruningHparams, flags: TransplantFlags) -> BranchDesc:
    """Train the parent's weights with the mask of another run."""
    mask = None if flags.mask_of is None else mask_of(flags.mask_of)
    if mask is None:
        raise UsageError(
            "it takes the address or the command of a run that has a mask; `ls` lists the runs.", "mask_of"
        )
    units_from = units_to = None
    if flags.align:
        units_from = last_state(flags.units_from_experiment or main_run(mask.run))
        units_to = last_state(flags.units_to_experiment or main_run(parent))
    return BranchDesc(
        main=main_of(parent),
        mask=mask,
        units_from=units_from,
        units_to=units_to,
        state=state_of(parent, flags.state_step),
        branch=BranchHparams(start_step=flags.start_step),
    )


TRANSPLANT = Branch(
    spelling="transplant",
    known_as=("rebasin", "re_basin", "sparse_rebasin", "git_rebasin"),
    describe=transplant,
    flags=TransplantFlags,
    prunes=False,
)
