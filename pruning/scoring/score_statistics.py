"""Mean, variance and sum of the scores of each tensor, and of their absolute values."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

Statistics = dict[str, dict[str, float | None]]


def score_statistics(scores: Mapping[str, torch.Tensor]) -> Statistics:
    """Return mean, variance and sum of the scores by tensor, and abs_mean, abs_variance, abs_sum of |score|.

    scores: by name, any real dtype; the statistics are computed in float64 over all entries of a tensor, pruned ones
    included. The variance is the population's (divided by n). None stands for a number that is not finite.
    (Tanaka et al. 2020: the columns of `compression.pkl` in Synaptic-Flow.)
    """
    return {name: {**_moments(score, ""), **_moments(score.abs(), "abs_")} for name, score in scores.items()}


def _moments(score: torch.Tensor, prefix: str) -> dict[str, float | None]:
    score = score.detach().to("cpu", torch.float64)
    found = {"mean": score.mean(), "variance": score.var(correction=0), "sum": score.sum()}
    return {prefix + name: float(value) if math.isfinite(value) else None for name, value in found.items()}
