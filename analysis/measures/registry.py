"""The measures by name: a line for each file that declares one. Imports no torch."""

from __future__ import annotations

from analysis.measures.measure import Measure
from foundations.registry import Registry

MEASURES = Registry(
    Measure,
    "measure",
    ("analysis.measures.effective_sparsity",),
)
