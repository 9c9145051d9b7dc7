"""The report of layers that a structure leaves dense."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

_MOST_NAMED = 4


def warn_of_dense(structure: str, reasons: Mapping[str, str], remedy: str = "") -> None:
    """Warn of the tensors that a structure leaves dense. reasons: by name, each after 'because it is'.

    remedy: the option that changes it, if there is one.
    """
    from pruning.weights.left_out import UnprunedWarning

    if not reasons:
        return
    shown = [f"{name} ({reason})" for name, reason in list(reasons.items())[:_MOST_NAMED]]
    more = f" and {len(reasons) - _MOST_NAMED} more" if len(reasons) > _MOST_NAMED else ""
    how = f"; {remedy} changes that." if remedy else "."
    words = f"{', '.join(shown)}{more}: without {structure}{how}"
    warnings.warn(words, UnprunedWarning, stacklevel=3)
