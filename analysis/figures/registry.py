"""The kinds of figures by name: a line for each file that declares one. Imports no torch."""

from __future__ import annotations

from analysis.figures.figure import FigureKind
from foundations.registry import Registry

FIGURES = Registry(
    FigureKind,
    "kind",
    (
        "analysis.figures.curves",
        "analysis.figures.training",
        "analysis.figures.layers",
        "analysis.figures.overlap",
        "analysis.figures.measure",
    ),
)
