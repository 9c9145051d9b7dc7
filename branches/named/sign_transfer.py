"""`sign_transfer`: the signs of a trained sparse run on the magnitudes of a new initialization (AWS, Oh et al. 2025).

    w = |w_new| sign(w_trained m),   mask = sign != 0,

for the weights that the mask covers. The output layer, which AWS does not prune, takes signs too, weights and biases.
All else, normalization included, is as in the new initialization. Then the whole training follows. The trained run is
one whose normalization was interpolated (`training.techniques.interpolated_norm`).
"""

from __future__ import annotations

from dataclasses import dataclass

from branches.desc import BranchDesc, BranchHparams, main_of, mask_of
from branches.named.branch import Branch, SeedFlags
from foundations.description.desc import RunRef, StateOf
from foundations.description.hparams import hparam
from foundations.errors import UsageError
from pruning.hparams import PruningHparams


@dataclass(frozen=True, kw_only=True)
class SignTransferFlags(SeedFlags):
    """The signs, and the weights that take them."""

    sign_step: str | None = hparam(None, step=True)
    """The step of the weights that give their signs; by default the parent's last."""
    state_experiment: RunRef | None = hparam(None)
    """The run whose weights at --state_step take the signs; by default a new initialization does."""
    state_step: str = hparam("0it", step=True)
    """The step of the weights of --state_experiment."""
    initialization: int = hparam(0, at_least=0)
    """The number of the new initialization, counted from 0."""
    start_step: str = hparam("0it", step=True)
    """The step at which the learning rate schedule and the data order begin."""
    sign_output: bool = hparam(True)
    """Transfer the signs of the output layer's weights and biases too, as published."""

    def validate(self) -> None:
        """Check that a new initialization and a run are not both chosen."""
        if self.state_experiment is None and self.state_step not in ("0it", "0ep", "0ep0it"):
            raise UsageError("it is for --state_experiment; give both.", "state_step")
        if self.state_experiment is not None and self.initialization:
            raise UsageError("--state_experiment is in place of a new initialization; give one.", "initialization")


def sign_transfer(parent: RunRef, _pruning: PruningHparams, flags: SignTransferFlags) -> BranchDesc:
    """Train the signs and the mask of a pruned run with the magnitudes of a new initialization (AWS)."""
    mask = mask_of(parent)
    if mask is None:
        raise UsageError("this branch takes the signs of a pruned run: branch lottery, or the address of one.")
    source = flags.state_experiment
    end = str(parent.desc.end)
    return BranchDesc(
        main=main_of(parent),
        mask=mask,
        signs=StateOf.at(parent, flags.sign_step or end, "sign_step"),
        state=None if source is None else StateOf.at(source, flags.state_step, "state_step"),
        branch=BranchHparams(
            start_step=flags.start_step,
            reinitialize=source is None,
            initialization=flags.initialization,
            sign_output=flags.sign_output,
            seed=flags.seed,
        ),
    )


SIGN_TRANSFER = Branch(
    spelling="sign_transfer",
    known_as=("aws", "winning_sign"),
    describe=sign_transfer,
    flags=SignTransferFlags,
    prunes=False,
)
