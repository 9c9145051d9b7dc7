"""The lottery: train, prune, rewind, again (Frankle & Carbin 2019; rewinding: Frankle et al. 2020), level by level.

Level 0 is the training itself, and all levels use its techniques. Level n prunes the last weights of level n - 1 within
its mask and trains on from the rewinding step, so it is a branch like any other: `branch train lottery_rewind` or
`oneshot` with equivalent flags has the same address.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from branches.desc import BranchDesc, BranchHparams, mask_of
from branches.named.branch import Level, last_state
from datasets.hparams import DatasetHparams
from foundations.description.desc import Desc, RunRef, StateOf
from foundations.description.hparams import Hparams, hparam, merged_group, overrides
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.level import LEVELS
from pruning.rounding import OPENLTH
from training.desc import TrainDesc
from training.hparams import TechniquesHparams, TrainingHparams

PRETRAIN = "pretrain_"
PretrainGroup = merged_group(
    "PretrainGroup", (DatasetHparams, TrainingHparams), Hparams, "Pretraining that differs from the training.", PRETRAIN
)


@dataclass(frozen=True, kw_only=True)
class LotteryHparams(PretrainGroup):  # type: ignore[misc, valid-type]
    """The levels of the lottery."""

    levels: str = hparam("3")
    """The number of levels to prune and retrain after the dense level 0. For branches: levels, such as 0-2,5,8-12."""
    rewinding_steps: str = hparam("0it", step=True)
    """The step of the dense training to rewind weights and schedule to."""
    pruning_fraction: float = hparam(0.2, above=0, below=1)
    """The fraction of the weights that are left that each level prunes."""
    level_steps: str | None = hparam(None, step=True)
    """Train level 0 and every level but the last for this long, in place of the whole training (Synaptic-Flow's
    multishot, whose --pre-epochs these are)."""
    dense_lr: float | None = hparam(None, above=0)
    """Train level 0 with this learning rate, and the other levels with --lr (ToST's lottery: 0.001 and 0.0012)."""
    keep_statistics: bool = hparam(False)
    """Rewind the weights only: each level starts with the batchnorm statistics at the end of the level before, as in
    Synaptic-Flow's multishot."""
    rewind: str = hparam("weights", choices=("weights", "learning_rate"))
    """Rewind weights and schedule to the rewinding step at each level, or the schedule only (learning rate rewinding,
    Renda et al. 2020). With a constant learning rate, the latter is training on without rewinding (AWS)."""
    dense_steps: str | None = hparam(None, step=True)
    """Train level 0 for this long, in place of --level_steps or the whole training (AWS: 10ep)."""
    early_bird: float | None = hparam(None, above=0, at_most=1)
    """Train level 0 only until the mask of level 1 has settled: the masks of the last epochs, by magnitude, differ in
    less than this share of the weights (You et al. 2020: 0.1). The technique early_bird says more."""
    early_bird_epochs: int = hparam(5, at_least=2)
    """The number of epochs whose masks --early_bird compares."""
    one_shot: bool = hparam(False)
    """Prune each level from the dense training at once, in place of from the level before."""
    reinitialize: bool = hparam(False)
    """Train a new initialization at each level in place of the weights of the rewinding step."""
    seed: int | None = hparam(None)
    """Pins what is random in pruning, and in branches of the levels (the replicate if not given)."""

    @property
    def pretrains(self) -> bool:
        """Whether weights come from a pretraining with its own length."""
        return self.pretrain_training_steps is not None

    def validate(self) -> None:
        """Check the levels, and that rewinding and pretraining are not both requested."""
        parse_levels(self.levels)
        if self.pretrains and self.rewinding_steps not in ("0it", "0ep", "0ep0it"):
            both = ("rewinding_steps", "pretrain_training_steps")
            raise UsageError("give one; both say where weights come from.", *both)
        if self.rewind != "weights" and self.reinitialize:
            raise UsageError("a new initialization has no trained weights to keep.", "rewind", "reinitialize")
        if self.early_bird is None and self.early_bird_epochs != LotteryHparams.early_bird_epochs:
            raise UsageError("it is for --early_bird; give both.", "early_bird_epochs")
        asked = [name for name in PretrainGroup.names() if getattr(self, name) is not None]
        if asked and not self.pretrains:
            raise UsageError(f"without {PRETRAIN}training_steps there is no pretraining.", *asked)


MOST_LEVELS = 1000
"""The most levels: no network has weights left by then."""


def parse_levels(text: str) -> list[int]:
    """Read a list of levels such as `0-2,5,8-12`. Raises: UsageError for anything else."""
    try:
        bounds = [[int(bound) for bound in part.split("-")] for part in text.split(",")]
    except ValueError:
        bounds = []
    wrong = f"'{text}' is not a valid value; "
    if not bounds or any(len(bound) > 2 or bound[0] > bound[-1] for bound in bounds):
        raise UsageError(f"{wrong}write a number, or ranges such as 0-2,5.", "levels")
    if max(map(max, bounds)) > MOST_LEVELS:
        raise UsageError(f"{wrong}it takes levels up to {MOST_LEVELS}.", "levels")
    return sorted({level for bound in bounds for level in range(bound[0], bound[-1] + 1)})


@dataclass(frozen=True)
class Lottery:
    """The levels of one lottery."""

    main: TrainDesc
    pruning: PruningHparams
    hparams: LotteryHparams

    def __post_init__(self) -> None:
        if any(getattr(self.pruning, spelling) is not None for spelling in LEVELS):
            raise UsageError("the levels say how much is pruned; use pruning_fraction.", *LEVELS)
        if self.pruning.structure is not None:
            raise UsageError("the levels say how much is pruned; use the branch lottery_rewind.", "structure")
        if self.pruning.rounding == OPENLTH and not self.hparams.one_shot:
            raise UsageError("levels are shares of all weights, in OpenLTH of those left; add one_shot.", "rounding")

    def levels(self, last: int) -> Iterator[tuple[int, Desc]]:
        """Yield each level up to a last one with its description."""
        before = dense = self.dense()
        if last:
            self._check_density_left()
        yield 0, dense
        for level in range(1, last + 1):
            source = RunRef(dense if self.hparams.one_shot else before)
            before = self._pruned(level, source, is_last=level == last)
            yield level, before

    def _check_density_left(self) -> None:
        """Check that each level ends with the weights that the next one is to keep. Raises: UsageError."""
        techniques, wanted = self.main.techniques, 1 - self.hparams.pruning_fraction
        if techniques is None or techniques.least_density >= wanted - 1e-9:
            return
        left = techniques.least_density
        ends = f"may end with a density of {left:.4g}" if left else "learns its mask, which may have any density"
        raise UsageError(
            f"a training with {techniques.technique} {ends}, and level 1 is to keep {wanted:.4g} of the weights; prune "
            "more in each level, less in training, or one run by `branch`.",
            "technique",
            "pruning_fraction",
        )

    def as_parent(self, level: Desc) -> Level:
        """Return one of the levels as the parent of branches."""
        rewound = self.rewound
        if self.hparams.rewind != "weights" and isinstance(level, BranchDesc) and level.state is not None:
            rewound = level.state
        return Level(level, main=self.main, rewound=rewound, branch=self.branch)

    def dense(self) -> Desc:
        """Return level 0: the training itself, or after a pretraining the training from its weights."""
        lr = self.hparams.dense_lr
        training = self.short if lr is None else replace(self.short, lr=lr)
        if self.hparams.dense_steps is not None:
            training = self._shortened(training, self.hparams.dense_steps)
        techniques = self._techniques_of_dense()
        if self.pretraining is None:
            return replace(self.main, training=training, techniques=techniques)
        return BranchDesc(
            main=self.main,
            state=self.rewound,
            branch=self.branch,
            techniques=techniques,
            retrain_training=training,
        )

    def _techniques_of_dense(self) -> TechniquesHparams | None:
        """Return the techniques of level 0: those of all levels, and the early end."""
        if self.hparams.early_bird is None:
            return self.main.techniques
        values = {
            "technique": "early_bird",
            "early_bird_threshold": self.hparams.early_bird,
            "early_bird_masks": self.hparams.early_bird_epochs,
            "early_bird_prune_fraction": self.hparams.pruning_fraction,
            "early_bird_layers_to_ignore": self.pruning.pruning_layers_to_ignore,
        }
        return TechniquesHparams.of(values).after(self.main.techniques)

    @cached_property
    def short(self) -> TrainingHparams:
        """The training of all levels but the last."""
        steps = self.hparams.level_steps
        return self.main.training if steps is None else self._shortened(self.main.training, steps)

    def _shortened(self, training: TrainingHparams, steps: str) -> TrainingHparams:
        return replace(training, training_steps=steps).normalized(self.main.iterations_per_epoch)

    @cached_property
    def pretraining(self) -> TrainDesc | None:
        """The pretraining, or None if levels rewind to the training's own weights.

        On a dataset with another number of classes, it has that number of outputs, and its output layer is not used.
        """
        if not self.hparams.pretrains:
            return None
        return replace(
            self.main,
            dataset=self.main.dataset.replaced(overrides(self.hparams, DatasetHparams, PRETRAIN)),
            training=self.main.training.replaced(overrides(self.hparams, TrainingHparams, PRETRAIN)),
        )

    @cached_property
    def rewound(self) -> StateOf:
        """The state that every level starts from: the weights at the rewinding step, or pretrained ones."""
        if self.pretraining is not None:
            return last_state(RunRef(self.pretraining))
        return StateOf.at(RunRef(self.dense()), self.hparams.rewinding_steps, "rewinding_steps")

    @cached_property
    def branch(self) -> BranchHparams:
        """The hyperparameters of every level: the start of its schedule. Pretraining is a part of the training."""
        start = self.hparams.pretrain_training_steps or self.hparams.rewinding_steps
        return BranchHparams(start_step=start, seed=self.hparams.seed)

    def _pruned(self, level: int, source: RunRef, *, is_last: bool) -> BranchDesc:
        state = self.rewound if self.hparams.rewind == "weights" else last_state(source)
        fraction = 1 - (1 - self.hparams.pruning_fraction) ** level
        return BranchDesc(
            main=self.main,
            pruning=replace(self.pruning, prune_fraction=fraction),
            scored=last_state(source),
            mask=mask_of(source),
            state=None if self.hparams.reinitialize else state,
            statistics=last_state(source) if self.hparams.keep_statistics else None,
            branch=replace(self.branch, reinitialize=self.hparams.reinitialize, initialization=level),
            techniques=self.main.techniques and self.main.techniques.within_mask(),
            retrain_training=None if is_last else self.short,
        )
