"""The lottery: train, prune, rewind, again (Frankle & Carbin 2019; rewinding: Frankle et al. 2020), level by level.

Level 0 is the training itself. Level n prunes the last weights of level n - 1 within its mask and trains on from the
rewinding step, so it is a branch like any other: where `branch train lottery_rewind` or `oneshot` with the right flags
describes the same, they have its address.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from branches.desc import NO_PRUNING, BranchDesc, BranchHparams
from branches.lineage import Parent, job_of
from datasets.hparams import DatasetHparams
from foundations.address import MAIN, Desc
from foundations.errors import UsageError
from foundations.hparams import Hparams, hparam, overrides, overrides_group
from pruning.hparams import PruningHparams
from training.completion import provide
from training.context import Context
from training.desc import TrainDesc
from training.hparams import TrainingHparams
from training.job import Job, TrainJob

PRETRAIN = "pretrain_"
PretrainGroup = overrides_group(
    "PretrainGroup", (DatasetHparams, TrainingHparams), PRETRAIN, "Pretraining that differs from the training."
)


@dataclass(frozen=True, kw_only=True)
class LotteryHparams(PretrainGroup):  # type: ignore[misc, valid-type]
    """The levels of the lottery."""

    levels: str = hparam("3")
    """How many times to prune and retrain after the dense level 0. Of branches: which levels, such as 0-2,5,8-12."""
    rewinding_steps: str = hparam("0it", step=True)
    """The step of the dense training to rewind weights and schedule to."""
    pruning_fraction: float = hparam(0.2, above=0, below=1)
    """The fraction of the weights that are left that each level prunes."""
    one_shot: bool = hparam(False)
    """Prune each level from the dense training at once, in place of from the level before."""

    @property
    def pretrains(self) -> bool:
        """Tell whether weights come from a pretraining with its own length."""
        return self.pretrain_training_steps is not None

    def validate(self) -> None:
        """Check the levels, and that rewinding and pretraining are not both asked for."""
        parse_levels(self.levels)
        if self.pretrains and self.rewinding_steps not in ("0it", "0ep", "0ep0it"):
            raise UsageError(
                "give one; both say where weights come from.", "rewinding_steps", "pretrain_training_steps"
            )
        asked = {**overrides(self, DatasetHparams, PRETRAIN), **overrides(self, TrainingHparams, PRETRAIN)}
        if asked and not self.pretrains:
            raise UsageError(
                f"without {PRETRAIN}training_steps there is no pretraining.", *(PRETRAIN + name for name in asked)
            )


def parse_levels(text: str) -> list[int]:
    """Read a list of levels such as `0-2,5,8-12`. Raises: UsageError for anything else."""
    parts = text.split(",")
    try:
        bounds = [[int(bound) for bound in part.split("-")] for part in parts]
        levels = sorted({level for bound in bounds for level in range(bound[0], bound[-1] + 1)})
        if any(len(bound) > 2 or bound[0] > bound[-1] for bound in bounds) or not levels:
            raise ValueError(text)
    except ValueError as error:
        raise UsageError(f"'{text}' is not possible; write a number, or ranges such as 0-2,5.", "levels") from error
    return levels


@dataclass(frozen=True)
class Lottery:
    """The levels of one lottery."""

    trunk: TrainDesc
    pruning: PruningHparams
    hparams: LotteryHparams

    def __post_init__(self) -> None:
        if any(
            level is not None for level in (self.pruning.prune_fraction, self.pruning.density, self.pruning.compression)
        ):
            raise UsageError(
                "the levels say how much; use --pruning_fraction.", "prune_fraction", "density", "compression"
            )

    def levels(self, last: int) -> Iterator[tuple[int, Job]]:
        """Yield each level up to a last one with its job; each can be computed once those before are."""
        before: Desc = self.dense()
        dense = before
        yield 0, job_of(before)
        for level in range(1, last + 1):
            source = dense if self.hparams.one_shot else before
            before = self._pruned(level, source)
            yield level, job_of(before)

    def dense(self) -> Desc:
        """Return level 0: the training itself, or after a pretraining the training from its weights."""
        pretraining = self.pretraining()
        if pretraining is None:
            return self.trunk
        branch = BranchHparams(
            state_experiment=self._weights(), state_step=str(pretraining.end), start_step=self._start()
        )
        return BranchDesc(parent=self.trunk, pruning=NO_PRUNING, branch=branch)

    def pretraining(self) -> TrainDesc | None:
        """Return the pretraining, or None where the training's own weights are rewound to."""
        if not self.hparams.pretrains:
            return None
        return replace(
            self.trunk,
            dataset=replace(self.trunk.dataset, **overrides(self.hparams, DatasetHparams, PRETRAIN)),
            training=replace(self.trunk.training, **overrides(self.hparams, TrainingHparams, PRETRAIN)),
            model=replace(self.trunk.model, outputs=self.trunk.outputs),
        )

    def parent(self, job: Job) -> Parent:
        """Return a level as a parent of branches."""
        part = job.desc.location(1).part
        return Parent(self.trunk, part, job.start, job.end)

    def rewound(self) -> BranchHparams:
        """Return the state that every level starts from: the weights at the rewinding step, or pretrained ones."""
        pretraining = self.pretraining()
        step = self.hparams.rewinding_steps if pretraining is None else str(pretraining.end)
        return BranchHparams(state_experiment=self._weights(), state_step=step, start_step=self._start())

    def _pruned(self, level: int, source: Desc) -> BranchDesc:
        fraction = 1 - (1 - self.hparams.pruning_fraction) ** level
        branch = replace(
            self.rewound(),
            prune_experiment=source.location(1).part,
            prune_step=str(self.trunk.end),
        )
        return BranchDesc(parent=self.trunk, pruning=replace(self.pruning, prune_fraction=fraction), branch=branch)

    def _weights(self) -> str:
        pretraining = self.pretraining()
        return MAIN if pretraining is None else f"{pretraining.location(1).trunk}/{MAIN}"

    def _start(self) -> str:
        """Return the step at which each level's schedule begins: pretraining counts as part of the training."""
        return self.hparams.pretrain_training_steps or self.hparams.rewinding_steps


def prepare(lottery: Lottery, context: Context) -> None:
    """Make the weights that the levels start from, where these are not a level's own."""
    pretraining = lottery.pretraining()
    if pretraining is not None:
        provide(TrainJob(pretraining), context, {pretraining.end})


@dataclass(frozen=True, kw_only=True)
class RandomlyPruneHparams(Hparams):
    """How a level's mask is randomized, and what it is trained on."""

    randomize: str = hparam("layerwise", choices=("layerwise", "global", "identity"))
    """Permute the mask within each layer, over all layers together, or not at all."""
    start_at: str = hparam("rewind", choices=("rewind", "init", "end"))
    """Train the weights of the rewinding step from there, the initial ones, or the level's last ones from step 0."""
    branch_seed: int | None = hparam(None)
    """Pins the permutation; by default each replicate has its own."""


@dataclass(frozen=True, kw_only=True)
class RandomlyReinitializeHparams(Hparams):
    """How a level's mask is trained on new weights."""

    start_at_step_zero: bool = hparam(False)
    """Train the whole schedule, not only from the rewinding step on."""
    branch_seed: int | None = hparam(None)
    """Pins the new initialization; by default each replicate has its own."""


def randomly_prune(lottery: Lottery, level: Job, own: RandomlyPruneHparams) -> BranchDesc:
    """Permute a level's mask and train it (OpenLTH's randomly_prune)."""
    parent = lottery.parent(level)
    states = {
        "rewind": lottery.rewound(),
        "init": BranchHparams(),
        "end": BranchHparams(state_experiment=parent.experiment, state_step=parent.end),
    }
    branch = replace(
        states[own.start_at],
        prune_experiment=parent.experiment,
        randomize_layerwise=own.randomize == "layerwise",
        randomize_globally=own.randomize == "global",
    )
    return BranchDesc(parent=lottery.trunk, pruning=NO_PRUNING, branch=replace(branch, seed=own.branch_seed))


def randomly_reinitialize(lottery: Lottery, level: Job, own: RandomlyReinitializeHparams) -> BranchDesc:
    """Train a level's mask on a new initialization (OpenLTH's randomly_reinitialize)."""
    branch = replace(
        lottery.rewound(),
        prune_experiment=lottery.parent(level).experiment,
        start_step="0it" if own.start_at_step_zero else lottery.rewound().start_step,
        reinitialize=True,
    )
    return BranchDesc(parent=lottery.trunk, pruning=NO_PRUNING, branch=replace(branch, seed=own.branch_seed))
