"""AC/DC: alternate phases of dense and of sparse training, and end sparse (Peste et al. 2021).

At the steps of `acdc_prune_at` the weights of smallest magnitude are pruned, at once to the whole level, by default of
all layers together; at those of `acdc_restore_at` all weights train again, the pruned ones from 0. In a sparse phase
pruned weights get no gradient and stay 0, while their momentum decays: SGD's is m <- mu m there, so that a weight that
is restored starts with what is left of it.

By default the phases are the published ones of ResNet-20 on CIFAR-10, of 200 epochs, in proportion to the training:
pruning at 10, 50, 90, 130 and 170, restoring at 30, 70, 110 and 150.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from foundations.description.hparams import ALWAYS_WRITTEN, hparam
from foundations.description.step import Step, parse_steps
from foundations.errors import UsageError
from pruning.hparams import DEFAULT_LAYERS, PruningHparams
from pruning.level import kept_of
from pruning.registry import ALLOCATIONS
from pruning.rounding import ACDC, NEAREST
from training.technique import Hooks, Technique, TechniqueHparams, Training
from training.without_effect import warn_of_sparser_mask

if TYPE_CHECKING:
    from pruning.masks.mask import Mask

_PREFIX = "acdc_"
_PHASES = ("acdc_prune_at", "acdc_restore_at")
_PARTS, _PRUNE_PARTS, _RESTORE_PARTS = 20, (1, 5, 9, 13, 17), (3, 7, 11, 15)


@dataclass(frozen=True, kw_only=True)
class AcdcHparams(TechniqueHparams):
    """The phases of AC/DC, and the pruning that begins a sparse one."""

    acdc_density: float = hparam(0.1, above=0, below=1)
    """The fraction of the prunable weights that a sparse phase keeps."""
    acdc_prune_at: str | None = hparam(None, step_list=True, elided=ALWAYS_WRITTEN)
    """The steps and ranges at which sparse phases begin, such as 10ep-170ep@40ep; by default those of the paper's
    CIFAR-10, in proportion to the training."""
    acdc_restore_at: str | None = hparam(None, step_list=True, elided=ALWAYS_WRITTEN)
    """The steps and ranges at which all weights train again, such as 30ep-150ep@40ep."""
    acdc_reset_momentum: bool = hparam(False)
    """Start each dense phase with a new state of the optimizer. (With today's PyTorch, the published option of this
    name does nothing: it skips parameters whose gradients zero_grad has set to None.)"""
    acdc_allocation: str = hparam("global", choices=ALLOCATIONS)
    """The allocation of the density to the layers: global, as published, or one such as uniform."""
    acdc_rounding: str = hparam(NEAREST, choices=(NEAREST, ACDC))
    """The number of weights: nearest to the density, or as published (acdc), where ceil(N d) - 1 of N are kept."""
    acdc_layers: str = hparam(DEFAULT_LAYERS, unordered=True)
    """The layers that are pruned, as --prunable_layers names them."""

    @property
    def pruning(self) -> PruningHparams:
        """The pruning that begins a sparse phase."""
        with _errors_about_own_names():
            return PruningHparams(
                density=self.acdc_density,
                allocation=self.acdc_allocation,
                rounding=self.acdc_rounding,
                prunable_layers=self.acdc_layers,
            ).simplified()

    @property
    def final_level(self) -> float | None:
        """The prune fraction of sparse phases."""
        return self.pruning.level

    @property
    def uses_seed(self) -> bool:
        """Whether the allocation is random. Magnitude is not."""
        return self.pruning.uses_seed

    def validate(self) -> None:
        """Check that the phases are given together, and the pruning."""
        if (self.acdc_prune_at is None) != (self.acdc_restore_at is None):
            raise UsageError("give both or neither; --acdc_restore_at= restores never.", *_PHASES)
        _ = self.pruning

    def simplified(self) -> Self:
        """Give an allocation its first name."""
        return self.replaced({"acdc_allocation": ALLOCATIONS.find(self.acdc_allocation).spelling})

    def versions(self) -> dict[str, int]:
        """Return the version of magnitude."""
        return {"acdc_strategy": self.pruning.method.version}

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Write the phases out. Raises: UsageError if they are not within the training, or it would end dense."""
        resolved = self
        if self.acdc_prune_at is None:
            texts = [
                ",".join(f"{-(-part * end.iteration // _PARTS)}it" for part in parts)
                for parts in (_PRUNE_PARTS, _RESTORE_PARTS)
            ]
            resolved = self.replaced(dict(zip(_PHASES, texts, strict=True)))
        prunings, restorings = resolved.prunings(end), resolved.restorings(end)
        if both := set(prunings) & set(restorings):
            what = f"weights would be pruned and restored at {min(both, key=lambda step: step.iteration)}"
            if self.acdc_prune_at is None:
                what = f"a training of {end} is too short for the default phases"
            raise UsageError(f"{what}; choose other steps.", *_PHASES)
        if not prunings or (restorings and prunings[-1] < restorings[-1]):
            raise UsageError("the training would end dense; the last phase must be sparse.", *_PHASES)
        if end < prunings[-1]:
            raise UsageError(f"{prunings[-1]} is after the end of training, {end}.", "acdc_prune_at")
        return resolved

    def prunings(self, any_step: Step) -> list[Step]:
        """Return the steps at which sparse phases begin. any_step: a step of the training."""
        return parse_steps(self.acdc_prune_at or "", any_step.iterations_per_epoch, "acdc_prune_at")

    def restorings(self, any_step: Step) -> list[Step]:
        """Return the steps at which dense phases begin again."""
        return parse_steps(self.acdc_restore_at or "", any_step.iterations_per_epoch, "acdc_restore_at")


@contextlib.contextmanager
def _errors_about_own_names() -> Iterator[None]:
    names = {"prunable_layers": "layers"}
    try:
        yield
    except UsageError as error:
        raise UsageError(error.reason, *(_PREFIX + names.get(name, name) for name in error.hparams)) from error


class Acdc(Hooks[AcdcHparams]):
    """Prune and restore at the steps of the phases."""

    prunes_first = True
    keeps_state = True
    masks_gradients = True

    def __init__(self, training: Training, hparams: AcdcHparams) -> None:
        super().__init__(training, hparams)
        self.dense = self.kept("dense")
        self.prunings, self.restorings = set(hparams.prunings(training.end)), set(hparams.restorings(training.end))

    def prepare(self) -> None:
        """Keep the mask of dense phases: that of the training, else one of ones."""
        warn_of_sparser_mask(self.training.mask, self.hparams.acdc_density, "acdc_density")
        if self.training.mask is None:
            nothing = {"prune_fraction": 0.0, "density": None, "rounding": NEAREST, "allocation": "global"}
            with _errors_about_own_names():
                self.training.set_mask(self.training.prune(self.hparams.pruning.replaced(nothing)))
        assert self.training.mask is not None
        self.dense |= {name: tensor.clone() for name, tensor in self.training.mask.items()}

    def before_step(self, step: Step) -> None:
        """Begin a sparse phase or, from a sparse one, a dense phase."""
        mask = self.training.mask
        assert mask is not None
        if step in self.prunings:
            self._prune(mask)
        elif step in self.restorings and mask != (dense := mask.with_tensors(self.dense)):
            self.training.set_mask(dense)
            if self.hparams.acdc_reset_momentum:
                self.training.restart_optimizer()

    def _prune(self, mask: Mask) -> None:
        from training.masking import prunable_part

        pruning = self.hparams.pruning
        part = prunable_part(self.training.model, pruning, mask)
        if kept_of(part.total, pruning.level) < part.kept:  # else a sparse phase has begun before
            with _errors_about_own_names():
                self.training.set_mask(self.training.prune(pruning))

    def metrics(self) -> Mapping[str, float]:
        """Return the density of the present phase."""
        return {"density": self.training.mask.density} if self.training.mask is not None else {}


ACDC_TECHNIQUE = Technique(
    spelling="acdc",
    known_as=("alternating_compressed_decompressed", "compressed_decompressed"),
    summary="alternate dense and sparse phases of training, and end sparse",
    paper="Peste et al. 2021, AC/DC: Alternating Compressed/DeCompressed Training of Deep Neural Networks",
    tested_against="IST-DASLab/ACDC",
    differences=(
        "Sparse phases keep the number nearest to the density; the published code one or two fewer "
        "(--acdc_rounding=acdc). It adds 1e-4 to magnitudes before it ranks them, so that in float32 weights far below "
        "1e-4 may be equal there."
    ),
    hparams=AcdcHparams,
    hooks=Acdc,
    density="acdc_density",
    changes_mask=True,
)
