"""The hyperparameters of training (OpenLTH's, and a few more), and of the techniques that it uses."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from foundations.description.hparams import ALWAYS_WRITTEN, Hparams, hparam, merged_group
from foundations.description.step import Step
from foundations.errors import UsageError, invalid
from foundations.registry import Plugin
from training.registry import LR_SCHEDULES, TECHNIQUES
from training.technique import Technique, TechniqueHparams

if TYPE_CHECKING:
    from pruning.hparams import PruningHparams

NO_DECAY = ("norms", "biases", "embeddings")
"""The kinds of parameters that `no_decay` can name."""
_OF_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")


@dataclass(frozen=True, kw_only=True)
class TrainingHparams(Hparams):
    """Training."""

    optimizer_name: str = hparam("sgd", choices=("sgd", "adam", "adamw", "rmsprop"), elided=ALWAYS_WRITTEN)
    """sgd, adam, adamw or rmsprop (smoothing 0.99)."""
    lr: float = hparam(0.1, above=0, elided=ALWAYS_WRITTEN)
    """Learning rate (its peak, with a warmup or a cosine)."""
    training_steps: str = hparam("160ep", step=True, elided=ALWAYS_WRITTEN)
    """Training length, as a step: 160ep, 62560it or 159ep391it."""
    momentum: float = hparam(0.0, at_least=0, below=1)
    """Momentum of sgd or rmsprop."""
    nesterov_momentum: float = hparam(0.0, at_least=0, below=1)
    """Nesterov's momentum of sgd, in place of --momentum."""
    adam_beta1: float = hparam(0.9, at_least=0, below=1)
    """Decay of the mean of gradients, of adam and adamw."""
    adam_beta2: float = hparam(0.999, at_least=0, below=1)
    """Decay of the mean of squared gradients, of adam and adamw."""
    adam_epsilon: float = hparam(1e-8, above=0)
    """Added to the root of the mean of squared gradients, of adam and adamw."""
    weight_decay: float = hparam(0.0, at_least=0)
    """Weight decay on all parameters, biases and batchnorm included: an L2 penalty or, with adamw, decoupled."""
    no_batchnorm_decay: bool = hparam(False)
    """Exempt the scales and shifts of batch normalization from --weight_decay."""
    no_decay: str | None = hparam(None, unordered=True)
    """Exempt parameters from --weight_decay: norms (scales and shifts of every normalization), biases, embeddings (of
    tokens and positions, class tokens, and an output layer that shares the tokens'), or several:
    norms,biases,embeddings."""
    lr_schedule: str = hparam("milestones", choices=LR_SCHEDULES)
    """milestones (drops by --gamma at --milestone_steps), cosine or linear (to --min_lr at the last step), or
    inverse_sqrt (from the end of the warmup on as 1 / sqrt(step))."""
    min_lr: float = hparam(0.0, at_least=0)
    """Lowest learning rate after the warmup. Cosine and linear end there; other schedules fall no further."""
    milestone_steps: str | None = hparam(None, step_list=True)
    """Steps at which the learning rate drops, such as 80ep,120ep."""
    gamma: float | None = hparam(None, above=0)
    """Factor of each drop of the learning rate."""
    warmup_steps: str = hparam("0it", step=True)
    """Linear warmup of the learning rate from 0, as a step; the very first iteration then has learning rate 0."""
    label_smoothing: float = hparam(0.0, at_least=0, below=1)
    """Share of the target spread evenly over all classes, in the training loss."""
    mixup: float = hparam(0.0, at_least=0)
    """Mix each training image, and its label, with another of the batch, in shares from Beta(mixup, mixup)."""
    cutmix: float = hparam(0.0, at_least=0)
    """Paste a box of another image of the batch into each training image, and mix their labels, in shares from
    Beta(cutmix, cutmix). With --mixup, each batch takes one of the two, with equal chance."""
    clip_grad_norm: float | None = hparam(None, above=0)
    """Scale the gradient of a step down to this L2 norm if its norm is larger. The norm is over all parameters and the
    whole batch, without pruned weights."""
    accumulate: int = hparam(1, at_least=1)
    """Compute each step's gradient in this many parts of its batch, to save memory. Order, epochs and steps stay, and
    so do results, up to rounding. Only batch normalization differs: it normalizes each part by itself."""
    data_order_seed: int | None = hparam(None)
    """Pins the order of the examples; by default each replicate has its own."""
    sync_batchnorm: bool = hparam(False)
    """In a training on several processes, normalize by the statistics of the whole batch, as one process does. Without
    it, each process normalizes by its own part of the batch, and the running statistics that are kept are those of the
    first. On one process it changes nothing."""
    precision: str = hparam("float32", choices=("float32", "tf32", "bf16", "fp16"))
    """float32, tf32 (CUDA's matrix products), bf16 or fp16 (mixed precision; fp16 with loss scaling)."""

    @classmethod
    def group_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """Return the class with the options of the schedule in `values["lr_schedule"]`.

        Raises: UsageError for an unknown schedule.
        """
        name = values.get("lr_schedule", TrainingHparams.lr_schedule)
        own = LR_SCHEDULES.find(name).hparams if isinstance(name, str) else None
        return cast("type[Self]", own or TrainingHparams)

    @classmethod
    def owners(cls) -> Mapping[str, type[Hparams]]:
        """Return the schedules that have options, and the groups with these."""
        return {f"lr_schedule={each.spelling}": each.hparams for each in LR_SCHEDULES if each.hparams is not None}

    def validate(self) -> None:
        """Check that drops have both their steps and their factor, and that at most one kind of momentum is set."""
        if type(self) is not self.group_for({"lr_schedule": self.lr_schedule}):
            reason = f"'{self.lr_schedule}' has other options; TrainingHparams.of(...) chooses their class."
            raise UsageError(reason, "lr_schedule")
        if (self.milestone_steps is None) != (self.gamma is None):
            raise UsageError("give both or neither; one alone changes nothing.", "milestone_steps", "gamma")
        if self.milestone_steps is not None and not LR_SCHEDULES.find(self.lr_schedule).takes_milestones:
            reason = f"'{self.lr_schedule}' has no milestones; leave them out by milestone_steps=None and gamma=None."
            raise UsageError(reason, "lr_schedule", "milestone_steps")
        if self.min_lr > self.lr:
            raise UsageError(f"{self.min_lr:g} is above the learning rate, {self.lr:g}.", "min_lr", "lr")
        for name in _listed(self.no_decay):
            if name not in NO_DECAY:
                raise invalid(name, "no_decay", NO_DECAY)
        if self.momentum and self.nesterov_momentum and self.momentum != self.nesterov_momentum:
            raise UsageError("they differ; give the one that is meant.", "momentum", "nesterov_momentum")

    def simplified(self) -> Self:
        """Reset fields that cannot change the result: unused momenta, an empty schedule, exemptions from nothing."""
        exempt = _listed(self.no_decay) if self.weight_decay > 0 else []
        changes: dict[str, Any] = {
            "no_decay": ",".join(exempt) or None,
            "no_batchnorm_decay": self.no_batchnorm_decay and self.weight_decay > 0 and "norms" not in exempt,
        }
        if self.optimizer_name not in ("adam", "adamw"):
            changes |= {name: getattr(TrainingHparams, name) for name in _OF_ADAM}
        if self.optimizer_name == "rmsprop":
            changes |= {"nesterov_momentum": 0.0}
        elif self.optimizer_name != "sgd":
            changes |= {"momentum": 0.0, "nesterov_momentum": 0.0}
        elif self.nesterov_momentum:
            changes |= {"momentum": 0.0}
        if self.milestone_steps is not None and (self.gamma == 1 or not self.milestone_steps):
            changes |= {"milestone_steps": None, "gamma": None}
        has_drops = self.milestone_steps is not None and "milestone_steps" not in changes
        if self.lr_schedule == "milestones" and not has_drops:
            changes["min_lr"] = 0.0
        return self.replaced(changes)

    @property
    def mixes(self) -> bool:
        """Whether training examples are mixed, so that their targets are shares of classes."""
        return bool(self.mixup or self.cutmix)

    def end(self, iterations_per_epoch: int) -> Step:
        """Return the last step."""
        return Step.parse(self.training_steps, iterations_per_epoch, "training_steps")


@dataclass(frozen=True, kw_only=True)
class TechniquesHparams(Hparams):
    """The techniques that a training uses.

    `group_for` returns the class with the hyperparameters of the named techniques.
    """

    technique: str | None = hparam(None, elided=ALWAYS_WRITTEN)
    """Techniques that change the training, separated by commas; they act in that order: gmp,rigl.
    The command `techniques` lists them. A branch uses only its own techniques; its parent `train` uses none."""
    technique_seed: int | None = hparam(None)
    """Pins what is random in techniques; by default each replicate has its own."""

    @classmethod
    def group_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """Return the class for the techniques in `values["technique"]`. Raises: UsageError for an unknown one."""
        names = _listed(values.get("technique"))
        kinds = tuple(TECHNIQUES.find(name).hparams.group_for(values) for name in names)
        _refuse_two_that_move(names, kinds)
        _refuse_shared_listed(names, kinds)
        return cast("type[Self]", _merged(kinds) if kinds else TechniquesHparams)

    @classmethod
    def owners(cls) -> Mapping[str, type[Hparams]]:
        """Return the techniques, and the groups of their hyperparameters."""
        return {f"technique={each.spelling}": each.hparams.group_for({}) for each in TECHNIQUES}

    def validate(self) -> None:
        """Check that the techniques exist, that each is given once, and each one's own hyperparameters."""
        spellings = [technique.spelling for technique, _ in self.parts]
        for spelling in spellings:
            if spellings.count(spelling) > 1:
                raise UsageError(f"'{spelling}' is given twice.", "technique")

    @functools.cached_property
    def parts(self) -> tuple[tuple[Technique, TechniqueHparams], ...]:
        """The techniques in their order, each with its own hyperparameters."""
        found = [TECHNIQUES.find(name) for name in _listed(self.technique)]
        return tuple((technique, technique.hparams.of(self.values())) for technique in found)

    @property
    def changes_mask(self) -> bool:
        """Whether the mask changes while the network trains, or is its outcome."""
        return any(technique.changes_mask or technique.mask_is_outcome for technique, _ in self.parts)

    @property
    def moves_mask(self) -> bool:
        """Whether the mask changes while the network trains, other than by parts of the mask that an outcome omits."""
        return any(
            (technique.changes_mask or technique.mask_is_outcome) and not technique.stays_within_mask
            for technique, _ in self.parts
        )

    @property
    def mask_is_outcome(self) -> bool:
        """Whether training learns the mask."""
        return any(technique.mask_is_outcome for technique, _ in self.parts)

    @property
    def structural(self) -> Self | None:
        """The techniques that change the structure of the network; None if none does."""
        names = ",".join(technique.spelling for technique, _ in self.parts if technique.transform is not None)
        return self.replaced({"technique": names}) if names else None

    @property
    def choices(self) -> list[tuple[Mapping[str, Any], Sequence[str]]]:
        """The defaults of all techniques that a job prints in its first line; see `TechniqueHparams.choices`."""
        return [choice for _, part in self.parts for choice in part.choices]

    @property
    def uses_seed(self) -> bool:
        """Whether one of the techniques draws random numbers."""
        return any(part.uses_seed for _, part in self.parts)

    @property
    def scores_with(self) -> list[PruningHparams]:
        """Hyperparameters by which the techniques score the weights of the network while it trains."""
        return [part.scores_with for _, part in self.parts if part.scores_with is not None]

    @property
    def final_level(self) -> float | None:
        """The prune fraction at the end of training: the largest that a technique sets; None if none does."""
        return max((part.final_level for _, part in self.parts if part.final_level is not None), default=None)

    @property
    def least_density(self) -> float:
        """The density that a mask has at least at the end of training, where it starts with more; 0 for any."""

        def least(technique: Technique, part: TechniqueHparams) -> float:
            if part.final_level is not None:
                return 1 - part.final_level
            return part.least_outcome if technique.mask_is_outcome else 1.0

        return min((least(*each) for each in self.parts), default=1.0)

    def within_mask(self) -> Self:
        """Return the hyperparameters of the next level of a lottery; see `TechniqueHparams.within_mask`."""
        values = {name: value for _, part in self.parts for name, value in part.within_mask().values().items()}
        return self.replaced(values)

    def plugins(self) -> list[Plugin]:
        """Return the plug-ins that declare the techniques, and the plug-ins of other values."""
        declared = (technique.plugin for technique, _ in self.parts)
        return [*super().plugins(), *(plugin for plugin in declared if plugin is not None)]

    def simplified(self) -> Self:
        """Return the hyperparameters of each technique without those that cannot change the result."""
        simple: dict[str, Any] = {"technique": ",".join(_listed(self.technique)) or None}
        for _, part in self.parts:
            simple |= part.simplified().values()
        if not self.uses_seed:
            simple["technique_seed"] = None
        return self.replaced(simple)

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Return the hyperparameters with defaults written out; see `TechniqueHparams.for_training`.

        Raises: UsageError where one technique learns the mask, and another one changes it or learns one, too.
        """
        self._refuse_two_masks()
        resolved: dict[str, Any] = {}
        for technique, part in self.parts:
            resolved |= part.for_training(end, has_mask=has_mask).values()
            has_mask |= technique.changes_mask
        return self.replaced(resolved)

    def _refuse_two_masks(self) -> None:
        all_parts = (technique for technique, _ in self.parts if not technique.stays_within_mask)
        deciding = [technique for technique in all_parts if technique.changes_mask or technique.mask_is_outcome]
        if len(deciding) > 1 and any(technique.mask_is_outcome for technique in deciding):
            names = " and ".join(technique.spelling for technique in deciding)
            raise UsageError(f"{names} would each decide about the mask; choose one of them.", "technique")

    def after(self, others: TechniquesHparams | None) -> TechniquesHparams:
        """Return others and these, in this order. Raises: UsageError if both have a technique."""
        if others is None:
            return self
        names = ",".join(filter(None, (others.technique, self.technique)))
        return TechniquesHparams.of({**others.values(), **self.values(), "technique": names})

    def canonical(self) -> dict[str, Any]:
        """Return the part of an address. It contains all versions of techniques and their methods that are not 1."""
        versions = {technique.spelling: technique.version for technique, _ in self.parts}
        for _, part in self.parts:
            versions |= part.versions()
        raised = {name: version for name, version in versions.items() if version != 1}
        return super().canonical() | ({"technique_versions": raised} if raised else {})


def _listed(names: str | None) -> list[str]:
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def _refuse_two_that_move(techniques: list[str], kinds: tuple[type[TechniqueHparams], ...]) -> None:
    moving = dict.fromkeys(name for name, kind in zip(techniques, kinds, strict=True) if kind.moves_mask)
    if len(moving) > 1:
        raise UsageError(f"{' and '.join(moving)} would each move the mask; choose one of them.", "technique")


def _refuse_shared_listed(techniques: list[str], kinds: tuple[type[TechniqueHparams], ...]) -> None:
    """Raise UsageError if two techniques each declare a hyperparameter of one name: one value would set both."""
    declared: dict[str, tuple[str, Any]] = {}
    for technique, kind in zip(techniques, kinds, strict=True):
        for name in kind.names():
            place = next((base for base in kind.__mro__ if name in inspect.get_annotations(base)), kind)
            other, known = declared.setdefault(name, (technique, place))
            if known is not place:
                raise UsageError(f"both {other} and {technique} have an option of this name; rename one of them.", name)


@functools.cache
def _merged(kinds: tuple[type[TechniqueHparams], ...]) -> type[Hparams]:
    summary = "The techniques that the training uses, and their hyperparameters."
    return merged_group("TechniquesHparams", kinds, TechniquesHparams, summary)
