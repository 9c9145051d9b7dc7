"""The report of layers that a structure leaves dense."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

_MOST_NAMED = 4


def warn_of_dense(structure: str, reasons: Mapping[str, str], remedy: str) -> None:
    """Warn of the tensors that a structure leaves dense. reasons: by name, each after 'because it is'.

    remedy: the option that changes it.
    """
    from pruning.weights.left_out import UnprunedWarning

    if not reasons:
        return
    shown = [f"{name} ({reason})" for name, reason in list(reasons.items())[:_MOST_NAMED]]
    more = f" and {len(reasons) - _MOST_NAMED} more" if len(reasons) > _MOST_NAMED else ""
    words = f"{', '.join(shown)}{more}: dense, without {structure}; {remedy} changes that."
    warnings.warn(words, UnprunedWarning, stacklevel=3)
