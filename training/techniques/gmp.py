"""Gradual magnitude pruning: prune while the network trains (Zhu & Gupta 2017, To prune, or not to prune).

From step t0 to t1, every dt iterations, the remaining weights are scored and pruned to the sparsity

    s_t = s_f + (s_i - s_f) (1 - (t - t0) / (t1 - t0))^3

with s_i = 0 and s_f the requested level. If training starts from a mask, nothing is pruned until the curve is past
it. Magnitude is the default; any strategy that scores weights can take its place.

PHEW's MAG counts the prunings instead: the k-th of n reaches s_f - s_f (1 - k / n)^3, so the first one prunes already.
jaxpruner puts t + 1 in place of t. GraNet's code counts in units of dt, and leaves out the pruning at t1; of N weights,
it keeps int(N (1 - s_t)) - 1.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

from foundations.description.hparams import ALWAYS_WRITTEN, Hparams, hparam, merged_group
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.hparams import PRUNABLE, PruningHparams
from pruning.level import LEVELS, kept_of
from training.technique import Hooks, Technique, TechniqueHparams
from training.techniques.cadence import Cadence
from training.without_effect import warn_of_sparser_mask

PREFIX = "gmp_"
_REFUSED = {
    "effective_density": "Not possible: gradual pruning counts all weights. Use --gmp_density.",
    "structure": "Not possible: the level grows from pruning to pruning, and a structure is one level. A branch that "
    "prunes at once takes --structure, and --technique=srste learns such a mask.",
    "structure_uneven": "Not possible, as --gmp_structure.",
}
"""The help of the hyperparameters of pruning that are refused. They stay declared: descriptions of runs hold them."""
ZHU_GUPTA, PHEW, GRANET, JAXPRUNER = CURVES = ("zhu_gupta", "phew", "granet", "jaxpruner")


def cubic(share: float) -> float:
    """Return the share of the level after a share of the time: 1 - (1 - share)^3."""
    return 1 - (1 - share) ** 3


@dataclass(frozen=True, kw_only=True)
class GmpSchedule(Hparams):
    """The steps at which gradual pruning prunes."""

    gmp_begin: str = hparam("0it", step=True, elided=ALWAYS_WRITTEN)
    """The step of the first pruning."""
    gmp_end: str | None = hparam(None, step=True, elided=ALWAYS_WRITTEN)
    """The step of the last pruning, at which the level is reached; by default half of the training."""
    gmp_frequency: str = hparam("1ep", step=True, elided=ALWAYS_WRITTEN)
    """The time between prunings."""
    gmp_curve: str = hparam("zhu_gupta", choices=CURVES)
    """The share of the level at each pruning: zhu_gupta (a cubic in time, from 0 at the first), phew (a cubic in the
    number of prunings, as PHEW's MAG has it), jaxpruner (zhu_gupta of the next step) or granet (zhu_gupta without the
    last pruning and with a weight fewer at each, as in GraNet's code: the level is not reached)."""


@dataclass(frozen=True, kw_only=True)
class GmpHparams(GmpSchedule, TechniqueHparams):
    """The steps and the method of gradual pruning, each flag of pruning with gmp_ before it.

    The fields `gmp_strategy`, `gmp_density` and so on belong to the strategy: `group_for` returns the class that has
    them.
    """

    @classmethod
    def group_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """Return the class with the options of the strategy that `gmp_strategy` names."""
        with _errors_about_prefixed_names():
            return cast("type[Self]", _with_options_of(PruningHparams.group_for(_pruning_values(values))))

    @functools.cached_property
    def pruning(self) -> PruningHparams:
        """The hyperparameters of pruning, at the full level."""
        with _errors_about_prefixed_names():
            return PruningHparams.of(_pruning_values(self.values()))

    @property
    def scores_with(self) -> PruningHparams:
        """The strategy and its options."""
        return self.pruning

    @property
    def uses_seed(self) -> bool:
        """Whether the strategy draws random numbers, or chooses examples."""
        return self.pruning.uses_seed

    @property
    def final_level(self) -> float | None:
        """The prune fraction at the last pruning."""
        return self.pruning.level

    @property
    def choices(self) -> Sequence[tuple[Mapping[str, Any], Sequence[str]]]:
        """The strategy and the level."""
        spellings = [PREFIX + name for name in LEVELS]
        strategy, level = PREFIX + "strategy", PREFIX + "prune_fraction"
        return (({strategy: self.pruning.strategy}, [strategy]), ({level: self.pruning.level}, spellings))

    def validate(self) -> None:
        """Check that the strategy has scores and that something is pruned."""
        if self.pruning.method.is_constructive:
            raise UsageError(f"{self.pruning.strategy} builds its mask at once; gmp needs scores.", "gmp_strategy")
        if self.pruning.replaces_weights is not None:
            raise UsageError(
                "gmp prunes the weights that it trains and takes no others.", self.pruning.replaces_weights
            )
        if self.pruning.effective_density is not None:
            raise UsageError("gmp prunes to shares of all weights; give gmp_density.", "gmp_effective_density")
        refuse_structure(self.pruning, "gmp_structure")
        if self.pruning.level == 0:
            given = next((PREFIX + name for name in LEVELS if getattr(self, PREFIX + name) is not None), "gmp_density")
            raise UsageError("it prunes nothing; choose another level.", given)

    def simplified(self) -> Self:
        """Return an equivalent with the level in canonical form, and without fields that cannot change the masks."""
        plain = self.pruning.simplified()
        written = plain.canonical()
        return self.replaced({PREFIX + name: written.get(name) for name in plain.names()})

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Write the last pruning out. Raises: UsageError if prunings are not within the training."""
        resolved = self.replaced({"gmp_end": self.gmp_end or f"{end.iteration // 2}it"})
        prunings = resolved.prunings(end)
        prunings.check_within(end, PREFIX)
        if self.gmp_curve == GRANET and self._units(prunings) < 2:
            reason = f"{GRANET} leaves the last pruning out, and {prunings.begin} to {prunings.end} has no other."
            raise UsageError(reason, "gmp_curve", "gmp_frequency")
        return resolved

    def versions(self) -> dict[str, int]:
        """Return the version of the strategy."""
        return {"gmp_strategy": self.pruning.method.version}

    def prunings(self, any_step: Step) -> Cadence:
        """Return the steps of the prunings, without the one at the end. any_step: a step of the training."""
        return Cadence.of(self, PREFIX, any_step)

    def prunes_at(self, step: Step) -> bool:
        """Return whether there is a pruning at a step, the one at the end included."""
        prunings = self.prunings(step)
        if self.gmp_curve == GRANET:
            count = prunings.since_begin(step) // prunings.frequency.iteration
            return prunings.has(step) and step.iteration > 0 and count < self._units(prunings)
        return prunings.has(step) or step == prunings.end

    def level_at(self, step: Step) -> float:
        """Return the prune fraction after the pruning at a step; at the last, the requested level."""
        prunings = self.prunings(step)
        if step >= prunings.end:
            return self.pruning.level
        since, frequency = prunings.since_begin(step), prunings.frequency.iteration
        if self.gmp_curve == PHEW:
            count = -(-prunings.length // frequency) + 1
            share = (since // frequency + 1) / count
        elif self.gmp_curve == GRANET:
            share = since // frequency / self._units(prunings)
        else:
            share = min(1.0, (since + (self.gmp_curve == JAXPRUNER)) / prunings.length)
        return self.pruning.level * cubic(max(0.0, share))

    def kept_at(self, step: Step, total: int) -> int:
        """Return the number of weights, of `total`, that the pruning at a step keeps."""
        if self.gmp_curve == GRANET:
            return max(0, int(total * (1 - self.level_at(step))) - 1)
        return kept_of(total, self.level_at(step))

    @staticmethod
    def _units(prunings: Cadence) -> int:
        return prunings.length // prunings.frequency.iteration


def refuse_structure(pruning: PruningHparams, hparam: str) -> None:
    """Raise UsageError about `hparam` if a structure is to be reached gradually."""
    if pruning.structure is not None:
        raise UsageError(
            "the level grows from pruning to pruning, and a structure is one level. A branch that prunes at once takes "
            f"structure={pruning.structure}; the technique srste learns such a mask.",
            hparam,
        )


@contextlib.contextmanager
def _errors_about_prefixed_names() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise UsageError(error.reason, *(PREFIX + name for name in error.hparams)) from error


@functools.cache
def _with_options_of(pruning: type[PruningHparams]) -> type[Hparams]:
    summary, help_text = GmpHparams.__doc__ or "", "As --{} of a branch, for gradual pruning."
    return merged_group("GmpHparams", (pruning,), GmpHparams, summary, PREFIX, help_text, own_help=_REFUSED)


def _pruning_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of pruning that are given with the prefix, by their own names."""
    own = GmpSchedule.names()
    return {
        name.removeprefix(PREFIX): value
        for name, value in values.items()
        if name.startswith(PREFIX) and name not in own and value is not None
    }


class Gmp(Hooks[GmpHparams]):
    """Prune the remaining weights at the steps of the schedule."""

    prunes_first = True

    def prepare(self) -> None:
        """Start from a mask of ones if there is none."""
        warn_of_sparser_mask(self.training.mask, 1 - self.hparams.pruning.level, "gmp_density")
        if self.training.mask is None:
            pruning = self.hparams.pruning
            prunable = {name: getattr(pruning, name) for name in PRUNABLE}
            self.training.set_mask(self.training.prune(PruningHparams(prune_fraction=0.0, **prunable)))

    def before_step(self, step: Step) -> None:
        """Prune to the level of the step, unless fewer weights are left already."""
        mask = self.training.mask
        if mask is None or not self.hparams.prunes_at(step):
            return
        from training.masking import prunable_part

        part = prunable_part(self.training.model, self.hparams.pruning, mask)
        keep = self.hparams.kept_at(step, part.total)
        if keep < part.kept:
            level = self.hparams.level_at(step)
            if keep != kept_of(part.total, level):
                level = 1 - keep / part.total
            this_far = {"prune_fraction": level, "density": None, "compression": None}
            self.training.set_mask(self.training.prune(self.hparams.pruning.replaced(this_far)))


GMP = Technique(
    spelling="gmp",
    known_as=(
        "gradual_magnitude_pruning",
        "gradual_pruning",
        "gradual",
        "magnitude_pruning",
        "zhu_gupta",
        "polynomial_decay",
        "to_prune_or_not_to_prune",
    ),
    summary="prune gradually while training",
    paper="Zhu & Gupta 2017, To prune, or not to prune: exploring the efficacy of pruning for model compression",
    hparams=GmpHparams,
    tested_against="VITA-Group/GraNet",
    differences=(
        "The paper prunes by magnitude; here any method scores. Counts are exact at every update; the curves of "
        "published code differ by a step or by the last pruning, and gmp_curve chooses one."
    ),
    hooks=Gmp,
    density="gmp_density",
    changes_mask=True,
)
