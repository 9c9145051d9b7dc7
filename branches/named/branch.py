"""A branch on the command line: its name, its flags, and the function from flags to a description.

A new branch is a file with its flags, a function from (parent, how to prune, flags) to a description, and a `Branch`;
and a line in `branches.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from branches.desc import BranchDesc, BranchHparams, main_of, mask_of
from foundations.description.desc import Desc, RunRef, StateOf
from foundations.description.hparams import Hparams, hparam
from foundations.errors import UsageError
from foundations.registry import Registered
from pruning.hparams import PruningHparams
from training.desc import TrainDesc
from training.hparams import TrainingHparams


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
    sets: Mapping[str, Any] = field(default_factory=dict)
    """The flags that it sets itself, by name: a command that gives another value for one is refused."""


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


def state_of(run: RunRef, step: str | None) -> StateOf:
    """Return the state of a run at a step, by default its first. Raises: UsageError about `state_step`."""
    return StateOf(run, run.desc.start) if step is None else StateOf.at(run, step, "state_step")


def constant(training: TrainingHparams, steps: str, lr: float) -> TrainingHparams:
    """Return a training at one learning rate."""
    plain = {"lr_schedule": "milestones", "milestone_steps": None, "gamma": None, "warmup_steps": "0it", "min_lr": 0.0}
    return training.replaced({**plain, "training_steps": steps, "lr": lr})


def main_run(run: RunRef) -> RunRef:
    """Return the main run of a run."""
    return RunRef(main_of(run), run.replicate)


def last_state(run: RunRef) -> StateOf:
    """Return the last state of a run."""
    return StateOf(run, run.desc.end)


@dataclass(frozen=True, kw_only=True, eq=False)
class Level(RunRef):
    """A level of a lottery, as the parent of branches: a run, with the start of its training."""

    main: TrainDesc
    """The training of branches."""
    rewound: StateOf
    """The weights that the level started from, before they were pruned."""
    branch: BranchHparams
    """The step at which its schedule started."""

    @property
    def _key(self) -> tuple[object, ...]:
        return *super()._key, self.main.digest, self.rewound, self.branch

    @classmethod
    def of(cls, run: RunRef) -> Level:
        """Return a level as it is, and any other run as a level of a lottery that rewinds to where the run started.

        Raises: UsageError for a run without a mask.
        """
        if isinstance(run, Level):
            return run
        if run.desc.mask_step is None:
            raise UsageError(
                "this branch trains the mask of its parent, which has none: branch lottery, or a pruned run."
            )
        main, start = main_run(run), run.desc.start
        state = run.desc.state if isinstance(run.desc, BranchDesc) else None
        pruning = run.desc.pruning if isinstance(run.desc, BranchDesc) else None
        if pruning is not None and pruning.replaces_weights is not None:
            raise UsageError(
                "this branch trains the weights of its parent before they were pruned, but those are weights that its "
                f"method drew ({pruning.replaces_weights}), and no run keeps them."
            )
        return cls(
            run.desc,
            run.replicate,
            main=main_of(run),
            rewound=state or StateOf(main, start),
            branch=BranchHparams(start_step=str(start)),
        )
