"""Magnitude pruning (Han et al. 2015): small weights go."""

from __future__ import annotations

from pruning.scoring import Scores, Scoring


def magnitude(scoring: Scoring) -> Scores:
    """Return s = |w|."""
    return {name: weight.detach().abs() for name, weight in scoring.weights.items()}
