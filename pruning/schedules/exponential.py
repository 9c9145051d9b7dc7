"""The exponential schedule (Tanaka et al. 2020, section 6)."""

from __future__ import annotations

from pruning.schedules.iterations import Schedule


def kept_after(start: int, target: int, done: int, iterations: int) -> int:
    """Return start * (target / start) ** (done / iterations), rounded, and at least `target`."""
    share = (target / start) ** (done / iterations) if start else 0.0
    return max(target, round(start * share))


EXPONENTIAL = Schedule(
    spelling="exponential",
    summary="each iteration prunes the same fraction of what is left",
    paper="Tanaka et al. 2020, Pruning neural networks without any data by iteratively conserving synaptic flow",
    kept_after=kept_after,
)
