"""Timing that survives a noisy machine: things to compare run in turn, and the median of the ratios counts."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A measured ratio: what, how much, what was aimed at, and how it was measured."""

    what: str
    ratio: float
    aim: str
    detail: str


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time several works A B C A B C ..., after one uncounted round."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work))
    return times


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Return the median of the ratios, pair by pair."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def matrix_product_rate(size: int = 2048) -> Callable[[], float]:
    """Return a work that does one float32 matrix product and tells its multiply-adds."""
    import torch

    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)

    def work() -> float:
        torch.mm(a, b, out=out)
        return float(size) ** 3

    return work


def machine() -> str:
    """Return processor, threads and versions in a line."""
    import torch

    name = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _cpuinfo() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            return file.readlines()
    except OSError:
        return []
