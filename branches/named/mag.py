"""`mag`: train, prune gradually, train again: the published schedule of PHEW's MAG."""

from __future__ import annotations

from dataclasses import dataclass, replace

from branches.desc import BranchDesc, BranchHparams, main_of
from branches.named.branch import Branch, Level, SeedFlags, constant, last_state
from foundations.description.desc import MaskOf, RunRef, StateOf
from foundations.description.hparams import hparam
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from training.desc import TrainDesc
from training.hparams import TechniquesHparams
from training.techniques.gmp import PREFIX


@dataclass(frozen=True, kw_only=True)
class MagFlags(SeedFlags):
    """Lengths of the dense training and of the gradual pruning."""

    pre_epochs: int = hparam(160, at_least=0)
    """Epochs of dense training before pruning."""
    gmp_epochs: int = hparam(10, at_least=0)
    """Epochs of gradual pruning at the initial learning rate, one pruning before each; 0 to prune at once."""


def mag(parent: RunRef, pruning: PruningHparams, flags: MagFlags) -> BranchDesc:
    """Train pre_epochs, prune gradually at a constant learning rate, train on by the whole schedule (PHEW's MAG)."""
    if isinstance(parent, Level):
        raise UsageError("mag trains main from its start, so it is the same for every level: branch train mag.")
    main = main_of(parent)
    dense = _dense(main, flags.pre_epochs)
    if flags.gmp_epochs == 0:
        branch = BranchHparams(seed=flags.seed)
        return BranchDesc(main=main, pruning=pruning, scored=dense, state=dense, branch=branch)
    if pruning.prune_residual:
        raise UsageError("mag prunes in a run without scales of shortcuts; use the branch gmp.", "prune_residual")
    pruned = RunRef(_gradual(main, dense, pruning, flags))
    return BranchDesc(main=main, mask=MaskOf(pruned), state=last_state(pruned), branch=BranchHparams())


def _dense(main: TrainDesc, epochs: int) -> StateOf:
    """Return the last weights of the dense training, which follows the main run's schedule."""
    if epochs == 0:
        return StateOf(RunRef(main), main.start)
    training = replace(main.training, training_steps=f"{epochs}ep")
    return last_state(RunRef(replace(main, training=training)))


def _gradual(main: TrainDesc, dense: StateOf, pruning: PruningHparams, flags: MagFlags) -> BranchDesc:
    """Return the run that prunes: before the k-th of n epochs, to s - s (1 - k / n)^3."""
    technique = {PREFIX + name: value for name, value in pruning.values().items()}
    schedule = {"gmp_end": f"{flags.gmp_epochs - 1}ep", "gmp_frequency": "1ep", "gmp_curve": "phew"}
    return BranchDesc(
        main=main,
        state=dense,
        branch=BranchHparams(),
        retrain_training=constant(main.training, f"{flags.gmp_epochs}ep", main.training.lr),
        techniques=TechniquesHparams.of({"technique": "gmp", "technique_seed": flags.seed, **schedule, **technique}),
    )


MAG = Branch(spelling="mag", describe=mag, flags=MagFlags)
