"""How the number of kept weights falls from its start to its target over the iterations: pure functions."""

from __future__ import annotations

from foundations.errors import UsageError


def kept_after_each_iteration(start: int, target: int, iterations: int, schedule: str = "exponential") -> list[int]:
    """Return the number of weights that are kept after each of `iterations` >= 1 rounds; the last is `target` exactly.

    exponential: start * (target / start) ** (t / iterations), the same fraction of what remains each time (Tanaka et
    al. 2020, Section 6). linear: the same number each time. Both are rounded to whole numbers and never rise.
    """
    if schedule == "exponential":
        shares = [(target / start) ** (t / iterations) if start else 0.0 for t in range(1, iterations)]
        return [max(target, round(start * share)) for share in shares] + [target]
    if schedule == "linear":
        return [target + round((start - target) * (iterations - t) / iterations) for t in range(1, iterations)] + [
            target
        ]
    raise UsageError(f"'{schedule}' is not possible. Possible: exponential, linear.", "prune_schedule")
