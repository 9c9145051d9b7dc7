"""Checks of the results of a plug-in's methods, allocations and schedules, before they are used."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foundations.plugins.users_code import article, mistake
from pruning.allocations.allocation import Allocation
from pruning.masks.mask import Mask
from pruning.method import Method
from pruning.schedules.iterations import Schedule

if TYPE_CHECKING:
    from pruning.scoring.scoring import Scores

_SHOWN = 3
"""The most names that a message lists."""


def checked_scores(scores: Any, mask: Mask, entry: Method | Allocation, function: Callable[..., Any]) -> Scores:
    """Return scores as tensors, after a check that each weight has one, a real number.

    mask: the kept weights. function: returned the scores; of `entry`, a method or an allocation. A plug-in may return
    NumPy arrays.

    Raises: PluginError that names the function, and the tensor.
    """
    if entry.plugin is None:
        return {name: score.detach() for name, score in scores.items()}
    if not isinstance(scores, dict):
        raise mistake(function, entry, f"returned {article(scores)}; it must return a dict of tensors by name.")
    _check_names(scores, mask, function, entry)
    tensors = {}
    for name, keeps in mask.items():
        score = scores[name]
        if isinstance(score, np.ndarray) and score.dtype.kind in "fiu":
            score = torch.from_numpy(np.array(score, score.dtype.newbyteorder("="))).to(keeps.device)
        reason = _problem(score, keeps)
        if reason:
            raise mistake(function, entry, f"returned, for '{name}', {reason}")
        tensors[name] = score.detach()
    return tensors


def check_mask(found: Any, start: Mask, keep: int, method: Method) -> None:
    """Check that a constructive method built a mask of the right tensors that keeps the right number of weights.

    Raises: PluginError that names the function.
    """
    if method.plugin is None or method.build_mask is None:
        return
    function = method.build_mask
    if not isinstance(found, Mask):
        raise mistake(function, method, f"returned {article(found)}; it must return a Mask.")
    _check_names(found, start, function, method)
    for name, keeps in start.items():
        if found[name].shape != keeps.shape:
            shapes = f"{tuple(found[name].shape)}; the weights are of {tuple(keeps.shape)}"
            raise mistake(function, method, f"returned, for '{name}', a mask of shape {shapes}.")
    if found.kept != keep:
        raise mistake(function, method, f"returned a mask that keeps {found.kept} weights; {keep} were asked for.")


def check_counts(
    counts: Any, room: Mapping[str, int], keep: int | None, allocation: Allocation, function: Callable[..., Any]
) -> None:
    """Check the number of kept weights that an allocation gives each layer. Raises: PluginError about the function.

    keep: the sum of the numbers, or None if it can be any. function: returned the numbers.
    """
    if allocation.plugin is None:
        return
    if not isinstance(counts, dict):
        raise mistake(function, allocation, f"returned {article(counts)}; it must return a dict of whole numbers.")
    _check_names(counts, room, function, allocation)
    for name, most in room.items():
        if not isinstance(counts[name], int | np.integer) or not 0 <= counts[name] <= most:
            raise mistake(function, allocation, f"returned {counts[name]!r} for '{name}'; it can keep 0 to {most}.")
    if keep is not None and sum(counts.values()) != keep:
        raise mistake(function, allocation, f"returned numbers that add up to {sum(counts.values())}, not to {keep}.")


def checked_counts_of(schedule: Schedule, start: int, target: int, iterations: int) -> list[int]:
    """Return the number of kept weights after each iteration. Raises: PluginError that names the function."""
    counts: list[Any] = [*schedule.counts(start, target, iterations)]
    if schedule.plugin is not None:
        before = start
        for done, count in enumerate(counts, 1):
            if not isinstance(count, int | np.integer) or not target <= count <= before:
                reason = f"returned {count!r} for iteration {done} of {iterations}; it must be an int"
                raise mistake(schedule.kept_after, schedule, f"{reason} from {target} to {before}.")
            before = int(count)
    return counts


def check_asks_for_examples(method: Method) -> None:
    """Check that the names of a method that asks for examples give their number. Raises: PluginError."""
    function = method.score or method.build_mask
    if method.plugin is None or method.needs_examples or function is None:
        return
    word = method.spelling.rstrip("0123456789N")
    raise mistake(
        function,
        method,
        "asks for scoring examples, and there are none: its names must say how many of each class.\n"
        f'Declare spelling="{word}N", pattern=f"{word}{{EXAMPLES_PER_CLASS}}", examples=("{word}10",), '
        "hparams=ExamplesHparams or a subclass.",
    )


def _check_names(found: Iterable[str], wanted: Collection[str], function: Callable[..., Any], entry: Any) -> None:
    missing = [name for name in wanted if name not in set(found)]
    if missing:
        raise mistake(function, entry, f"returned nothing for {_listed(missing)} ({len(missing)} of {len(wanted)}).")
    extra = [str(name) for name in found if name not in wanted]
    if extra:
        raise mistake(function, entry, f"returned something for {_listed(extra)}, which it was not asked about.")


def _problem(score: Any, keeps: torch.Tensor) -> str:
    """Return the fault of a tensor's score as text, empty if there is none."""
    if not isinstance(score, torch.Tensor):
        return f"{article(score)}, not a tensor."
    if score.shape != keeps.shape:
        return f"a tensor of shape {tuple(score.shape)}; the weights are of {tuple(keeps.shape)}."
    if score.is_complex() or score.dtype == torch.bool or score.is_meta or score.layout != torch.strided:
        kind = str(score.dtype if score.layout == torch.strided else score.layout)
        return f"scores that are {'on the meta device' if score.is_meta else kind}; they must be real numbers."
    nans = torch.count_nonzero(score.detach()[keeps.to(score.device)].isnan())
    return f"NaN for {int(nans):,} of {int(keeps.sum()):,} kept weights." if nans else ""


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
