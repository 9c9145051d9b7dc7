"""Warnings of techniques and options that have no effect in a training."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pruning.masks.mask import Mask
    from training.technique import TechniqueHparams


class WithoutEffectWarning(UserWarning):
    """Something that was asked for has no effect in a training."""


def warn(words: str) -> None:
    """Warn. Jobs print the sentence."""
    warnings.warn(f"{words[:1].upper()}{words[1:]}", WithoutEffectWarning, stacklevel=3)


def warn_of_sparser_mask(mask: Mask | None, density: float, hparam: str, names: Collection[str] | None = None) -> None:
    """Warn if the mask that a training starts from is sparser already than a technique is asked to make it.

    names: the tensors that the technique prunes, if it is not all of the mask.
    """
    if mask is None:
        return
    part = mask if names is None else mask.with_tensors({name: mask[name] for name in names if name in mask})
    if part.total and part.kept < round(density * part.total):
        warn(f"the training starts from a mask of density {part.density:g}, below {hparam}, and ends with it.")


def warn_of_zeros(hparams: Mapping[str, TechniqueHparams]) -> None:
    """Warn of weights that one technique grows from 0, where another gives weights of 0 no gradient."""
    for growing in (name for name, each in hparams.items() if each.grows_zeros):
        for leaving in (name for name, each in hparams.items() if each.leaves_zeros):
            warn(f"weights that {growing} grows start at 0, where {leaving} gives them no gradient: they stay 0.")
